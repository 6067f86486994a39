"""The page about a finished search: one file that opens from disk, with no network."""

from experiments.report.document import ReportError, Searched, plan_count, report_document
from experiments.report.page import PAGE_LIMIT_BYTES, render_page

__all__ = [
    "PAGE_LIMIT_BYTES",
    "ReportError",
    "Searched",
    "plan_count",
    "render_page",
    "report_document",
]
