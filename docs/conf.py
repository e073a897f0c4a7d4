"""Sphinx settings; the pages are Markdown, the reference comes from the docstrings."""

import importlib.metadata

project = "robustvision"
author = "the robustvision contributors"
release = importlib.metadata.version("robustvision-core")

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.mathjax"]
myst_enable_extensions = ["dollarmath", "colon_fence"]
myst_heading_anchors = 3
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = "robustvision"
napoleon_use_ivar = True  # as attributes they would clash with the fields of named tuples
autodoc_typehints = "none"
autodoc_member_order = "bysource"
