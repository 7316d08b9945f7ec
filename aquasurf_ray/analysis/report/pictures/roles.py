"""The best function role by role, next to the reference, and the places of the network that each role has."""

from __future__ import annotations

import re

import numpy as np

from aquasurf_ray.activations.rendering import readable, short_name
from aquasurf_ray.activations.roles import parts_of
from aquasurf_ray.analysis.report.charts.chart import GREY, Axis, Chart, Floats, Line, Panel
from aquasurf_ray.analysis.report.pictures.functions import drawn
from aquasurf_ray.analysis.studies.findings import Findings
from aquasurf_ray.counted import counted
from aquasurf_ray.store import LeaderboardRow

_REACH = 5.0
_Y_RANGE = (-3.0, 3.0)


def roles(findings: Findings) -> Chart | None:
    """Draw a panel for each role of the network."""
    rows = [row for row in (findings.leader, findings.reference) if row is not None]
    if not findings.roles or not rows:
        return None
    of_role = {role: list(dict.fromkeys(_part(row, role) for row in rows)) for role in findings.roles}
    panels = tuple(_panel(role, functions, legend=n == 0) for n, (role, functions) in enumerate(of_role.items()))
    sentences = [_sentence(findings, role, functions, n_rows=len(rows)) for role, functions in of_role.items()]
    dashed = f"; the reference, {readable(rows[-1].function)}, is grey" if len(rows) > 1 else ""
    words = f"{readable(rows[0].function)}, role by role{dashed}. {' '.join(sentences)}{_without_role(findings)}"
    return Chart("roles", "The best function by role", words, panels, height=280)


def _part(row: LeaderboardRow, role: str) -> str:
    return parts_of(row.function).get(role, row.function)


def _panel(role: str, functions: list[str], *, legend: bool) -> Panel:
    curves = [(name, found[0]) for name in functions if (found := drawn(name)) is not None]
    # The reference first, so that the function is drawn over it.
    marks = [_line(name, values, is_best=name == functions[0]) for name, values in reversed(curves)]
    return Panel(
        tuple(marks), Axis("x", (-_REACH, _REACH)), Axis("", _Y_RANGE), f"{role}: {short_name(functions[0])}", legend
    )


def _line(name: str, values: Floats, *, is_best: bool) -> Line:
    x = np.linspace(-_REACH, _REACH, len(values))
    inside = np.where(np.abs(values) > 10 * _Y_RANGE[1], np.nan, values)
    if is_best:
        return Line("best function", x, inside, width=2.5)
    return Line(f"reference: {short_name(name)}", x, inside, GREY, "dash")


def _sentence(findings: Findings, role: str, functions: list[str], *, n_rows: int) -> str:
    places = findings.task.places_of_roles.get(role, [])
    layers = [name for name, own in findings.layer_roles.items() if own == role]
    fed = f"; the layers before it: {spans(layers)}" if layers else ""
    at = f" in {counted(len(places), 'activation')}: {spans(places)}" if places else ""
    like = ", like the reference," if n_rows > len(functions) else ""
    return f"Role {role} has {functions[0]}{like}{at}{fed}."


def _without_role(findings: Findings) -> str:
    layers = [name for name, role in findings.layer_roles.items() if not role]
    return f" Layers behind the last activation: {spans(layers)}." if layers else ""


def spans(names: list[str]) -> str:
    """Return names as text, those that differ in their numbers alone as the first and the last one.

    >>> spans(["h.0.mlp.act", "h.1.mlp.act", "h.2.mlp.act", "head"])
    'h.0.mlp.act to h.2.mlp.act (3), head'
    """
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(re.sub(r"\d+", "N", name), []).append(name)
    return ", ".join(f"{g[0]} to {g[-1]} ({len(g)})" if len(g) > 1 else g[0] for g in groups.values())
