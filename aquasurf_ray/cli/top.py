"""The command that lists the best functions of a run: top."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from aquasurf_ray.cli.terminal.leaderboard import Board, print_board, print_leaderboard
from aquasurf_ray.cli.terminal.open_store import open_store
from aquasurf_ray.cli.terminal.options import AnyFormat, AsJson, RunName, Store
from aquasurf_ray.cli.terminal.output import Format


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command("top", epilog="Example: aquasurf top digits-1 -n 20 --format csv")(top)


def top(
    name: RunName,
    n: Annotated[
        int | None, typer.Option("-n", min=1, help="How many functions. Default: 10, with --pareto all.")
    ] = None,
    pareto: Annotated[
        bool, typer.Option("--pareto", help="Only those that no other function beats in both score and step time.")
    ] = False,
    form: AnyFormat = Format.table,
    store: Store = None,
    as_json: AsJson = False,
) -> None:
    """List the best functions of a run, with all baselines for comparison.

    A result is confirmed by trainings with other seeds than its own: the column `confirmed` is their mean. The ratios
    are a function's step time and activation memory beside relu's on the same device.
    """
    form = Format.json if as_json else form
    if pareto:
        print_front(name, store, n=n, form=form)
    else:
        print_leaderboard(name, store, n=n or 10, form=form)


def print_front(name: str, store: str | None, *, n: int | None, form: Format) -> None:
    """Prints the functions of a run that no other one beats in both score and step time, best first."""
    with open_store(store) as opened:
        run = opened.run(name)
        board = Board.of(opened, run, opened.pareto(run_id=run.id)[:n])
    if not board.rows:
        print(f"run '{name}' has no whole training of a function whose cost was measured", file=sys.stderr)
    print_board(board, form)
