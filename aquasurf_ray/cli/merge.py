"""The command `merge`: copy another store into this one."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from aquasurf_ray.cli.terminal.commands import Commands
from aquasurf_ray.cli.terminal.output import print_json
from aquasurf_ray.cli.terminal.shared_parameters import AsJson, StoreOption

if TYPE_CHECKING:
    from collections.abc import Iterable

    from aquasurf_ray.store import MergedRun, MergeReport, OwnOperators

app = Commands()

# The singular of each count of a MergeReport, in the order of the printed line: what evaluations depend on comes first.
ONE_OF = {
    "tasks": "task",
    "functions": "function",
    "aliases": "alias",
    "evaluations": "evaluation",
    "spectra": "spectrum",
    "costs": "cost",
    "embeddings": "embedding",
}


@app.command(epilog="Example: aquasurf merge sqlite:///laptop.db --store sqlite:///team.db")
def merge(
    other: Annotated[str, typer.Argument(metavar="OTHER_STORE", help="Database URL of the store to copy from.")],
    rename: Annotated[
        list[str] | None,
        typer.Option(
            metavar="OPERATOR=NAME",
            help="Another name here for an operator of the other store that is your own, such as my_act=my_act_2.",
        ),
    ] = None,
    store: StoreOption = None,
    as_json: AsJson = False,
) -> None:
    """Copy everything from another store into this one.

    The other store is only read. Functions are matched by what they compute, tasks by their digests, runs by their
    event logs. No result is lost or stored twice, and merging again changes nothing. If a function of your own is
    another one in this store under the same name, nothing is merged until --rename gives it another name.
    """
    from aquasurf_ray.driver.settings.places import store_url
    from aquasurf_ray.store import Store as Opened
    from aquasurf_ray.store import check_mergeable

    operators = _own_operators(rename or ())
    check_mergeable(other)  # before this store is created
    with Opened.open(store_url(store)) as opened:
        report = opened.merge(other, _parameter_names, operators)
    if as_json:
        print_json(asdict(report))
    else:
        _print(report)


def _own_operators(rename: Iterable[str]) -> OwnOperators:
    """Return how a merge finds operators of somebody's own, and their new names.

    Raises:
        BadUse: one of the texts is not OPERATOR=NAME, or the name is none that an own operator may have.
    """
    from aquasurf_ray.activations.registry import MAX_NAME_LENGTH, own_operators_in
    from aquasurf_ray.driver.errors import BadUse
    from aquasurf_ray.store import OwnOperators

    renamed = {}
    for text in rename:
        old, _, new = text.partition("=")
        if {old, new} != own_operators_in(f"{old}({new}(x))") or old == new or len(new) > MAX_NAME_LENGTH:
            raise BadUse(
                "rename must be OPERATOR=NAME, two different names that are not built in, such as my_act=my_act_2, "
                f"got '{text}'"
            )
        renamed[old] = new
    return OwnOperators(own_operators_in, renamed)


def _parameter_names(one: str, other: str) -> dict[str, str]:
    # Imported here, because it loads PyTorch, and only functions with learned parameters need it.
    from aquasurf_ray.activations.learned import names_by_spelling

    return names_by_spelling(one, other)


def _print(report: MergeReport) -> None:
    added = [_counted(n, name) for name in ONE_OF if (n := getattr(report, name))]
    brought = f"brought in {', '.join(added)}" if added else "this store lacks nothing"
    print(f"{report.store}: {brought}")
    if report.results:
        print(f"{_counted(report.results, 'evaluations')} without a complete result here: the other store's was copied")
    if report.other_results:
        print(
            f"{_counted(report.other_results, 'evaluations')} with different results: this store keeps its own, "
            "and the other is in the event log of its run (other_result)"
        )
    for run in report.runs:
        print(f"run {run.was}: {_outcome_text(run)}")


def _counted(n: int, what: str) -> str:
    return f"{n:,} {ONE_OF[what] if n == 1 else what}"


def _outcome_text(run: MergedRun) -> str:
    if run.became == "alive":
        return "left out, since a driver is working on it; merge again when it has ended"
    called = f", named {run.name} here" if run.name != run.was else ""
    return {"new": "new", "further": "updated to its state there", "known": "already here"}[run.became] + called
