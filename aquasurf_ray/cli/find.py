"""The command that looks for functions in a run: find."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from aquasurf_ray.cli.options import AnyFormat, AsJson, RunName, Store
from aquasurf_ray.cli.output import Format, print_rows
from aquasurf_ray.cli.results import open_store

if TYPE_CHECKING:
    import store as stored
    from aquasurf_ray.analysis.function_search import FoundFunction, KnownFunction

_SHAPES = "defined, bounded-below, bounded-above, monotone, odd, even, zero-at-zero, smooth, constant"
Operators = list[str] | None


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command("find", epilog="Example: aquasurf find digits-1 --contains erf --shape bounded-below")(find)


def find(
    name: RunName,
    contains: Annotated[Operators, typer.Option(help="Operator that it has; may be given several times.")] = None,
    without: Annotated[Operators, typer.Option(help="Operator that it has not; several times.")] = None,
    shape: Annotated[Operators, typer.Option(help=f"What its curve is: {_SHAPES}; several times.")] = None,
    not_shape: Annotated[Operators, typer.Option(help="What its curve is not; several times.")] = None,
    max_cost: Annotated[float | None, typer.Option(help="Largest training step, in units of relu's.")] = None,
    near: Annotated[str | None, typer.Option(help="Sort by nearness to this function.")] = None,
    trained: Annotated[bool, typer.Option("--trained", help="Only functions that came to a score.")] = False,
    n: Annotated[int, typer.Option("-n", min=1, help="How many functions.")] = 20,
    form: AnyFormat = Format.table,
    store: Store = None,
    as_json: AsJson = False,
) -> None:
    """Find functions among the candidates of a run and what it trained: by operators, shape, cost, or nearness.

    Nearness is the root mean square of the difference of two functions where a network's inputs lie at the start.
    """
    from aquasurf_ray.analysis.function_search import Wanted
    from aquasurf_ray.analysis.function_search import find as search
    from aquasurf_ray.driver.modules import import_modules

    wanted = Wanted(
        tuple(contains or ()), tuple(without or ()), tuple(shape or ()), tuple(not_shape or ()), max_cost, near
    )
    with open_store(store) as opened:
        run = opened.run(name)
        import_modules(run.config.get("modules") or ())
        metric, known = opened.task(run.task_id).metric, _known(opened, run)
    found = search((function for function in known if not trained or function.score is not None), wanted)
    columns = [f"val_{metric.name}", "time_ratio", *(["distance"] if near else []), "shape", "function"]
    rows = [[_cells(item, metric)[column] for column in columns] for item in found[:n]]
    print_rows(columns, rows, Format.json if as_json else form, decimals={"time_ratio": 2})


def _known(opened: stored.Store, run: stored.Run) -> list[KnownFunction]:
    """The best score of each function of the run, and its cost where it was measured."""
    from aquasurf_ray.analysis.function_search import KnownFunction

    names = {function.name: KnownFunction(function.name) for function in opened.candidates(run.id)}
    names |= {wish.function: KnownFunction(wish.function) for wish in opened.snapshot(run.id).evaluations}
    for row in reversed(opened.leaderboard(run_id=run.id)):
        names[row.function] = KnownFunction(row.function, row.score, row.time_ratio)
    return list(names.values())


def _cells(found: FoundFunction, metric: stored.TaskMetric) -> dict[str, Any]:
    shape = [name.replace("_", "-") for name, value in vars(found.shape).items() if value and name != "defined"]
    return {
        f"val_{metric.name}": metric.value(found.function.score),
        "time_ratio": found.function.time_ratio,
        "distance": found.distance,
        "shape": " ".join(shape),
        "function": found.function.name,
    }
