"""The command `evaluate`: train given functions."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from aquasurf_ray.cli.terminal.commands import Commands
from aquasurf_ray.cli.terminal.options import AsJson, TrainingSeeds
from aquasurf_ray.cli.terminal.progress import progress
from aquasurf_ray.cli.terminal.run_result import print_result, task_of
from aquasurf_ray.cli.terminal.settings import with_settings

app = Commands()


@app.command(epilog="Example: aquasurf evaluate 'mul(sigmoid(x),elu(x))' --task digits --seeds 3")
@with_settings("TrainingConditions", "task", "modules", "health_gate")
def evaluate(
    functions: Annotated[
        list[str], typer.Argument(metavar="FUNCTION", help="Functions, such as 'mul(sigmoid(x),elu(x))'.")
    ],
    settings: dict[str, Any],
    seeds: TrainingSeeds = None,
    as_json: AsJson = False,
) -> None:
    """Train the given functions, without a search."""
    task = task_of(settings, "aquasurf evaluate 'swish(x)' --task digits")
    from aquasurf_ray.driver import evaluate as train

    with progress(as_json) as callbacks:
        result = train(functions, task, seeds=1 if seeds is None else seeds, callbacks=callbacks, **settings)
    print_result(result, settings.get("store"), as_json)
