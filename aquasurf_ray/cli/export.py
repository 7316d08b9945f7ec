"""The command `export`: a run's evaluations as a file."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from aquasurf_ray.cli.terminal.commands import Commands
from aquasurf_ray.cli.terminal.shared_parameters import RunName, StoreOption
from aquasurf_ray.counted import counted

app = Commands()


class ExportFormat(StrEnum):
    """The formats that a run can be written in."""

    act_bench = "act-bench"
    csv = "csv"
    parquet = "parquet"


@app.command(epilog="Example: aquasurf export digits-1 --format csv -o digits-1.csv")
def export(
    name: RunName,
    form: Annotated[
        ExportFormat,
        typer.Option("--format", metavar="|".join(ExportFormat), help="Format of the file; act-bench is JSON."),
    ],
    output: Annotated[
        Path, typer.Option("-o", "--output", metavar="FILE", help="File to write; an existing one is replaced.")
    ],
    store: StoreOption = None,
) -> None:
    """Write a run's evaluations to a file."""
    from aquasurf_ray.driver.benchmarks.export import export_run

    n = export_run(name, form.value, output, store)
    print(f"{counted(n, 'function')} written to {output}")
