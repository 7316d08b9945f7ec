"""The command import: a benchmark that was trained elsewhere into the store."""

from __future__ import annotations

import shlex
import sys
from contextlib import redirect_stdout
from typing import TYPE_CHECKING, Annotated

import typer

from aquasurf_ray.cli.terminal.open_store import store_option
from aquasurf_ray.cli.terminal.options import AsJson, Modules, Store
from aquasurf_ray.cli.terminal.output import print_json
from aquasurf_ray.cli.terminal.progress import bar

if TYPE_CHECKING:
    from aquasurf_ray.driver.benchmarks.importing import ImportReport

SHOWN = 2


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command("import", epilog="Example: aquasurf import act-bench-digits --task digits")(import_file)


def import_file(
    file: Annotated[
        str,
        typer.Argument(
            help="An Act-Bench file (JSON), a benchmark in Parquet, or the name of a benchmark that is shipped."
        ),
    ],
    task: Annotated[str, typer.Option(help="What was trained: a task by name, or package.module:function.")],
    name: Annotated[str | None, typer.Option(help="Name of the run. Default: the file's.")] = None,
    modules: Modules = None,
    store: Store = None,
    as_json: AsJson = False,
) -> None:
    """Read a benchmark that was trained elsewhere into the store, as a finished run.

    status, top, show, query and export know it then. Searches do not take its results for trainings of their own.
    """
    from aquasurf_ray.driver.benchmarks.importing import import_benchmark

    with (
        bar("reading", silent=as_json) as progress,
        redirect_stdout(sys.stderr),
    ):  # modules and tasks are the user's code
        report = import_benchmark(file, task, name=name, store=store, modules=modules or (), progress=progress)
    if as_json:
        print_json(report.document())
    elif report.created:
        _print_report(report, store)
    else:
        print(f"{report.file} is known as run '{report.run}' of task {report.task}; nothing was changed")


def _print_report(report: ImportReport, store: str | None) -> None:
    print(f"{report.file} is now run '{report.run}' of task {report.task}: {_entries(report.entries)}")
    said = {
        "functions": f"{report.functions} different ones, {_entries(report.diverged)} diverged",
        "spectra": _lengths(report),
    }
    if report.left_out:
        said["left out"] = f"{_entries(report.left_out)} more, without any metric"
    if report.repeated:
        shown = _pairs(report.repeated_examples, "is")
        said["repeated"] = f"{_entries(report.repeated)} of a function that an earlier one is of: its seeds ({shown})"
    if report.unequal:
        shown = _pairs(report.unequal_examples, "is not")
        said["not equal"] = f"names called equal that are not here, but kept: {report.unequal} ({shown})"
    if report.missing:
        said["missing"] = ", ".join(f"{column} in {n}" for column, n in report.missing)
    if report.unknown:
        unknown = ", ".join(f"{title!a:.40} in {n}" for title, n in report.unknown)
        said["unknown"] = f"{unknown}; kept, and written by export"
    for key, text in said.items():
        print(f"  {key:<10} {text}")
    print(f"searches of {report.task} do not reuse these results, which were trained elsewhere; look at them with")
    print(f"  aquasurf top {shlex.quote(report.run)}{store_option(store)}")


def _entries(n: int) -> str:
    return f"{n} {'entry' if n == 1 else 'entries'}"


def _pairs(pairs: tuple[tuple[str, str], ...], verb: str) -> str:
    shown = [" ".join(f"{name:.60} {verb} {other:.60}".split()) for name, other in pairs[:SHOWN]]
    return ", ".join([*shown, "..."] if len(pairs) > SHOWN else shown)


def _lengths(report: ImportReport) -> str:
    """How many there are by kind; of an Act-Bench file the commonest length of a CDF, and how many differ from it."""
    if report.spectra:
        return ", ".join(f"{n} {fisher}" for fisher, n in report.spectra)
    lengths = dict(report.cdf_lengths)
    empty = lengths.pop(0, 0)
    if not lengths:
        return "none"
    usual = max(lengths, key=lambda length: (lengths[length], length))
    rest = sum(lengths.values()) - lengths[usual]
    others = ", ".join(str(length) for length in sorted(lengths) if length != usual)
    parts = [f"{lengths[usual]} of {usual} numbers"]
    parts += [f"{empty} empty"] if empty else []
    parts += [f"{rest} of other lengths ({others:.60})"] if rest else []
    return ", ".join(parts)
