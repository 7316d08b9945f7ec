"""The command that stops a run: stop."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Annotated

import typer

from aquasurf_ray.cli.terminal.open_store import store_option
from aquasurf_ray.cli.terminal.options import AsJson, RunName, Store
from aquasurf_ray.cli.terminal.output import print_json

if TYPE_CHECKING:
    pass

STILL_THERE = frozenset({"silent"})


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    app.command("stop", epilog="Example: aquasurf stop digits-1 --wait")(stop)


def stop(
    name: RunName,
    wait: Annotated[bool, typer.Option("--wait", help="Until it has stopped.")] = False,
    store: Store = None,
    as_json: AsJson = False,
) -> None:
    """Stop a run from another shell or machine, in good order: what it trains goes on from a checkpoint at resume.

    Its driver looks for this about once a second, and ends within a minute. Exit code 1 if the driver gives no sign of
    life.
    """
    from aquasurf_ray.driver import request_stop

    answer = request_stop(name, store=store, wait=wait)
    if as_json:
        print_json({"run": answer.run, "state": answer.state, "text": answer.text})
    else:
        print(answer.text)
        if answer.state in ("dead", "not-running"):
            print(f"go on with: aquasurf resume {shlex.quote(name)}{store_option(store)}")
    if answer.state in STILL_THERE:
        raise typer.Exit(1)
