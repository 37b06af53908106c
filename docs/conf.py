"""Configuration of the documentation site, built by ``tox -e docs``.

The source folder is the repository, not `docs/` alone. So pages keep their paths, and a link like
``../results/reference/SPEED.md`` leads to the same page here and where files are read one by one.
"""

from __future__ import annotations

import sys
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parent
sys.path[:0] = [str(ROOT), str(HERE / "extensions")]

from diffcls.support.version import __version__  # noqa: E402

project = "diffcls"
author = "The diffcls authors"
copyright = author
version = release = __version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "myst_nb",
    "contents",
    "public_api",
    "mathml",
    "repository_links",
    "source_pages",
]
root_doc = "docs/index"
include_patterns = [
    "*.md",
    "docs/*.md",
    "docs/notebooks/*.ipynb",
    "benchmarks/*.md",
    "results/README.md",
    "results/reference/*.md",
]
WITH_PAGES = {"docs", "benchmarks", "results"}
FOLDERS = {path.name for path in ROOT.iterdir() if path.is_dir()}
# the others are not even walked through: environments, runs and models may be large
exclude_patterns = [*sorted(FOLDERS - WITH_PAGES), "results/runs", "**.ipynb_checkpoints"]

myst_enable_extensions = ["alert", "dollarmath"]
myst_heading_anchors = 4
nb_execution_mode = "off"

# docstrings write code in single backticks
default_role = "code"
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_type_aliases = {"ArrayLike": "ArrayLike"}
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 80
napoleon_numpy_docstring = False
napoleon_use_ivar = True
nitpicky = True
# annotations name types of other libraries and of inner modules, which have no page here; what a
# docstring says that it raises has one
nitpick_ignore_regex = [("py:class", r".*")]
# only their names are read, so the site is built without them
autodoc_mock_imports = [
    "accelerate",
    "datasets",
    "diffusers",
    "lightning",
    "matplotlib",
    "open_clip",
    "safetensors",
    "torch",
    "torchvision",
    "transformers",
]

html_theme = "furo"
html_title = f"diffcls {__version__}"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_js_files = [("scroll.js", {"defer": "defer"})]
templates_path = ["templates"]
# the entry beside the folders of the repository; it leads on to docs/index.html
html_additional_pages = {"index": "entry.html"}
html_copy_source = False
html_show_sphinx = False
html_use_index = True
html_domain_indices = False
html_math_renderer = "mathml"
