"""The command `top`: the best functions of a run."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from aquasurf_ray.analysis.studies.headline import confirmation_of
from aquasurf_ray.cli.terminal.commands import Commands
from aquasurf_ray.cli.terminal.leaderboard import Board, print_board, print_leaderboard
from aquasurf_ray.cli.terminal.open_store import open_store
from aquasurf_ray.cli.terminal.output import Format
from aquasurf_ray.cli.terminal.shared_parameters import AnyFormat, AsJson, RunName, StoreOption

app = Commands()


@app.command(epilog="Example: aquasurf top digits-1 -n 20 --format csv")
def top(
    name: RunName,
    n: Annotated[
        int | None,
        typer.Option("-n", metavar="N", min=1, help="Number of functions. Default: 10, or all with --pareto."),
    ] = None,
    pareto: Annotated[
        bool,
        typer.Option(
            "--pareto",
            help="Only functions that no other function beats in both score and step time; after a confirmation, only "
            "confirmed functions, which no other confirmed function beats.",
        ),
    ] = False,
    form: AnyFormat = Format.table,
    store: StoreOption = None,
    as_json: AsJson = False,
) -> None:
    """List the best functions of a run, and all baselines for comparison.

    After a confirmation, functions are ranked by their confirmed means, on the split that judged, which are in the
    column `confirmed`; functions without one follow, by their validation scores. Without a confirmation, `confirmed`
    is the mean of the trainings with seeds other than the row's own. `time_ratio` and `memory_ratio` are training-step
    time and activation memory relative to ReLU on the same device. The reference is the baseline that gains are over.
    """
    form = Format.json if as_json else form
    if pareto:
        _print_front(name, store, n=n, form=form)
    else:
        print_leaderboard(name, store, n=n or 10, form=form)


def _print_front(name: str, store: str | None, *, n: int | None, form: Format) -> None:
    from aquasurf_ray.analysis.studies.ranking import confirmed_front, confirmed_means, read_board

    with open_store(store) as opened:
        run = opened.run(name)
        confirmation = confirmation_of(opened, run, own=True)
        rows = confirmed_front(read_board(opened, run, confirmation), confirmation)
        board = Board.of(opened, run, rows[:n], confirmation)
    if not board.rows:
        print(f"run '{name}' has no complete training of a function with a measured cost", file=sys.stderr)
    print_board(board, form)
    confirmed = confirmed_means(confirmation)
    if form is Format.table and any(row.function in confirmed for row in board.rows):
        print("--pareto compares confirmed functions only; the others, with the luck of one training, are left out")
