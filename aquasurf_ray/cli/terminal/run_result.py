"""The beginning and the end of the commands that train: their configuration, and what they print of the run."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Any

from aquasurf_ray.cli.terminal.confirmation import print_confirmation, stored_confirmation
from aquasurf_ray.cli.terminal.leaderboard import print_leaderboard
from aquasurf_ray.cli.terminal.open_store import store_option
from aquasurf_ray.cli.terminal.output import Format, print_json
from aquasurf_ray.cli.terminal.run_document import run_document

if TYPE_CHECKING:
    from aquasurf_ray.driver.run.spec import RunResult
    from aquasurf_ray.driver.settings.models import SearchConfig


def config_of(settings: dict[str, Any], example: str) -> SearchConfig:
    """Return the command's configuration. Wrong settings are reported here, before anything heavy is loaded.

    Raises:
        BadUse: no task, an unknown one, or a wrong setting.
    """
    from aquasurf_ray.driver.errors import BadUse
    from aquasurf_ray.driver.settings.reading import make_config
    from aquasurf_ray.tasks.errors import TaskError
    from aquasurf_ray.tasks.registry import check_name

    # The model cannot require the task, because a configuration file may name it as well as the command line.
    if not settings.get("task"):
        raise BadUse(f"no task given; name one, for example: {example}")
    config = make_config(settings)
    try:
        check_name(config.task)
    # A misspelt name is found in the list of names, without importing PyTorch; a task of one's own is loaded later.
    except TaskError as error:
        raise BadUse(str(error)) from None
    return config


def print_result(result: RunResult, store: str | None, as_json: bool) -> None:
    """Print a run that has ended: its leaderboard, its confirmation, and what to do next."""
    if as_json:
        confirmed = {"confirmation": stored_confirmation(result.confirmation, store)} if result.confirmation else {}
        print_json(run_document(result.name, store) | confirmed)
        return
    print_leaderboard(result.name, store, n=10, form=Format.table)
    # The run is a confirmation itself, or a search that ended with one.
    confirmation = result.name if result.kind == "confirm" else result.confirmation
    if confirmation:
        print()
        print_confirmation(confirmation, store, as_json=False)
    print_next_steps(result, store)


def print_next_steps(result: RunResult, store: str | None) -> None:
    """Print what can be done with a run that has ended."""
    name, where = shlex.quote(result.name), store_option(store)
    next_steps = {f"aquasurf top {name} -n 20": "more of the table"}
    # Only a search has a budget; the other kinds end with their list of functions.
    if result.kind == "search":
        next_steps[f"aquasurf resume {name} --evaluations {2 * result.budget}"] = "continue with a larger budget"
    if result.kind != "confirm" and result.confirmation is None:
        next_steps[f"aquasurf confirm {name}"] = "retrain the winners with more seeds: real gain or luck?"
    next_steps['aquasurf query "SELECT * FROM leaderboard LIMIT 5"'] = "query the database"
    if result.best:
        next_steps[f"aquasurf show {shlex.quote(result.best[0])}"] = (
            "one function: its results, and why it was suggested"
        )
    next_steps = {command + where: use for command, use in next_steps.items()}
    width = max(map(len, next_steps))
    print()
    for command, use in next_steps.items():
        print(f"  {command:<{width}}  {use}")
