"""The best functions as curves, with their derivatives, over the density of N(0,1), on which outputs are compared."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from aquasurf_ray.activations import Activation, ActivationError
from aquasurf_ray.activations.rendering import readable, short_name
from aquasurf_ray.activations.roles import parts_of
from aquasurf_ray.analysis.report.charts.chart import Axis, Band, Chart, Floats, Line, Panel
from aquasurf_ray.analysis.studies.explanation import values_and_slopes
from aquasurf_ray.analysis.studies.findings import Findings
from aquasurf_ray.analysis.studies.reference import standing
from aquasurf_ray.analysis.studies.run_origin import knows_task
from aquasurf_ray.store import LeaderboardRow
from aquasurf_ray.value_text import value_text

SHOWN = 6
_X = np.linspace(-5.0, 5.0, 401)
_Y_RANGE = (-3.0, 3.0)


def functions(findings: Findings) -> Chart | None:
    """Draw the best functions, baselines among them as on the leaderboard, and the two that the verdict is about: the
    best one found, and the reference."""
    if findings.leader is None:
        return None
    also = (findings.leader, *([findings.reference] if findings.reference else []))
    rows = list({row.function: row for row in (*findings.winners[:SHOWN], *also)}.values())
    # A function per role has a curve for each role.
    parts = [(row, text, drawn(part)) for row in rows for text, part in _parts(row.function).items()]
    curves = [(row, text, found) for row, text, found in parts if found is not None]
    if not curves:
        return None
    panels = tuple(
        _panel(f"{text}\n{_number(findings, row)}", *found, legend=number == 0)
        for number, (row, text, found) in enumerate(curves)
    )
    shown = list({row.function: row for row, *_ in curves}.values())
    words = (
        f"{_shown(findings, shown)}, each with its derivative. The grey area is the density of N(0,1), "
        f"on which functions are compared.{_explained(findings.leader.function, findings.run.config)}"
    )
    return Chart("functions", "The best functions", words, panels, height=300)


def _number(findings: Findings, row: LeaderboardRow) -> str:
    """Return the number that is said of a function, whether a confirmation judged it, and whether it is a baseline."""
    found = findings.headline(row)
    confirmed = "confirmed " if found.is_confirmed else ""
    kind = _standing(findings, row)
    number = f"{confirmed}{found.metric_name(findings.task.metric)} {value_text(findings.value(found.score))}"
    return f"{kind}, {number}" if kind else number


def _parts(function: str) -> dict[str, str]:
    """Return the functions to draw by their titles.

    >>> _parts("relu(x)"), _parts("early=x;late=relu(x)")
    ({'relu(x)': 'relu(x)'}, {'early: x': 'x', 'late: relu(x)': 'relu(x)'})
    """
    parts = parts_of(function)
    return {f"{role}: {short_name(text)}": text for role, text in parts.items()} or {short_name(function): function}


def _explained(function: str, config: Mapping[str, Any]) -> str:
    """Return the part of the caption that says which command draws a network's inputs; empty where no command knows
    the task, as with that of a user's own loop."""
    if not knows_task(config):
        return ""
    modules = [word for module in config.get("modules") or () for word in ("--modules", module)]
    command = shlex.join(["aquasurf", "explain", function, "--task", str(config["task"]), *modules])
    return f" The inputs that a network has at its layers are wider or narrower: {command} draws them."


def _shown(findings: Findings, rows: Sequence[LeaderboardRow]) -> str:
    """Return which functions are shown, for the caption: `The 6 best functions, 4 of them baselines, and the reference,
    relu(x)`."""
    best = {row.function for row in findings.winners[:SHOWN]}
    inside = [row for row in rows if row.function in best and not findings.is_reference(row.function)]
    others = [row for row in rows if row not in inside]
    known = sum(row.baseline for row in inside)
    n = "the best function" if len(inside) == 1 else f"the {len(inside)} best functions"
    parts = [n + (f", {known} of them baselines," if known and len(inside) > 1 else "")] if inside else []
    # The best one found comes before the reference, as it was drawn.
    parts += [f"the {_standing(findings, row) or 'best one found'}, {readable(row.function)}" for row in others]
    text = " and ".join(parts)
    return text[0].upper() + text[1:].removesuffix(",")


def _standing(findings: Findings, row: LeaderboardRow) -> str:
    return standing(baseline=row.baseline, reference=findings.is_reference(row.function))


def drawn(name: str) -> tuple[Floats, Floats] | None:
    """Return the values and the derivative from -5 to 5; None if the function cannot be parsed or differentiated."""
    try:
        return values_and_slopes(Activation(name), _X)
    except (ActivationError, RuntimeError):  # its operators are not registered in this process, or have no derivative
        return None


def _panel(title: str, values: Floats, slope: Floats, *, legend: bool) -> Panel:
    density = np.exp(-(_X**2) / 2) / np.sqrt(2 * np.pi)
    marks = (
        Band("N(0,1)", _X, np.zeros_like(_X), density),
        Line("f'(x)", _X, _cut(slope), colour=1, dash="dash", width=1.5),
        Line("f(x)", _X, _cut(values), colour=0, width=2.5),
    )
    return Panel(marks, Axis("x", (-5.0, 5.0)), Axis("", _Y_RANGE), title, legend)


def _cut(values: Floats) -> Floats:
    """Return the values without those far outside the picture, which would only draw steep lines through it."""
    return np.where(np.abs(values) > 10 * _Y_RANGE[1], np.nan, values)
