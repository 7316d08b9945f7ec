"""The Fisher information spectrum of the untrained network, layer by layer, with the best function and with ReLU."""

from __future__ import annotations

import numpy as np

from aquasurf_ray.analysis.report.charts.chart import Axis, Chart, Line, Panel
from aquasurf_ray.analysis.studies.findings import Findings
from aquasurf_ray.surrogate.spectra import SpectrumFeature

MOST_LAYERS = 12


def spectra(findings: Findings) -> Chart | None:
    """Draw cumulative shares of the log-eigenvalues; of a network with many layers, some at even distances."""
    rows = [row for row in (findings.best, findings.reference) if row is not None]
    found = {row.function: findings.spectrum(row.function_id) for row in rows}
    features = {name: feature for name, feature in found.items() if feature is not None}
    if not features:
        return None
    layers = next(iter(features.values())).names
    shown = np.unique(np.linspace(0, len(layers) - 1, min(MOST_LAYERS, len(layers))).round().astype(int))
    panels = tuple(_panel(features, int(layer), legend=n == 0) for n, layer in enumerate(shown))
    restriction = "" if len(shown) == len(layers) else f" Showing {len(shown)} of {len(layers)} layers."
    words = (
        f"Share of log-eigenvalues below each value for {' and '.join(features)}. Further to the right is more "
        f"curvature; steeper is a more even spectrum.{restriction}{_covered(findings)}"
    )
    return Chart("spectra", "Spectra by layer", words, panels, height=240)


def _covered(findings: Findings) -> str:
    if findings.coverage is None:
        return ""
    return f" {findings.coverage[0].upper()}{findings.coverage[1:]}."


def _panel(features: dict[str, SpectrumFeature], layer: int, *, legend: bool) -> Panel:
    marks = []
    for colour, (name, feature) in enumerate(features.items()):
        quantiles = feature.quantiles[layer]
        share = (np.arange(len(quantiles)) + 0.5) / len(quantiles)
        every = max(1, len(quantiles) // 100)  # about a hundred points draw a smooth curve on a small panel
        marks.append(Line(name, quantiles[::every], share[::every], 1 if colour else 0, "dash" if colour else "solid"))
    name, n_weights = (next(iter(features.values())).names[layer], next(iter(features.values())).n_weights[layer])
    return Panel(
        tuple(marks),
        Axis("log eigenvalue"),
        Axis("share", (0, 1)),
        f"layer {name} ({n_weights:,} weights)",
        legend,
        below=True,
    )
