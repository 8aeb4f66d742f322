"""The documentation site: `make docs`, then build/site/index.html.

The source is the project's root, so that the links between README, docs and notebooks are the same here and there.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from starclip_lib import __version__

project, author, copyright = "StarCLIP", "the StarCLIP developers", "the StarCLIP developers"
version = release = __version__
root_doc = "docs/index"
include_patterns = ["README.md", "CHANGELOG.md", "CONTRIBUTING.md", "docs/**.md", "docs/api/*.rst", "notebooks/*.ipynb"]
exclude_patterns = ["**/.ipynb_checkpoints"]
extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.apidoc",
    "sphinx_copybutton",
    "starclip_site",
]

# what is stored in the notebooks is from the default run; nothing is executed here
nb_execution_mode = "off"
nb_ipywidgets_js: dict[str, dict] = {}  # executed notebooks keep pictures of widgets, nothing live
myst_enable_extensions = ["dollarmath", "deflist"]
myst_heading_anchors = 3

apidoc_modules = [
    {
        "path": "../../starclip_lib",
        "destination": "docs/api",
        "separate_modules": False,
        "module_first": True,
        "include_private": False,
        "automodule_options": {"members"},
    }
]
autodoc_typehints = "signature"  # docstrings add shapes and units
napoleon_google_docstring = False
napoleon_use_rtype = False
napoleon_use_ivar = True
napoleon_use_param = False  # or every word of "shape (n, dim)" is looked up as if it were a type

html_theme = "pydata_sphinx_theme"
html_title = f"StarCLIP {version}"
html_context = {"default_mode": "auto"}  # light or dark as the reader's system is
html_math_renderer = "mathml"
html_theme_options = {
    "navigation_with_keys": False,
    "show_prev_next": True,
    "secondary_sidebar_items": ["page-toc"],
    "footer_start": ["copyright"],
    "footer_end": [],
    "logo": {"text": "StarCLIP"},
    "pygments_light_style": "a11y-high-contrast-light",
    "pygments_dark_style": "a11y-high-contrast-dark",
}
html_static_path = ["static"]
html_css_files = ["site.css"]
templates_path = ["templates"]
html_additional_pages = {"index": "forward.html"}
html_show_sourcelink = False
html_show_search_summary = False  # opened as files, pages may not be read by others
html_copy_source = False
