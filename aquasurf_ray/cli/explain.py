"""The command that tells how a network uses a function: explain."""

from __future__ import annotations

import sys
from contextlib import redirect_stdout
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from aquasurf_ray.cli.terminal.options import AsJson, Modules
from aquasurf_ray.cli.terminal.output import print_json, print_table

if TYPE_CHECKING:
    from aquasurf_ray.driver.examine.function_explanation import Explained

COLUMNS = ("layer", "moment", "linear", "curved", "saturated", "rectified", "mean", "spread")
FLOW_COLUMNS = ("weight", "before training", "after training")
_DECIMALS = dict.fromkeys((*COLUMNS, *FLOW_COLUMNS), 2)


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command("explain", epilog="Example: aquasurf explain 'mul(erf(x),erfc(x))' --task digits -o explain.png")(
        explain
    )


def explain(
    function: Annotated[str, typer.Argument(help="A function.")],
    task: Annotated[str, typer.Option(help="A task by name, or package.module:function.")],
    seed: Annotated[int, typer.Option(min=0, max=2**31 - 1, help="Of the trainings.")] = 0,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Draw each layer's inputs over the curve: .png, .svg, .pdf.")
    ] = None,
    modules: Modules = None,
    as_json: AsJson = False,
) -> None:
    """Train a function and relu on a task, and tell which part of the curve each layer uses, before and after.

    A layer's inputs lie on a straight part, on a bend, where the curve is flat (saturated), or where it is off
    (rectified). Gradients are those of the weights, in units of relu's in the same place.
    """
    from aquasurf_ray.analysis.replay.curves import check_format
    from aquasurf_ray.analysis.report import draw
    from aquasurf_ray.driver.examine.function_explanation import explain_function
    from aquasurf_ray.driver.user_modules import import_modules

    if output is not None:
        check_format(output)
    import_modules(modules or ())
    with redirect_stdout(sys.stderr):  # the task is the user's code and may print; only results go to standard output
        found = explain_function(function, task, seed=seed, on_epoch=_told)
    if as_json:
        print_json({"task": task, "seed": seed, **_document(found)})
    else:
        _print(found)
    if output is not None:
        draw(found.chart, output)
        print(f"{output} written", file=sys.stderr)


def _told(function: str, epoch: int, seconds: float) -> None:
    print(f"{function}: epoch {epoch} done, {seconds:.1f} s", file=sys.stderr)


def _document(found: Explained) -> dict[str, Any]:
    return {"words": found.words, f"val_{found.metric}": found.value, **asdict(found.explanation)}


def _print(found: Explained) -> None:
    print(f"{found.words}\n\nval_{found.metric} {found.value:.4f}\n")
    rows = []
    for layer in found.explanation.layers:
        for moment, use in (("before", layer.before), ("after", layer.after)):
            rows.append([layer.name, moment, *(getattr(use, column) for column in COLUMNS[2:])])
    print_table(COLUMNS, rows, _DECIMALS)
    if found.explanation.flow:
        print("\ngradients in units of relu's:")
        flow = [[item.name, item.before, item.after] for item in found.explanation.flow]
        print_table(FLOW_COLUMNS, flow, _DECIMALS)
