"""The site: pages of docs/, the notebooks with their committed outputs, and public names.  `make docs` builds it."""

import os
import sys
from importlib.metadata import version as version_of
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

project = "simreg"
copyright = "the simreg developers, MIT"
release = version_of("simreg")

# The source is the project's folder, so that a link leads to the same file here and in the repository.
root_doc = "docs/site/index"
include_patterns = ["docs/**.md", "notebooks/*.ipynb", "CHANGELOG.md", "CONTRIBUTING.md", "BENCHMARKS.md"]
include_patterns += ["weights/*/README.md"]
exclude_patterns = [".*", "build", "data", "runs", "figures", "tests", "simreg_core", "benchmarks", "*.egg-info"]
exclude_patterns += ["**/.ipynb_checkpoints", "notebooks/profiles"]

extensions = ["myst_nb", "sphinx.ext.autodoc", "simreg_site.mathml"]
extensions += ["simreg_site.reading", "simreg_site.api"]

nb_execution_mode = "off"
nb_ipywidgets_js = {}  # they would come from the network
nb_mime_priority_overrides = [("html", "application/vnd.jupyter.widget-view+json", None)]
myst_enable_extensions = ["dollarmath", "amsmath", "colon_fence"]
myst_heading_anchors = 4

os.environ.setdefault("OMP_NUM_THREADS", "1")
autodoc_inherit_docstrings = False
autodoc_preserve_defaults = True
autodoc_typehints_format = "short"
python_use_unqualified_type_names = True
maximum_signature_line_length = 88
add_module_names = False
toc_object_entries = False  # each page would copy them; the pages of names begin with links to them

html_math_renderer = "mathml"
html_theme = "furo"
html_title = "simreg"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_js_files = ["sort.js"]
html_extra_path = ["top"]  # its index.html leads to the first page
html_show_sourcelink = False
html_copy_source = False
html_theme_options = {"top_of_page_buttons": []}
smartquotes = False  # docstrings quote values: 'linf'
pygments_style = "friendly"
pygments_dark_style = "github-dark"
