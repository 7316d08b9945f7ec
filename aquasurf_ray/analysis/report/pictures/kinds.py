"""The kinds of pictures by name, in the order of the page. A new kind is a module and a line here."""

from __future__ import annotations

from collections.abc import Callable

from aquasurf_ray.analysis.report.charts.chart import Chart
from aquasurf_ray.analysis.report.pictures.confirmed import confirmed
from aquasurf_ray.analysis.report.pictures.costs import costs
from aquasurf_ray.analysis.report.pictures.failures import failures
from aquasurf_ray.analysis.report.pictures.functions import functions
from aquasurf_ray.analysis.report.pictures.learned import learned
from aquasurf_ray.analysis.report.pictures.learning import learning
from aquasurf_ray.analysis.report.pictures.maps import maps
from aquasurf_ray.analysis.report.pictures.predictions import predictions
from aquasurf_ray.analysis.report.pictures.progress import progress
from aquasurf_ray.analysis.report.pictures.rates import rates
from aquasurf_ray.analysis.report.pictures.roles import roles
from aquasurf_ray.analysis.report.pictures.spectra import spectra
from aquasurf_ray.analysis.report.pictures.usage import usage
from aquasurf_ray.analysis.studies.findings import Findings

KINDS: dict[str, Callable[[Findings], Chart | None]] = {
    "progress": progress,
    "confirmed": confirmed,
    "rates": rates,
    "functions": functions,
    "roles": roles,
    "cost": costs,
    "learning": learning,
    "learned": learned,
    "map": maps,
    "predictions": predictions,
    "spectra": spectra,
    "failures": failures,
    "usage": usage,
}
"""Each returns None where the run has nothing to show yet."""
