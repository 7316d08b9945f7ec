"""The command that draws one picture of a run: plot."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from aquasurf_ray.cli.terminal.findings import findings_of
from aquasurf_ray.cli.terminal.options import RunName, Store


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
    """Adds the command."""
    app.command("plot", epilog="Example: aquasurf plot digits-1 functions -o functions.svg")(plot)


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
    chart = KINDS[kind.value](findings_of(name, store))
    if chart is None:
        raise AnalysisError(f"run '{name}' has nothing to show of kind '{kind.value}' yet")
    draw(chart, output)
    print(f"{output} written: {chart.words}")
