"""Commands that show a run as pictures: report, watch, plot."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from aquasurf_ray.cli.terminal.open_store import open_store
from aquasurf_ray.cli.terminal.options import RunName, Store

if TYPE_CHECKING:
    import aquasurf_ray.store as stored
    from aquasurf_ray.analysis.report import Findings


class Kind(StrEnum):
    """The pictures, by what they show; those of `analysis.report.KINDS`."""

    progress = "progress"
    map = "map"
    functions = "functions"
    confirmed = "confirmed"
    cost = "cost"
    learning = "learning"
    predictions = "predictions"
    spectra = "spectra"
    failures = "failures"
    usage = "usage"


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    app.command("report", epilog="Example: aquasurf report digits-1 -o report.html")(report)
    app.command("watch", epilog="Example: aquasurf watch digits-1")(watch)
    app.command("plot", epilog="Example: aquasurf plot digits-1 functions -o functions.svg")(plot)


def report(
    name: RunName,
    output: Annotated[Path, typer.Option("-o", "--output", help="The file to write; it is replaced as a whole.")],
    store: Store = None,
) -> None:
    """Write a run as one page of HTML that opens offline: curves, maps, the best functions, costs, failures.

    The maps of candidates are made by UMAP, which takes up to a minute the first time.
    """
    from aquasurf_ray.analysis.output_file import check_place, write_file
    from aquasurf_ray.analysis.report import document, page

    check_place(output)  # before the maps, which take up to a minute
    data = page(document(_findings(name, store))).encode()
    write_file(output, data)
    print(f"{output} written, {len(data) / 1e6:.1f} MB")


def watch(
    name: RunName,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port of this machine; 0 takes a free one.")] = 0,
    store: Store = None,
) -> None:
    """Serve the page of a run to this machine's browser, up to date while the run goes on; Ctrl-C ends it."""
    from aquasurf_ray.analysis.report.server import LiveReport, server
    from aquasurf_ray.driver.errors import BadUse

    with open_store(store) as opened:
        again = _again(opened, name)
        try:
            serving = server(LiveReport(opened, name, again), port)
        except OSError as error:
            raise BadUse(f"port: {port} cannot be listened on: {error.strerror or error}") from None
        with serving:
            print(f"http://127.0.0.1:{serving.server_address[1]}/ shows run '{name}'; Ctrl-C ends", file=sys.stderr)
            serving.serve_forever()


def plot(
    name: RunName,
    kind: Annotated[Kind, typer.Argument(help="What to show.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="The file: .png, .svg, .pdf.")],
    store: Store = None,
) -> None:
    """Draw one picture of a run's report into a file for a paper."""
    from aquasurf_ray.analysis.errors import AnalysisError
    from aquasurf_ray.analysis.replay.curves import check_format
    from aquasurf_ray.analysis.report import KINDS, draw

    check_format(output)
    chart = KINDS[kind.value](_findings(name, store))
    if chart is None:
        raise AnalysisError(f"run '{name}' has nothing to show of kind '{kind.value}' yet")
    draw(chart, output)
    print(f"{output} written: {chart.words}")


def _findings(name: str, store: str | None) -> Findings:
    from aquasurf_ray.analysis.report import read_findings

    with open_store(store) as opened:
        return read_findings(opened, name, _again(opened, name))


def _again(opened: stored.Store, name: str) -> str:
    """The command that makes the run again; its own operators are registered on the way, for its functions' curves."""
    from aquasurf_ray.driver.user_modules import import_modules
    from aquasurf_ray.driver.verbs.repeat_command import command_of

    run = opened.run(name)
    import_modules(run.config.get("modules") or ())
    return command_of(run)
