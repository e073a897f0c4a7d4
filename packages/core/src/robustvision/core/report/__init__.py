"""The report of a run as one HTML file that can be mailed: everything is inside it, and it loads nothing.

``Report`` collects sections (``document``); plots are drawn as inline SVG in the page's own colours (``plots``),
pictures become data URIs (``pictures``), and the template puts all of it, escaped, into one page (``templates``).
``report_training`` fills a report from a training run's ``log.jsonl`` and ``run.json`` (``training``).
"""

from robustvision.core.lazy import attach_stub

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)
