"""The command that serves the page of a run: watch."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from aquasurf_ray.cli.terminal.findings import repeat_command
from aquasurf_ray.cli.terminal.open_store import open_store
from aquasurf_ray.cli.terminal.options import RunName, Store


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command("watch", epilog="Example: aquasurf watch digits-1")(watch)


def watch(
    name: RunName,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port of this machine; 0 takes a free one.")] = 0,
    store: Store = None,
) -> None:
    """Serve the page of a run to this machine's browser, up to date while the run goes on; Ctrl-C ends it."""
    from aquasurf_ray.analysis.report.server import LiveReport, server
    from aquasurf_ray.driver.errors import BadUse

    with open_store(store) as opened:
        again = repeat_command(opened, name)
        try:
            serving = server(LiveReport(opened, name, again), port)
        except OSError as error:
            raise BadUse(f"port: {port} cannot be listened on: {error.strerror or error}") from None
        with serving:
            print(f"http://127.0.0.1:{serving.server_address[1]}/ shows run '{name}'; Ctrl-C ends", file=sys.stderr)
            serving.serve_forever()
