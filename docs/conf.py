"""How Sphinx builds the site: ``make docs``.

The pages stay plain Markdown; ``_site`` adds what only the site needs.
"""

import os
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE / "_site"), str(HERE.parent / "src"), str(HERE.parent)]
os.environ["DJANGO_SETTINGS_MODULE"] = "site_settings"

import django  # noqa: E402 - the settings had to be named first

import aftercommit  # noqa: E402

django.setup()

project = "aftercommit"
author = copyright = "aftercommit contributors"
release = aftercommit.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinxcontrib.mermaid", "markdown_pages"]
exclude_patterns = ["_site"]
root_doc = "index"

# Headings have the anchors that GitHub gives them, so that a link works in both places.
myst_heading_anchors = 4
myst_fence_as_directive = ["mermaid"]

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_class_signature = "mixed"
autodoc_default_options = {"members": True}

html_theme = "furo"
html_title = f"aftercommit {release}"
html_copy_source = False
html_theme_options = {
    "source_repository": "https://github.com/aftercommit/aftercommit/",
    "source_branch": "main",
    "source_directory": "docs/",
}
