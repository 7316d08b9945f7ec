"""Commands that write files: export, snapshot."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from aquasurf_ray.cli.terminal.open_store import open_store
from aquasurf_ray.cli.terminal.options import AsJson, RunName, Store
from aquasurf_ray.cli.terminal.output import print_json


class ExportFormat(StrEnum):
    """What a run can be written as."""

    act_bench = "act-bench"
    csv = "csv"
    parquet = "parquet"


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    app.command("export", epilog="Example: aquasurf export digits-1 --format csv -o digits-1.csv")(export)
    app.command("snapshot", epilog="Example: aquasurf snapshot -o snapshot-of-today")(snapshot)


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


def snapshot(
    output: Annotated[Path, typer.Option("-o", "--output", help="The folder to make.")],
    store: Store = None,
    as_json: AsJson = False,
) -> None:
    """Write all views and tables of the store as Parquet files, with a README of the columns, for DuckDB and others."""
    with open_store(store) as opened:
        counts = opened.write_snapshot(output)
    if as_json:
        print_json({"folder": str(output), "rows": counts})
    else:
        n_rows = sum(counts.values())
        print(f"{len(counts)} views and tables with {n_rows} rows written to {output}; its README tells the columns")
