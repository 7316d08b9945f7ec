"""The command `snapshot`: the whole store as Parquet files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from aquasurf_ray.cli.terminal.commands import Commands
from aquasurf_ray.cli.terminal.open_store import open_store
from aquasurf_ray.cli.terminal.output import print_json
from aquasurf_ray.cli.terminal.shared_parameters import AsJson, StoreOption

app = Commands()


@app.command(epilog="Example: aquasurf snapshot -o snapshot-of-today")
def snapshot(
    output: Annotated[Path, typer.Option("-o", "--output", metavar="FOLDER", help="Folder to create.")],
    store: StoreOption = None,
    as_json: AsJson = False,
) -> None:
    """Write the store as Parquet files, for DuckDB and other tools.

    Each view and each table becomes a file; a README describes their columns.
    """
    with open_store(store) as opened:
        counts = opened.write_snapshot(output)
    if as_json:
        print_json({"folder": str(output), "rows": counts})
    else:
        n_rows = sum(counts.values())
        print(f"{len(counts)} views and tables with {n_rows} rows written to {output}; its README has the columns")
