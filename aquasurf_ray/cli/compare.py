"""The command `compare`: two runs of a task side by side."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from aquasurf_ray.activations.rendering import readable
from aquasurf_ray.cli.terminal.commands import Commands
from aquasurf_ray.cli.terminal.open_store import open_store
from aquasurf_ray.cli.terminal.output import print_json, print_table
from aquasurf_ray.cli.terminal.shared_parameters import AsJson, StoreOption
from aquasurf_ray.counted import counted
from aquasurf_ray.training_metrics import on_split
from aquasurf_ray.value_text import value_text

if TYPE_CHECKING:
    from aquasurf_ray.analysis.studies.run_comparison import ComparedRun, RunComparison
    from aquasurf_ray.store import TaskMetric

app = Commands()


@app.command(epilog="Example: aquasurf compare digits-1 digits-2 -o both.png")
def compare(
    first: Annotated[str, typer.Argument(metavar="NAME", help="Name of a run.")],
    second: Annotated[str, typer.Argument(metavar="OTHER", help="Name of another run of the same task.")],
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", metavar="FILE", help="Picture of both best-so-far curves: .png, .svg or .pdf."),
    ] = None,
    store: StoreOption = None,
    as_json: AsJson = False,
) -> None:
    """Compare two runs of a task.

    Shows the settings that differ, the best training of each run and how soon the run reached it, and after a
    confirmation its best mean.
    """
    from aquasurf_ray.analysis.output_file import check_picture
    from aquasurf_ray.analysis.report import draw
    from aquasurf_ray.analysis.report.pictures.compared import compared
    from aquasurf_ray.analysis.studies.findings import read_findings
    from aquasurf_ray.analysis.studies.run_comparison import compare_runs

    if output is not None:
        check_picture(output)
    with open_store(store) as opened:
        # Quick, because a comparison shows neither maps nor spectra.
        one, other = (read_findings(opened, name, "", quick=True) for name in (first, second))
    found = compare_runs(one, other)
    metric = one.task.metric
    if output is not None:
        draw(compared(one, other, ""), output)
        print(f"{output} written", file=sys.stderr)
    if as_json:
        print_json(_document(found, metric))
    else:
        _print(found, metric)


def _document(found: RunComparison, metric: TaskMetric) -> dict[str, Any]:
    about = {"metric": metric.name, "goal": metric.value(found.goal)}
    return asdict(found) | about | {"sides": [_side(side, metric) for side in found.sides]}


def _side(side: ComparedRun, metric: TaskMetric) -> dict[str, Any]:
    function, score = side.best or (None, None)
    found = side.confirmed
    best = {
        "best": metric.value(score),
        "best_function": function,
        "best_recipe_change": side.best_change or None,
        "confirmed": found.value if found else None,
        "confirmed_metric": found.metric.name if found else None,
        "confirmed_by": found.confirmed if found else None,
        "confirmed_function": found.function if found else None,
        "confirmed_recipe_change": found.recipe_change or None if found else None,
    }
    return {key: value for key, value in asdict(side).items() if key not in ("best", "best_change", "confirmed")} | best


def _print(found: RunComparison, metric: TaskMetric) -> None:
    sides = [_side(side, metric) for side in found.sides]
    for side in sides:
        side |= {key: readable(side[key] or "") or None for key in ("best_function", "confirmed_function")}
    goal = metric.value(found.goal)
    # A study may be confirmed on a task with another metric than its own.
    confirmed_metrics = {side.confirmed.metric.name for side in found.sides if side.confirmed}
    labels = {
        "status": "status",
        "candidates": "candidates",
        "evaluations": "evaluations after the baselines",
        "diverged": "diverged",
        "failed": "failed",
        "seconds": "seconds of training after the baselines",
        "best": f"best {on_split(metric.name)}",
        "best_function": "best function",
        "best_recipe_change": "best function's change of the recipe",
        "confirmed": f"best confirmed {confirmed_metrics.pop() if len(confirmed_metrics) == 1 else 'mean'}",
        "confirmed_by": "confirmed by",
        "confirmed_function": "best confirmed function",
        "confirmed_recipe_change": "its change of the recipe",
        "reached": f"evaluations until {'both have a best' if goal is None else value_text(goal)}",
    }
    for side in sides:
        # An empty cell would read as unknown.
        if goal is not None and side["reached"] is None:
            side["reached"] = "never"
        side["seconds"] = f"{side['seconds']:.1f}"
    for often_unknown in [key for key in labels if key.startswith("confirmed") or key == "best_recipe_change"]:
        if all(side[often_unknown] is None for side in sides):
            del labels[often_unknown]
    rows = [[label, *(side[key] for side in sides)] for key, label in labels.items()]
    rows += [[f"setting {key}", *map(str, values)] for key, values in found.differing.items()]
    rows.append(["functions only in this run", *found.only])
    print_table(["", *(side["name"] for side in sides)], [[_plain(cell) for cell in row] for row in rows])
    shared = f"{counted(found.shared, 'function')} {'was' if found.shared == 1 else 'were'}"
    print(f"\n{shared} trained by both runs, on task {found.task}")


def _plain(cell: Any) -> str:
    if cell is None:
        return "-"
    # Settings and scores share a column, so cells are formatted one by one and not by column.
    return value_text(cell) if isinstance(cell, float) else str(cell)
