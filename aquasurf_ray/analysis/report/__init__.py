"""The report of a run: one HTML page, or single pictures for papers.

store -> read_findings -> Findings -> KINDS: a Chart each -> plotly_chart -> page, or matplotlib_chart -> a file
"""

from aquasurf_ray.analysis.report.charts.matplotlib import draw
from aquasurf_ray.analysis.report.page import document, page
from aquasurf_ray.analysis.report.pictures.kinds import KINDS
from aquasurf_ray.analysis.studies.findings import Findings, read_findings

__all__ = ["KINDS", "Findings", "document", "draw", "page", "read_findings"]
