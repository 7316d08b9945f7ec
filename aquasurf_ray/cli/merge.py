"""The command merge: another store into this one."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from aquasurf_ray.cli.terminal.options import AsJson, Store
from aquasurf_ray.cli.terminal.output import print_json

if TYPE_CHECKING:
    from aquasurf_ray.store import MergedRun, MergeReport

ONE_OF = {
    "tasks": "task",
    "functions": "function",
    "aliases": "alias",
    "evaluations": "evaluation",
    "spectra": "spectrum",
    "costs": "cost",
    "embeddings": "embedding",
}


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command("merge", epilog="Example: aquasurf merge sqlite:///laptop.db --store sqlite:///team.db")(merge)


def merge(
    other: Annotated[str, typer.Argument(metavar="OTHER_STORE", help="Database URL of the store to bring in.")],
    store: Store = None,
    as_json: AsJson = False,
) -> None:
    """Bring another store into this one; the other one is only read.

    Functions meet by what they compute, tasks by their digest, runs by what their logs say. A result is never lost and
    never there twice. Doing it again changes nothing.
    """
    from aquasurf_ray.driver.config import store_url
    from aquasurf_ray.store import Store as Opened
    from aquasurf_ray.store import check_mergeable

    check_mergeable(other)  # before a store is made to merge it into
    with Opened.open(store_url(store)) as opened:
        report = opened.merge(other)
    if as_json:
        print_json(asdict(report))
    else:
        _print(report)


def _print(report: MergeReport) -> None:
    added = [_counted(n, name) for name in ONE_OF if (n := getattr(report, name))]
    brought = f"brought in {', '.join(added)}" if added else "there is nothing that this store lacks"
    print(f"{report.store}: {brought}")
    if report.results:
        print(f"{_counted(report.results, 'evaluations')} that had no whole result here: the other store's was taken")
    if report.other_results:
        print(
            f"{_counted(report.other_results, 'evaluations')} with another result there: this store's stays, "
            "the other is in the log of its run (event other_result)"
        )
    for run in report.runs:
        print(f"run {run.was}: {_fate(run)}")


def _counted(n: int, what: str) -> str:
    return f"{n:,} {ONE_OF[what] if n == 1 else what}"


def _fate(run: MergedRun) -> str:
    if run.became == "alive":
        return "left out, a driver works on it; merge again when it has ended"
    called = f", named {run.name} here" if run.name != run.was else ""
    return {"new": "new", "further": "brought to its state there", "known": "known"}[run.became] + called
