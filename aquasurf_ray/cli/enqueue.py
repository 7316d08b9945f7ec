"""The command that proposes functions to a search: enqueue."""

from __future__ import annotations

import shlex
import sys
from contextlib import redirect_stdout
from typing import Annotated

import typer

from aquasurf_ray.cli.terminal.open_store import open_store
from aquasurf_ray.cli.terminal.options import RunName, Store


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command("enqueue", epilog="Example: aquasurf enqueue digits-1 'swish(negative(x))'")(enqueue)


def enqueue(
    name: RunName,
    functions: Annotated[list[str], typer.Argument(help="Functions to train next.")],
    store: Store = None,
) -> None:
    """Propose functions of your own to a search; it trains them next."""
    from aquasurf_ray.driver import propose

    with redirect_stdout(sys.stderr):  # a run's modules are the user's code and may print
        proposals = propose(name, functions, store=store)
    for function, proposal in proposals:
        print(f"{function}: {'queued' if proposal.status == 'queued' else 'is ' + proposal.status + ' already'}")
    n_queued = sum(proposal.status == "queued" for _, proposal in proposals)
    with open_store(store) as opened:
        run = opened.run(name)
    if n_queued and run.status == "finished" and run.budget is not None:
        command = f"aquasurf resume {shlex.quote(name)} --evaluations {run.budget + n_queued}"
        print(f"run '{name}' is finished; train them with: {command}")
