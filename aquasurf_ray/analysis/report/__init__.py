"""A run as people look at it: one page of HTML, or single pictures for papers.

store -> read_findings -> Findings -> KINDS: a Chart each -> plotly_chart -> page, or matplotlib_chart -> a file
"""

from aquasurf_ray.analysis.report.findings import Findings, read_findings
from aquasurf_ray.analysis.report.kinds import KINDS
from aquasurf_ray.analysis.report.matplotlib_chart import draw
from aquasurf_ray.analysis.report.page import document, page

__all__ = ["KINDS", "Findings", "document", "draw", "page", "read_findings"]
