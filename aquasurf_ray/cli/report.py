"""The command that writes a run as a page: report."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from aquasurf_ray.cli.terminal.findings import findings_of
from aquasurf_ray.cli.terminal.options import RunName, Store

if TYPE_CHECKING:
    pass


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command("report", epilog="Example: aquasurf report digits-1 -o report.html")(report)


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
    data = page(document(findings_of(name, store))).encode()
    write_file(output, data)
    print(f"{output} written, {len(data) / 1e6:.1f} MB")
