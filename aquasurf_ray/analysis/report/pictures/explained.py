"""A function's curve in each layer of a network, over the layer's inputs before and after training."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np

from aquasurf_ray.activations import Activation
from aquasurf_ray.activations.rendering import readable, short_name
from aquasurf_ray.analysis.report.charts.chart import GREY, Axis, Band, Chart, Line, Panel
from aquasurf_ray.analysis.studies.explanation import role_at, values_and_slopes
from aquasurf_ray.workers.inspection import Inspection, Site

MOST_LAYERS = 12
_BINS = 80


def explained(inspection: Inspection, words: str, role_of: Mapping[str, str] = MappingProxyType({})) -> Chart:
    """Draw one panel for each layer; of a network with many layers, some at even distances."""
    pairs = list(zip(inspection.before.sites, inspection.after.sites, strict=True))
    chosen = np.linspace(0, max(0, len(pairs) - 1), min(MOST_LAYERS, len(pairs))).round().astype(int)
    shown = sorted(set(chosen.tolist()))
    panels = tuple(
        _panel(before, after, role_at(before.name, role_of), legend=number == 0)
        for number, (before, after) in enumerate(pairs[i] for i in shown)
    )
    return Chart("explain", f"How the network uses {readable(inspection.function)}", words, panels, height=280)


def _panel(before: Site, after: Site, role: str, *, legend: bool) -> Panel:
    function = Activation(before.function)
    both = np.concatenate([before.inputs, after.inputs])
    # A few extreme inputs would stretch the axis until the curve under the others is a line.
    low, high = np.quantile(both, [0.001, 0.999])
    margin = 0.1 * (high - low) or 1.0
    edges = np.linspace(low - margin, high + margin, _BINS + 1)
    x = (edges[:-1] + edges[1:]) / 2
    values = values_and_slopes(function, x)[0]
    floor, reach = float(np.nanmin(values)), float(np.nanmax(values) - np.nanmin(values)) or 1.0
    # Both densities share one scale, whose peak reaches four fifths of the curve's height.
    peaks = [np.histogram(site.inputs, bins=edges, density=True)[0] for site in (before, after)]
    highest = max(float(peak.max()) for peak in peaks) or 1.0
    hills = [floor + 0.8 * reach * peak / highest for peak in peaks]
    ground = np.full_like(x, floor)
    marks = (
        Band("inputs before training", x, ground, hills[0], GREY),
        Band("inputs after training", x, ground, hills[1], colour=1),
        Line("f(x)", x, values, colour=0, width=2.5),
    )
    title = before.name or "(network)"
    return Panel(
        marks,
        Axis("pre-activation"),
        Axis(""),
        f"{role}: {short_name(function.name)}\n{title}" if role else title,
        legend,
    )
