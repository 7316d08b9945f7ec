"""Commands that read what is stored of runs: status, top, query. What is stored of one function is in `show`."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Annotated, Any

import typer

from aquasurf_ray.cli.options import AnyFormat, AsJson, RunName, Store
from aquasurf_ray.cli.output import Format, print_json, print_rows, print_table

if TYPE_CHECKING:
    import store as stored

LEADERBOARD_COLUMNS = ("rank", "val_accuracy", "test_accuracy", "val_loss", "seconds", "seed", "baseline", "function")
FAILURE_COLUMNS = ("function", "seed", "attempts", "error")


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    app.command("status", epilog="Example: aquasurf status digits-1")(status)
    app.command("top", epilog="Example: aquasurf top digits-1 -n 20 --format csv")(top)
    app.command("query", epilog='Example: aquasurf query "SELECT * FROM leaderboard LIMIT 5"')(query)


def status(
    name: Annotated[str | None, typer.Argument(help="Name of a run; all runs without it.")] = None,
    store: Store = None,
    as_json: AsJson = False,
) -> None:
    """Show how runs stand: progress, failures, best so far."""
    with open_store(store) as opened:
        runs = [opened.run(name)] if name else opened.runs()
        documents = [_status_document(opened.status(run.id)) for run in runs]
    if as_json:
        print_json(documents[0] if name else documents)
    elif name:
        _print_status(documents[0])
    elif documents:
        columns = ("run", "task", "status", "evaluations", "budget", "spectra", "failed", "best_score", "best_function")
        print_rows(columns, [[document[column] for column in columns] for document in documents], Format.table)
    else:
        print("no runs yet; start one with: aquasurf search digits")


def top(
    name: RunName,
    n: Annotated[int, typer.Option("-n", min=1, help="How many functions.")] = 10,
    form: AnyFormat = Format.table,
    store: Store = None,
) -> None:
    """List the best functions of a run, with all baselines for comparison."""
    print_leaderboard(name, store, n=n, form=form)


def query(
    sql: Annotated[str, typer.Argument(help="One SELECT; the database itself refuses anything that writes.")],
    form: AnyFormat = Format.table,
    store: Store = None,
) -> None:
    """Ask the database in SQL, read-only. Start with the views leaderboard, learning_curves, spectra_summary."""
    from aquasurf_ray.driver.config import store_url
    from store import read_only_query

    answer = read_only_query(store_url(store), sql)
    print_rows(answer.columns, answer.rows, form)


def open_store(url: str | None) -> stored.Store:
    """The store that must exist already: looking creates nothing."""
    from aquasurf_ray.driver.config import store_url
    from store import Store

    return Store.open(store_url(url), create=False)


def leaderboard_rows(name: str, store: str | None, n: int) -> list[dict[str, Any]]:
    """The best `n` functions of a run and all its baselines, best first, by column."""
    with open_store(store) as opened:
        rows = opened.leaderboard(run_id=opened.run(name).id)
    shown = [row for row in rows if row.rank <= n or row.baseline]
    return [{column: getattr(row, column) for column in LEADERBOARD_COLUMNS} for row in shown]


def print_leaderboard(name: str, store: str | None, *, n: int, form: Format) -> None:
    """Prints the best of a run."""
    rows = leaderboard_rows(name, store, n)
    if form is Format.table:
        for row in rows:
            row["baseline"] = "baseline" if row["baseline"] else ""
    print_rows(LEADERBOARD_COLUMNS, [list(row.values()) for row in rows], form, decimals={"seconds": 1})


def run_document(name: str, store: str | None) -> dict[str, Any]:
    """A run's state and its leaderboard."""
    with open_store(store) as opened:
        document = _status_document(opened.status(opened.run(name).id))
    return {**document, "leaderboard": leaderboard_rows(name, store, n=10)}


def _print_status(document: dict[str, Any]) -> None:
    failures = document.pop("failures")
    width = max(map(len, document))
    for key, value in document.items():
        print(f"{key.replace('_', ' '):<{width}}  {'-' if value is None else value}")
    if failures:
        print("\nfailed on their workers:")
        print_table(FAILURE_COLUMNS, [list(failure.values()) for failure in failures])


def _holder(run: stored.Run) -> str | None:
    """The process that holds the run, and whether it is known to have died."""
    from store import is_dead

    owner = run.lease_owner
    if owner is None:
        return None
    gone = f"; it has died, go on with: aquasurf resume {shlex.quote(run.name)}" if is_dead(owner) else ""
    return f"{owner.host} pid {owner.pid}{gone}"


def _status_document(status: stored.RunStatus) -> dict[str, Any]:
    run, counts = status.run, status.by_status
    return {
        "run": run.name,
        "kind": run.kind,
        "task": status.task.name,
        "status": run.status,
        "message": run.message,
        "evaluations": status.finished,
        "budget": run.budget,
        "baselines": sum(n for (origin, _), n in status.by_origin.items() if origin == "baseline"),
        "running": counts.get("running", 0),
        "queued": counts.get("queued", 0),
        "diverged": counts.get("diverged", 0),
        "failed": counts.get("failed", 0),
        "failures": [_failure_document(wish) for wish in status.failures],
        "reused": status.reused,
        "candidates": status.n_candidates,
        "spectra": status.spectra_done + status.spectra_diverged,
        "best_score": status.best.score if status.best else None,
        "best_function": status.best.function if status.best else None,
        "held_by": _holder(run),
        "seed": run.seed,
        "code_version": run.code_version,
        "created": run.created_at.isoformat(timespec="seconds"),
        "updated": run.updated_at.isoformat(timespec="seconds"),
    }


def _failure_document(wish: stored.RunEvaluation) -> dict[str, Any]:
    values = (wish.function, wish.evaluation.seed, wish.evaluation.attempts, wish.evaluation.error)
    return dict(zip(FAILURE_COLUMNS, values, strict=True))
