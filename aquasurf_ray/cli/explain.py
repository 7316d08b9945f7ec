"""The command `explain`: how a network uses a function."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from aquasurf_ray.cli.terminal.commands import Commands
from aquasurf_ray.cli.terminal.output import print_json, print_table, user_code
from aquasurf_ray.cli.terminal.shared_parameters import AsJson, Function, Modules, TaskName, TaskSeed
from aquasurf_ray.training_metrics import on_split
from aquasurf_ray.value_text import value_text

if TYPE_CHECKING:
    from aquasurf_ray.driver.examine.function_explanation import Explained

app = Commands()

COLUMNS = ("layer", "moment", "linear", "curved", "saturated", "rectified", "mean", "spread")
FLOW_COLUMNS = ("weight", "before training", "after training")
_DECIMALS = dict.fromkeys((*COLUMNS, *FLOW_COLUMNS), 2)


@app.command(epilog="Example: aquasurf explain 'mul(erf(x),erfc(x))' --task digits -o explain.png")
def explain(
    function: Function,
    task: TaskName,
    seed: TaskSeed = 0,
    output: Annotated[
        Path | None,
        typer.Option(
            "-o", "--output", metavar="FILE", help="Picture of each layer's inputs over the curve: .png, .svg or .pdf."
        ),
    ] = None,
    modules: Modules = None,
    as_json: AsJson = False,
) -> None:
    """Show which part of a function's curve each layer of a network uses.

    Trains the function and the task's reference and compares them before and after training. A layer's inputs lie on a
    straight part of the curve, on a bend, where it is flat (saturated), or where it is flat and near zero (rectified).
    Flat means a slope below a tenth of 1, or of the layer's largest slope if that is smaller. Gradients with respect to
    the weights are relative to the reference's in the same layer, and those of the reference itself to ReLU's. Of a
    function per role, each layer has that of its role.
    """
    from aquasurf_ray.analysis.output_file import check_picture
    from aquasurf_ray.analysis.report import draw
    from aquasurf_ray.driver.examine.function_explanation import explain_function
    from aquasurf_ray.driver.user_modules import import_modules

    if output is not None:
        check_picture(output)
    # First the modules, because the function may be made of operators that they register.
    import_modules(modules or ())
    with user_code():
        found = explain_function(function, task, seed=seed, on_epoch=_print_epoch)
    if as_json:
        print_json({"task": task, "seed": seed, **_document(found)})
    else:
        _print(found)
    if output is not None:
        draw(found.chart, output)
        print(f"{output} written", file=sys.stderr)


def _print_epoch(function: str, epoch: int, seconds: float) -> None:
    # On standard error, like all progress, so that --json can be piped.
    print(f"{function}: epoch {epoch} done, {seconds:.1f} s", file=sys.stderr)


def _document(found: Explained) -> dict[str, Any]:
    return {"words": found.words, on_split(found.metric): found.value, **asdict(found.explanation)}


def _print(found: Explained) -> None:
    print(f"{found.words}\n\n{on_split(found.metric)} {value_text(found.value)}\n")
    has_roles = any(layer.role for layer in found.explanation.layers)
    rows = []
    for layer in found.explanation.layers:
        for moment, use in (("before", layer.before), ("after", layer.after)):
            shares = [getattr(use, column) for column in COLUMNS[2:]]
            rows.append([*([layer.role] if has_roles else []), layer.name, moment, *shares])
    print_table(("role", *COLUMNS) if has_roles else COLUMNS, rows, _DECIMALS)
    if found.explanation.flow:
        print(f"\ngradients relative to those with {found.explanation.reference}:")
        flow = [[item.name, item.before, item.after] for item in found.explanation.flow]
        print_table(FLOW_COLUMNS, flow, _DECIMALS)
