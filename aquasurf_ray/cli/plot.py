"""The command `plot`: one picture of a run."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from aquasurf_ray.cli.terminal.commands import Commands
from aquasurf_ray.cli.terminal.findings import findings_of
from aquasurf_ray.cli.terminal.shared_parameters import RunName, StoreOption

app = Commands()


class Kind(StrEnum):
    """The pictures of a run; written out here, because `analysis.report.KINDS` loads slowly."""

    progress = "progress"
    confirmed = "confirmed"
    rates = "rates"
    functions = "functions"
    roles = "roles"
    cost = "cost"
    learning = "learning"
    learned = "learned"
    map = "map"
    predictions = "predictions"
    spectra = "spectra"
    failures = "failures"
    usage = "usage"


@app.command(epilog="Example: aquasurf plot digits-1 functions -o functions.svg")
def plot(
    name: RunName,
    kind: Annotated[Kind, typer.Argument(metavar="KIND", help=f"Picture to draw: {', '.join(Kind)}.")],
    output: Annotated[Path, typer.Option("-o", "--output", metavar="FILE", help="File to write: .png, .svg or .pdf.")],
    store: StoreOption = None,
) -> None:
    """Draw one picture of a run's report into a file."""
    from aquasurf_ray.analysis.errors import AnalysisError
    from aquasurf_ray.analysis.output_file import check_picture
    from aquasurf_ray.analysis.report import KINDS, draw

    check_picture(output)
    chart = KINDS[kind.value](findings_of(name, store))
    if chart is None:
        # Not an empty picture: a run without confirmation or learned parameters never has these data.
        raise AnalysisError(
            f"run '{name}' has no data for the picture '{kind.value}' yet; draw another, or resume the run"
        )
    draw(chart, output)
    print(f"{output} written: {chart.words}")
