"""The command `report`: a run as one HTML page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from aquasurf_ray.cli.terminal.commands import Commands
from aquasurf_ray.cli.terminal.findings import findings_of
from aquasurf_ray.cli.terminal.shared_parameters import RunName, StoreOption

app = Commands()


@app.command(epilog="Example: aquasurf report digits-1 -o report.html")
def report(
    name: RunName,
    output: Annotated[
        Path, typer.Option("-o", "--output", metavar="FILE", help="File to write; an existing one is replaced.")
    ],
    store: StoreOption = None,
) -> None:
    """Write a run as one HTML page that opens offline.

    The page shows curves, maps, the best functions, costs and failures. The maps of candidates are computed with UMAP,
    which takes up to a minute the first time.
    """
    from aquasurf_ray.analysis.output_file import check_place, write_file
    from aquasurf_ray.analysis.report import document, page

    check_place(output)  # before the maps, which take up to a minute
    data = page(document(findings_of(name, store))).encode()
    write_file(output, data)
    print(f"{output} written, {len(data) / 1e6:.1f} MB")
