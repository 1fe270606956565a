"""How Sphinx builds these pages."""

import sys
from pathlib import Path

import sparsedd

sys.path.insert(0, str(Path(__file__).parent / "_ext"))
from inventories import write_inventories

project = "sparsedd"
author = "The sparsedd developers"
copyright = "the sparsedd developers"
version = release = sparsedd.__version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.intersphinx",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
    "myst_parser",
    "reference",
    "formulas",
    "pictures",
    "computed",
    "after",
    "drawn",
    "examples",
    "executed",
    "preview",
]
exclude_patterns = ["_build", "_ext", "_generated"]
myst_enable_extensions = ["attrs_inline", "colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3

html_theme = "furo"
html_title = f"sparsedd {version}"
html_favicon = "_static/favicon.svg"
html_static_path = ["_static"]
html_css_files = ["sparsedd.css"]
html_copy_source = False
copybutton_prompt_text = r">>> |\.\.\. |\$ "  # is not copied
copybutton_prompt_is_regexp = True

autodoc_inherit_docstrings = False
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
autodoc_typehints_format = "short"
napoleon_google_docstring = False
napoleon_custom_sections = [
    ("Attributes", "params_style"),  # several names in one entry; members document themselves
    "Returns",  # prose; the type is in the signature
]

python_maximum_signature_line_length = 90

# Other projects' names lead to their pages. The lists of these names are made here, of elsewhere.txt: a build needs no network.
inventories = write_inventories(Path(__file__).parent / "elsewhere.txt", Path(__file__).parent / "_generated")
intersphinx_mapping = {name: (address, (inventory,)) for name, (address, inventory) in inventories.items()}

# Every reference must resolve, but for those to names of other projects that are not in the lists.
nitpicky = True
others = "torch nn np numpy os collections concurrent fractions enum typing pathlib matplotlib safetensors multiprocessing"
nitpick_ignore_regex = [
    ("py:.*", rf"({others.replace(' ', '|')})(\..*)?"),
    # Names without a module, names that unions of types have here, and type variables.
    ("py:class", r"ArrayLike|Axes|PathLike|Weights|Score|Noise|Augmentation|Schedule|type \| tuple\[type"),
    ("py:class", r"sparsedd\..*\.(Model|Record|Value|Landmark)"),
]
