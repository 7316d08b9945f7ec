"""The kinds of pictures, by name, in the order of the page. A new one is a module and a line here."""

from __future__ import annotations

from collections.abc import Callable

from aquasurf_ray.analysis.report.chart import Chart
from aquasurf_ray.analysis.report.confirmed import confirmed
from aquasurf_ray.analysis.report.costs import costs
from aquasurf_ray.analysis.report.failures import failures
from aquasurf_ray.analysis.report.findings import Findings
from aquasurf_ray.analysis.report.functions import functions
from aquasurf_ray.analysis.report.learning import learning
from aquasurf_ray.analysis.report.maps import maps
from aquasurf_ray.analysis.report.predictions import predictions
from aquasurf_ray.analysis.report.progress import progress
from aquasurf_ray.analysis.report.spectra import spectra
from aquasurf_ray.analysis.report.usage import usage

KINDS: dict[str, Callable[[Findings], Chart | None]] = {
    "progress": progress,
    "map": maps,
    "functions": functions,
    "confirmed": confirmed,
    "cost": costs,
    "learning": learning,
    "predictions": predictions,
    "spectra": spectra,
    "failures": failures,
    "usage": usage,
}
"""None of a kind for which the run has nothing to show yet."""
