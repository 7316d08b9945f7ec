"""The command that writes the whole store as files: snapshot."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from aquasurf_ray.cli.terminal.open_store import open_store
from aquasurf_ray.cli.terminal.options import AsJson, Store
from aquasurf_ray.cli.terminal.output import print_json


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command("snapshot", epilog="Example: aquasurf snapshot -o snapshot-of-today")(snapshot)


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
