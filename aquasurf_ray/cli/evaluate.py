"""The command `evaluate`: train given functions."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from aquasurf_ray.cli.terminal.commands import Commands
from aquasurf_ray.cli.terminal.evaluation import print_evaluation
from aquasurf_ray.cli.terminal.paper_table import Table
from aquasurf_ray.cli.terminal.progress import progress
from aquasurf_ray.cli.terminal.run_result import config_of, print_next_steps, print_result
from aquasurf_ray.cli.terminal.settings import with_settings
from aquasurf_ray.cli.terminal.shared_parameters import AsJson, training_seeds
from aquasurf_ray.driver.settings.defaults import EVALUATE_SEEDS

app = Commands()


@app.command(epilog="Example: aquasurf evaluate 'mul(sigmoid(x),elu(x))' --task digits --seeds 3")
@with_settings("TrainingConditions", "task", "modules", "health_gate")
def evaluate(
    functions: Annotated[
        list[str],
        typer.Argument(
            metavar="FUNCTION", help="Functions, such as 'mul(sigmoid(x),elu(x))', names of the zoo, or zoo for all."
        ),
    ],
    settings: dict[str, Any],
    seeds: Annotated[int | None, training_seeds(EVALUATE_SEEDS)] = None,
    form: Annotated[
        Table | None,
        typer.Option(
            "--format",
            metavar="|".join(Table),
            help="Print means over the seeds with 95% intervals in this format. Default: table with several seeds.",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Train the given functions, without a search.

    With several seeds, the task's reference is trained too, and the table has the gains over it.

    `aquasurf evaluate zoo --task TASK --seeds 5 --format latex` compares all published functions that have names.
    Results that exist are reused, so another --format costs nothing.
    """
    config = config_of(settings, "aquasurf evaluate 'swish(x)' --task digits")
    # PyTorch and Ray take seconds to load, so only once the settings are known to be right.
    from aquasurf_ray.driver.verbs.evaluate import start_evaluation

    seeds = EVALUATE_SEEDS if seeds is None else seeds
    # Tables for papers are piped into files, so progress must not mix with them.
    with progress(as_json or form not in (None, Table.table)) as callbacks:
        result = start_evaluation(config, functions, config.task, seeds=seeds, callbacks=callbacks)
    if form is not None and not as_json:
        print_evaluation(result.name, config.store, form)
    elif seeds > 1 and not as_json:
        print_evaluation(result.name, config.store, Table.table)
        print_next_steps(result, config.store)
    else:
        print_result(result, config.store, as_json)
