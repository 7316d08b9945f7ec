"""Commands that read what is stored of runs: status, top. What is stored of one function is in `show`."""

from __future__ import annotations

import shlex
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from aquasurf_ray.cli.stop import activity_document, print_activity
from aquasurf_ray.cli.terminal.leaderboard import Board, print_board
from aquasurf_ray.cli.terminal.open_store import open_store, store_option
from aquasurf_ray.cli.terminal.options import AnyFormat, AsJson, RunName, Store
from aquasurf_ray.cli.terminal.output import Format, print_json, print_rows, print_table

if TYPE_CHECKING:
    import aquasurf_ray.store as stored

OVERVIEW_COLUMNS = (
    *("run", "task", "status", "evaluations", "budget", "spectra", "failed"),
    *("metric", "best", "best_function"),
)
FAILURE_COLUMNS = ("function", "seed", "attempts", "error")
DIVERGENCE_COLUMNS = ("function", "seed", "reason")
DIVERGENCES_SHOWN = 50  # a benchmark has thousands


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    app.command("status", epilog="Example: aquasurf status digits-1")(status)
    app.command("top", epilog="Example: aquasurf top digits-1 -n 20 --format csv")(top)


def status(
    name: Annotated[str | None, typer.Argument(help="Name of a run; all runs without it.")] = None,
    store: Store = None,
    as_json: AsJson = False,
) -> None:
    """Show how runs stand: progress, failures, best so far; of one run also its driver and its workers."""
    where = store_option(store)
    with open_store(store) as opened:
        runs = [opened.run(name)] if name else opened.runs()
        documents = [_status_document(opened.status(run.id), where) for run in runs]
        now = {}
        if name:
            now = activity_document(opened.activity(runs[0].id), opened.failure_causes(runs[0].id))
    if as_json:
        print_json(documents[0] | now if name else documents)
    elif name:
        _print_status(documents[0])
        print_activity(now)
    elif documents:
        rows = [[document[column] for column in OVERVIEW_COLUMNS] for document in documents]
        print_rows(OVERVIEW_COLUMNS, rows, Format.table)
    else:
        print("no runs yet; start one with: aquasurf search digits")


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


def print_leaderboard(name: str, store: str | None, *, n: int, form: Format) -> None:
    """Prints the best of a run."""
    with open_store(store) as opened:
        run = opened.run(name)
        board = Board.of(opened, run, _best(opened, run, n))
    print_board(board, form)


def print_front(name: str, store: str | None, *, n: int | None, form: Format) -> None:
    """Prints the functions of a run that no other one beats in both score and step time, best first."""
    with open_store(store) as opened:
        run = opened.run(name)
        board = Board.of(opened, run, opened.pareto(run_id=run.id)[:n])
    if not board.rows:
        print(f"run '{name}' has no whole training of a function whose cost was measured", file=sys.stderr)
    print_board(board, form)


def _best(opened: stored.Store, run: stored.Run, n: int) -> list[stored.LeaderboardRow]:
    """The best `n` functions of a run and all its baselines, best first."""
    return [row for row in opened.leaderboard(run_id=run.id) if row.rank <= n or row.baseline]


def run_document(name: str, store: str | None) -> dict[str, Any]:
    """A run's state and its leaderboard."""
    with open_store(store) as opened:
        run = opened.run(name)
        status, board = opened.status(run.id), Board.of(opened, run, _best(opened, run, 10))
    return {**_status_document(status, store_option(store)), "leaderboard": board.documents()}


def _print_status(document: dict[str, Any]) -> None:
    failures, divergences = document["failures"], document["divergences"]
    said = {f"best {document['metric']}" if key == "best" else key.replace("_", " "): v for key, v in document.items()}
    for known in ("failures", "divergences", "metric", "best score"):
        del said[known]
    width = max(map(len, said))
    for key, value in said.items():
        shown = "-" if value is None else f"{value:.4g}" if isinstance(value, float) else value
        print(f"{key:<{width}}  {shown}")
    if failures:
        print("\nfailed on their workers:")
        print_table(FAILURE_COLUMNS, [list(failure.values()) for failure in failures])
    if divergences:
        print("\ndiverged:")
        print_table(DIVERGENCE_COLUMNS, [list(divergence.values()) for divergence in divergences[:DIVERGENCES_SHOWN]])
    if len(divergences) > DIVERGENCES_SHOWN:
        run = shlex.quote(f"run={document['run']}")
        print(
            f"and {len(divergences) - DIVERGENCES_SHOWN} more; by reason: aquasurf query --example diverged --set {run}"
        )


def _holder(run: stored.Run, where: str) -> str | None:
    """The process that holds the run, and whether it is known to have died; `where` is added to what to type then."""
    from aquasurf_ray.store import is_dead

    owner = run.lease_owner
    if owner is None:
        return None
    gone = f"; it has died, go on with: aquasurf resume {shlex.quote(run.name)}{where}" if is_dead(owner) else ""
    return f"{owner.host} pid {owner.pid}{gone}"


def _status_document(status: stored.RunStatus, where: str) -> dict[str, Any]:
    run, counts, metric = status.run, status.by_status, status.task.metric
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
        "failures": [_failure_document(request) for request in status.failures],
        "divergences": [_divergence_document(request) for request in status.divergences],
        "exhausted": status.exhausted,
        "reused": status.reused,
        "stopped_early": status.stopped_early,
        "candidates": status.n_candidates,
        "spectra": status.spectra_done + status.spectra_diverged,
        "metric": metric.name,
        "best": metric.value(status.best.score) if status.best else None,
        "best_score": status.best.score if status.best else None,
        "best_function": status.best.function if status.best else None,
        "held_by": _holder(run, where),
        "seed": run.seed,
        "code_version": run.code_version,
        "created": run.created_at.isoformat(timespec="seconds"),
        "updated": run.updated_at.isoformat(timespec="seconds"),
    }


def _failure_document(request: stored.RequestedEvaluation) -> dict[str, Any]:
    values = (request.function, request.evaluation.seed, request.evaluation.attempts, request.evaluation.error)
    return dict(zip(FAILURE_COLUMNS, values, strict=True))


def _divergence_document(request: stored.RequestedEvaluation) -> dict[str, Any]:
    values = (request.function, request.evaluation.seed, request.evaluation.reason)
    return dict(zip(DIVERGENCE_COLUMNS, values, strict=True))
