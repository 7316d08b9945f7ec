"""The learned values of the best function with learned parameters: the value of each layer after each epoch."""

from __future__ import annotations

import numpy as np

from aquasurf_ray.activations.rendering import readable, short_name
from aquasurf_ray.activations.roles import parts_of
from aquasurf_ray.analysis.report.charts.chart import Axis, Chart, Line, Panel
from aquasurf_ray.analysis.studies.findings import Findings
from aquasurf_ray.store import LearnedValues

LAYERS_NAMED = 6


def learned(findings: Findings) -> Chart | None:
    """Draw one panel a parameter, of each role that has one, with a line a layer; of channels, their mean."""
    best = next((row for row in findings.winners if row.evaluation_id in findings.learned), None)
    if best is None:
        return None
    values = findings.learned[best.evaluation_id]
    # The functions of two roles name their parameters alike.
    role_of = findings.role_of_places if parts_of(best.function) else {}
    groups: dict[str, list[LearnedValues]] = {}
    for each in values:
        role = role_of.get(each.layer)
        groups.setdefault(f"{each.parameter} of role {role}" if role else each.parameter, []).append(each)
    panels = tuple(_panel(title, group) for title, group in groups.items())
    said = f"Of {readable(best.function)}: {'; '.join(map(_words, values))}."
    return Chart("learned", "Learned parameters", said, panels)


def _panel(name: str, values: list[LearnedValues]) -> Panel:
    lines = []
    for number, each in enumerate(values):
        y = np.array([each.initial, *each.course])
        x = np.arange(len(y), dtype=np.float64)
        layer = short_name(each.layer or "network")
        lines.append(Line(layer, x, y, colour=number % LAYERS_NAMED, shown=number < LAYERS_NAMED))
    return Panel(tuple(lines), Axis("epoch", whole=True), Axis(name))


def _words(values: LearnedValues) -> str:
    mean = "none" if values.mean is None else f"{values.mean:.4g}"
    spread = "" if values.n_channels is None else f", spread {values.spread or 0:.2g} over {values.n_channels} channels"
    return f"{values.parameter} of layer '{values.layer}' from {values.initial:g} to {mean}{spread}"
