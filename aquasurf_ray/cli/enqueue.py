"""The command `enqueue`: propose functions to a search."""

from __future__ import annotations

from typing import Annotated

import typer

from aquasurf_ray.analysis.studies.run_origin import how_to_continue
from aquasurf_ray.cli.terminal.commands import Commands
from aquasurf_ray.cli.terminal.open_store import open_store, store_option
from aquasurf_ray.cli.terminal.output import user_code
from aquasurf_ray.cli.terminal.shared_parameters import RunName, StoreOption

app = Commands()


@app.command(epilog="Example: aquasurf enqueue digits-1 'swish(negative(x))'")
def enqueue(
    name: RunName,
    functions: Annotated[list[str], typer.Argument(metavar="FUNCTION", help="Functions to train next.")],
    store: StoreOption = None,
) -> None:
    """Propose your own functions to a search, which trains them next."""
    from aquasurf_ray.driver import propose

    with user_code():
        proposals = propose(name, functions, store=store)
    for function, proposal in proposals:
        print(f"{function}: {'queued' if proposal.status == 'queued' else 'already ' + proposal.status}")
    n_queued = sum(proposal.status == "queued" for _, proposal in proposals)
    with open_store(store) as opened:
        run = opened.run(name)
    # A finished run has spent its budget, so it needs this many evaluations more.
    if n_queued and run.status == "finished" and run.budget is not None:
        again = how_to_continue(name, run.config, store_option(store), run.budget + n_queued)
        print(f"run '{name}' is finished; train them with: {again}")
