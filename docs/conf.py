"""How Sphinx builds the site: `make docs`; warnings are errors."""

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))  # site_pages: what the reference is made by

import sharpminima  # noqa: E402

project = "sharpminima"
author = "The sharpminima developers"
copyright = author
release = version = sharpminima.__version__
language = "en"

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
    "site_pages",
]
exclude_patterns = ["build", "package.md"]  # the latter is the page of a package index

# Prose
myst_enable_extensions = ["colon_fence", "dollarmath"]
myst_heading_anchors = 3
myst_fence_as_directive = ["mermaid"]
nb_execution_mode = "off"  # a test executes the notebooks, and holds them to the output that is kept in them
nb_merge_streams = True
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True

# Docstrings: a name in single backticks is a link where the site has its page
default_role = "py:obj"
autodoc_typehints_format = "short"
autodoc_member_order = "bysource"
python_use_unqualified_type_names = True
napoleon_numpy_docstring = False
maximum_signature_line_length = 80

html_math_renderer = "pictures"  # of site_pages
html_theme = "furo"
html_title = f"sharpminima {release}"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_copy_source = html_show_sourcelink = html_show_copyright = False
