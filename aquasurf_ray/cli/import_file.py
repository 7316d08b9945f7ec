"""The command `import`: read a benchmark that was trained elsewhere into the store."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Annotated

import typer

from aquasurf_ray.cli.terminal.commands import Commands
from aquasurf_ray.cli.terminal.open_store import store_option
from aquasurf_ray.cli.terminal.output import print_json, user_code
from aquasurf_ray.cli.terminal.progress import bar
from aquasurf_ray.cli.terminal.shared_parameters import AsJson, Modules, StoreOption, TaskName

if TYPE_CHECKING:
    from aquasurf_ray.driver.benchmarks.importing import ImportReport

app = Commands()

SHOWN = 2  # examples of a kind in the report


@app.command("import", epilog="Example: aquasurf import act-bench-digits --task digits")
def import_file(
    file: Annotated[
        str,
        typer.Argument(
            metavar="FILE", help="Act-Bench file (JSON), benchmark in Parquet, or the name of an installed benchmark."
        ),
    ],
    task: TaskName,
    name: Annotated[
        str | None, typer.Option(metavar="NAME", help="Name of the run. Default: the name of the file.")
    ] = None,
    modules: Modules = None,
    store: StoreOption = None,
    as_json: AsJson = False,
) -> None:
    """Import a benchmark that was trained elsewhere, as a finished run.

    Afterwards status, top, show, query and export work on it. Searches do not reuse its results.
    """
    from aquasurf_ray.driver.benchmarks.importing import import_benchmark

    with bar("reading", silent=as_json) as progress, user_code():
        report = import_benchmark(file, task, name=name, store=store, modules=modules or (), progress=progress)
    if as_json:
        print_json(report.document())
    elif report.created:
        _print_report(report, store)
    else:
        print(f"{report.file} was imported before as run '{report.run}' of task {report.task}; nothing has changed")


def _print_report(report: ImportReport, store: str | None) -> None:
    print(f"{report.file} is now run '{report.run}' of task {report.task}: {_entries(report.entries)}")
    lines = {
        "functions": f"{report.functions} distinct functions, {_entries(report.diverged)} diverged",
        "spectra": _lengths(report),
    }
    if report.left_out:
        lines["left out"] = f"{_entries(report.left_out)} more, without any metric"
    if report.repeated:
        shown = _pairs(report.repeated_examples, "is")
        lines["repeated"] = (
            f"{_entries(report.repeated)} of a function that occurred before, kept as its seeds ({shown})"
        )
    if report.unequal:
        shown = _pairs(report.unequal_examples, "is not")
        lines["not equal"] = f"{report.unequal} names that the file calls equal but that differ here, kept ({shown})"
    if report.missing:
        lines["missing"] = ", ".join(f"{column} in {n}" for column, n in report.missing)
    if report.unknown:
        # Titles may be any text: escaped, so that they cannot control the terminal, and cut to a readable length.
        unknown = ", ".join(f"{title!a:.40} in {n}" for title, n in report.unknown)
        lines["unknown"] = f"{unknown}; kept, and written by export"
    for key, text in lines.items():
        print(f"  {key:<10} {text}")
    print(f"searches of {report.task} do not reuse these results, since they were trained elsewhere; list them with")
    print(f"  aquasurf top {shlex.quote(report.run)}{store_option(store)}")


def _entries(n: int) -> str:
    return f"{n} {'entry' if n == 1 else 'entries'}"


def _pairs(pairs: tuple[tuple[str, str], ...], verb: str) -> str:
    shown = [" ".join(f"{name:.60} {verb} {other:.60}".split()) for name, other in pairs[:SHOWN]]
    return ", ".join([*shown, "..."] if len(pairs) > SHOWN else shown)


def _lengths(report: ImportReport) -> str:
    """Return the number of spectra by kind; for an Act-Bench file, the commonest length of a CDF and the exceptions."""
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
