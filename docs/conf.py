"""How Sphinx builds these pages."""

from numpy.typing import ArrayLike
from sphinx.util.typing import stringify_annotation

import sparsedd

project = "sparsedd"
author = "The sparsedd developers"
copyright = "the sparsedd developers"
version = release = sparsedd.__version__

extensions = ["sphinx.ext.autodoc", "sphinx.ext.napoleon", "myst_parser"]
exclude_patterns = ["_build"]
myst_enable_extensions = ["deflist"]
myst_heading_anchors = 3

html_theme = "furo"
html_title = f"sparsedd {version}"
html_static_path = ["_static"]
html_copy_source = False

autodoc_inherit_docstrings = False
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
autodoc_typehints_format = "short"
napoleon_google_docstring = False
napoleon_custom_sections = [
    ("Attributes", "params_style"),  # several names in one entry; members document themselves
    "Returns",  # prose; the type is in the signature
]

# Every reference must resolve, but for those to other projects: nothing is looked up on the network.
nitpicky = True
nitpick_ignore_regex = [
    ("py:.*", r"(torch|nn|np|numpy|os|collections|concurrent|fractions|enum|typing|pathlib|matplotlib|safetensors)\..*"),
    (
        "py:class",
        r"ArrayLike|Axes|sparsedd\..*\.(Model|Value)|type \| tuple\[type",
    ),  # names without a module, and type variables
]


def setup(app):
    """Write ArrayLike, not the union that it stands for."""
    union = stringify_annotation(ArrayLike, "smart")

    def shorten(app, what, name, obj, options, signature, returned):
        return (signature and signature.replace(union, "ArrayLike"), returned)

    app.connect("autodoc-process-signature", shorten)
