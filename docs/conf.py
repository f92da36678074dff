"""Sphinx configuration: Markdown pages, furo theme, every warning an error."""

import lifemask

project = "lifemask"
author = "The lifemask authors"
copyright = "2026, The lifemask authors"
version = release = lifemask.__version__

extensions = ["myst_parser"]
source_suffix = {".md": "markdown"}
exclude_patterns = ["_build"]
myst_enable_extensions = ["dollarmath", "deflist"]
myst_heading_anchors = 3
nitpicky = True

html_theme = "furo"
html_title = "lifemask"
html_show_sphinx = False
