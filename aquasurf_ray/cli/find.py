"""The command `find`: look for functions in a run."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from aquasurf_ray.activations.rendering import readable
from aquasurf_ray.analysis.studies.headline import confirmation_of
from aquasurf_ray.cli.terminal.commands import Commands
from aquasurf_ray.cli.terminal.leaderboard import what_ranks
from aquasurf_ray.cli.terminal.open_store import open_store
from aquasurf_ray.cli.terminal.output import Format, print_rows
from aquasurf_ray.cli.terminal.shared_parameters import AnyFormat, AsJson, ReaderModules, RunName, StoreOption
from aquasurf_ray.counted import counted
from aquasurf_ray.training_metrics import on_split

if TYPE_CHECKING:
    import aquasurf_ray.store as stored
    from aquasurf_ray.analysis.studies.confirmed_run import Confirmation
    from aquasurf_ray.analysis.studies.function_search import FoundFunction, FunctionFilter, KnownFunction

app = Commands()

_SHAPES = "defined, bounded-below, bounded-above, monotone, odd, even, zero-at-zero, smooth, constant"
_STATUSES = ("done", "diverged", "failed", "running", "queued")


@app.command(epilog="Example: aquasurf find digits-1 --contains erf --shape bounded-below")
def find(
    name: RunName,
    contains: Annotated[
        list[str] | None, typer.Option(metavar="OPERATOR", help="Operator that the function has; may be repeated.")
    ] = None,
    without: Annotated[
        list[str] | None, typer.Option(metavar="OPERATOR", help="Operator that the function lacks; may be repeated.")
    ] = None,
    shape: Annotated[
        list[str] | None,
        typer.Option(metavar="SHAPE", help=f"Property of the function's curve: {_SHAPES}; may be repeated."),
    ] = None,
    not_shape: Annotated[
        list[str] | None,
        typer.Option(metavar="SHAPE", help="Property that the function's curve lacks; may be repeated."),
    ] = None,
    max_cost: Annotated[
        float | None,
        typer.Option(
            metavar="RATIO",
            min=0,
            help="Longest training step relative to ReLU's; leaves out functions whose cost is not measured.",
        ),
    ] = None,
    near: Annotated[
        str | None, typer.Option(metavar="FUNCTION", help="Sort by distance to this function, the nearest first.")
    ] = None,
    trained: Annotated[bool, typer.Option("--trained", help="Only functions with a score.")] = False,
    n: Annotated[int, typer.Option("-n", metavar="N", min=1, help="Number of functions.")] = 20,
    form: AnyFormat = Format.table,
    modules: ReaderModules = None,
    store: StoreOption = None,
    as_json: AsJson = False,
) -> None:
    """Find functions of a run by operators, shape, cost or similarity.

    Searches the candidates of the run and the functions that it trained. The best come first, by the best of their
    seeds, or after a confirmation by the means in the column `confirmed`; with --near the nearest. The distance of two
    functions is the root mean square of their difference on standard normal inputs, which is what a network gives them
    before training.
    """
    from aquasurf_ray.analysis.studies.function_search import FunctionFilter
    from aquasurf_ray.analysis.studies.function_search import find as search
    from aquasurf_ray.driver.operator_origin import origins_told
    from aquasurf_ray.driver.user_modules import import_modules, register_operators_of

    import_modules(modules or ())
    with open_store(store) as opened:
        run = opened.run(name)
        register_operators_of(run)  # functions may contain them
        metric, confirmation = opened.task(run.task_id).metric, confirmation_of(opened, run, own=True)
        known = _known(opened, run, confirmation)
    wanted = FunctionFilter(
        tuple(contains or ()), tuple(without or ()), tuple(shape or ()), tuple(not_shape or ()), max_cost, near
    )
    considered = [function for function in known if not trained or function.score is not None]
    with origins_told([near] if near else [], store):
        found = search(considered, wanted)
    columns = [on_split(metric.name), "confirmed", "status", "time_ratio", *(["distance"] if near else []), "shape"]
    columns.append("function")
    rows = [_cells(item, metric, confirmation) for item in found[:n]]
    # People need no column of dashes; programs get the same columns for every run.
    if form is Format.table and not as_json:
        empty = {column for column in ("confirmed", "time_ratio") if all(row[column] is None for row in rows)}
        columns = [column for column in columns if column not in empty]
        rows = [row | {"function": readable(row["function"])} for row in rows]
    cells = [[row[column] for column in columns] for row in rows]
    print_rows(columns, cells, Format.json if as_json else form, decimals={"time_ratio": 2})
    if form is Format.table and not as_json:
        if confirmation is not None and rows and not near:
            print(f"\n{what_ranks(confirmation, rows)}")
        _print_counts(len(found), n, considered, wanted)
    _print_unreadable(considered)


def _print_counts(n_found: int, n: int, considered: list[KnownFunction], wanted: FunctionFilter) -> None:
    """Print to standard error how many functions were found, and how many have no measured cost."""
    shown = f"; the first {n} are shown" if n_found > n else ""
    unmeasured = sum(function.time_ratio is None for function in considered) if wanted.max_cost is not None else 0
    no_cost = f"; {unmeasured} have no measured cost" if unmeasured else ""
    print(f"{n_found} of {len(considered)} functions{shown}{no_cost}", file=sys.stderr)


def _print_unreadable(considered: list[KnownFunction]) -> None:
    """Print to standard error how many functions were left out because their operators are not known here."""
    from aquasurf_ray.analysis.studies.function_search import can_be_read

    unread = [function.name for function in considered if not can_be_read(function.name)]
    if unread:
        reason = "with operators that no module of the run registers"
        print(f"left out: {counted(len(unread), 'function')} {reason}, such as {unread[0]}", file=sys.stderr)


def _known(opened: stored.Store, run: stored.Run, confirmation: Confirmation | None) -> list[KnownFunction]:
    """Return the functions of the run with their best scores, their states, their costs where measured, and their
    means in the run's confirmation."""
    from aquasurf_ray.analysis.studies.function_search import KnownFunction
    from aquasurf_ray.analysis.studies.ranking import confirmed_means, ranked, read_board

    snapshot = opened.snapshot(run.id)
    names = {function.name: KnownFunction(function.name) for function in snapshot.candidates}
    # Of a function's several seeds, the state that comes first in _STATUSES is written last and stays.
    for status in reversed(_STATUSES):
        of_status = (request.function for request in snapshot.evaluations if request.evaluation.status == status)
        names |= {function: KnownFunction(function, status=status) for function in of_status}
    means = confirmed_means(confirmation)
    for row in ranked(read_board(opened, run, confirmation), confirmation):
        known = (row.score, row.time_ratio, "done", row.rank, means.get(row.function))
        names[row.function] = KnownFunction(row.function, *known)
    return list(names.values())


def _cells(found: FoundFunction, metric: stored.TaskMetric, confirmation: Confirmation | None) -> dict[str, Any]:
    measured = {} if found.shape is None else vars(found.shape)
    shape = [name.replace("_", "-") for name, value in measured.items() if value and name != "defined"]
    return {
        on_split(metric.name): metric.value(found.function.score),
        "confirmed": (confirmation.metric if confirmation else metric).value(found.function.confirmed),
        "status": found.function.status,
        "time_ratio": found.function.time_ratio,
        "distance": found.distance,
        "shape": " ".join(shape),
        "function": found.function.name,
    }
