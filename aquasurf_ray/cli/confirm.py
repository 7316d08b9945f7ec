"""The command `confirm`: retrain the best functions of a run with additional seeds, each at its best learning rate."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from aquasurf_ray.cli.terminal.commands import Commands
from aquasurf_ray.cli.terminal.confirmation import print_confirmation
from aquasurf_ray.cli.terminal.progress import progress
from aquasurf_ray.cli.terminal.settings import with_settings
from aquasurf_ray.cli.terminal.shared_parameters import RUN_PANEL, AsJson, RunName, Top
from aquasurf_ray.driver.settings.defaults import CONFIRM_SEEDS, CONFIRM_TOP

app = Commands()


@app.command(epilog="Example: aquasurf confirm digits-1 --top 5 --seeds 5 --learning-rates 0.5,1,2")
@with_settings(
    "TrainingConditions", "learning_rates", "tune", "rate_seeds", "judged_baselines", "judge", defaults=False
)
def confirm(
    name: RunName,
    settings: dict[str, Any],
    top: Top = CONFIRM_TOP,
    seeds: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            rich_help_panel=RUN_PANEL,
            help=f"Additional seeds for each function. Default: {CONFIRM_SEEDS}.",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Retrain the best functions of a run with more seeds: real gain or luck?

    Trains them and the baselines with additional seeds, and says in one sentence whether a function beats the
    reference. The seed that the functions were selected on is left out, since the best of many noisy trainings is
    partly luck. With --learning-rates, each function is judged at its best one, and baselines get as many trainings
    for the choice as winners. Settings that are not given keep the run's values.
    """
    # The driver loads PyTorch and Ray, which take seconds, so not at the top of the file: help must come at once.
    from aquasurf_ray.driver import confirm as start

    seeds = CONFIRM_SEEDS if seeds is None else seeds
    with progress(as_json) as callbacks:
        result = start(name, top=top, seeds=seeds, progress=False, callbacks=callbacks, **settings)
    print_confirmation(result.name, settings.get("store"), as_json)
