"""The command that writes a run to a file: export."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from aquasurf_ray.cli.terminal.options import RunName, Store


class ExportFormat(StrEnum):
    """What a run can be written as."""

    act_bench = "act-bench"
    csv = "csv"
    parquet = "parquet"


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command("export", epilog="Example: aquasurf export digits-1 --format csv -o digits-1.csv")(export)


def export(
    name: RunName,
    form: Annotated[ExportFormat, typer.Option("--format", help="act-bench (JSON), csv or parquet.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="The file to write; it is replaced as a whole.")],
    store: Store = None,
) -> None:
    """Write a run's evaluations to a file."""
    from aquasurf_ray.driver.benchmarks.export import export_run

    n = export_run(name, form.value, output, store)
    print(f"{n} functions written to {output}")
