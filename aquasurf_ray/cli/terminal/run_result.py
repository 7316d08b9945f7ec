"""How the commands that train end: the task they are given, and what they print of the run."""

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


def task_of(options: dict[str, Any], example: str) -> str:
    """Takes the task out of the options. What is wrong with either is told before anything heavy is loaded."""
    from aquasurf_ray.driver.config import make_config
    from aquasurf_ray.driver.errors import BadUse
    from aquasurf_ray.tasks.errors import TaskError
    from aquasurf_ray.tasks.registry import check_name

    task = options.pop("task", None)
    if not task:
        raise BadUse(f"no task given; name one, for example: {example}")
    make_config({"task": task, **options})
    try:
        check_name(task)
    except TaskError as error:
        raise BadUse(str(error)) from None
    return str(task)


def print_result(result: RunResult, store: str | None, as_json: bool) -> None:
    """Print a run that has ended: its leaderboard, its confirmation, and what to do next."""
    if as_json:
        confirmed = {"confirmation": stored_confirmation(result.confirmation, store)} if result.confirmation else {}
        print_json(run_document(result.name, store) | confirmed)
        return
    print_leaderboard(result.name, store, n=10, form=Format.table)
    confirmation = result.name if result.kind == "confirm" else result.confirmation
    if confirmation:
        print()
        print_confirmation(confirmation, store, as_json=False)
    _print_next_steps(result, store)


def _print_next_steps(result: RunResult, store: str | None) -> None:
    name, where = shlex.quote(result.name), store_option(store)
    told = {f"aquasurf top {name} -n 20": "more of the table"}
    if result.kind == "search":
        told[f"aquasurf resume {name} --evaluations {2 * result.budget}"] = "go on with a larger budget"
    if result.kind != "confirm" and result.confirmation is None:
        told[f"aquasurf confirm {name}"] = "are the best better, or lucky? further seeds tell"
    told['aquasurf query "SELECT * FROM leaderboard LIMIT 5"'] = "ask the database"
    if result.best:
        told[f"aquasurf show {shlex.quote(result.best[0])}"] = "one function: results, and why it was suggested"
    told = {command + where: use for command, use in told.items()}
    width = max(map(len, told))
    print()
    for command, use in told.items():
        print(f"  {command:<{width}}  {use}")
