"""How Sphinx builds these pages."""

import sys
from pathlib import Path

from numpy.typing import ArrayLike
from sphinx.util.typing import stringify_annotation

import sparsedd

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

project = "sparsedd"
author = "The sparsedd developers"
copyright = "the sparsedd developers"
version = release = sparsedd.__version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "myst_parser",
    "sphinx_gallery.gen_gallery",
    "pictures",
    "results_gallery",
    "executed",
]
exclude_patterns = ["_build", "_ext", "_generated"]
myst_enable_extensions = ["attrs_inline", "colon_fence", "deflist"]
myst_heading_anchors = 3

html_theme = "furo"
html_title = f"sparsedd {version}"
html_static_path = ["_static"]
html_css_files = ["sparsedd.css"]
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

# Scripts that are run while the pages are built, and the folders of pages made of them, which git ignores. A script is run
# again when its text has changed; -D plot_gallery=0 runs none.
sphinx_gallery_conf = {
    "examples_dirs": ["../examples"],
    "gallery_dirs": ["examples"],
    "filename_pattern": r"\.py$",
    "within_subsection_order": "FileNameSortKey",
    "reset_argv": "example_gallery.arguments",
    "image_scrapers": ("example_gallery.pictures",),
    "notebook_extensions": set(),
    "abort_on_example_error": True,
    "download_all_examples": False,
    "write_computation_times": False,
    "min_reported_time": 3600,  # how long it takes says nothing to a reader
    "show_signature": False,
}

# Every reference must resolve, but for those to other projects: nothing is looked up on the network.
nitpicky = True
others = "torch nn np numpy os collections concurrent fractions enum typing pathlib matplotlib safetensors multiprocessing"
nitpick_ignore_regex = [
    ("py:.*", rf"({others.replace(' ', '|')})(\..*)?"),
    # Names without a module, and type variables.
    ("py:class", r"ArrayLike|Axes|sparsedd\..*\.(Model|Record|Value|Landmark)|type \| tuple\[type"),
]


def setup(app):
    """Write ArrayLike, not the union that it stands for."""
    union = stringify_annotation(ArrayLike, "smart")

    def shorten(app, what, name, obj, options, signature, returned):
        return (signature and signature.replace(union, "ArrayLike"), returned)

    app.connect("autodoc-process-signature", shorten)
