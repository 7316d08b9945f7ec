"""The command `watch`: a run's report in the browser, kept up to date."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from aquasurf_ray.cli.terminal.commands import Commands
from aquasurf_ray.cli.terminal.findings import repeat_command
from aquasurf_ray.cli.terminal.open_store import open_store
from aquasurf_ray.cli.terminal.options import RunName, Setting

app = Commands()


@app.command(epilog="Example: aquasurf watch digits-1")
def watch(
    name: RunName,
    port: Annotated[
        int, typer.Option(metavar="PORT", min=0, max=65535, help="Port on this machine; 0 chooses a free one.")
    ] = 0,
    store: Setting = None,
) -> None:
    """Serve a run's report to this machine's browser.

    The page is updated while the run continues. Ctrl-C ends the server.
    """
    from aquasurf_ray.analysis.report.server import LiveReport, server
    from aquasurf_ray.driver.errors import BadUse

    with open_store(store) as opened:
        command = repeat_command(opened, name)
        try:
            serving = server(LiveReport(opened, name, command), port)
        # The port is taken, or below 1024 without the right to it.
        except OSError as error:
            raise BadUse(f"port: cannot listen on {port}: {error.strerror or error}; choose another") from None
        with serving:
            print(f"http://127.0.0.1:{serving.server_address[1]}/ shows run '{name}'; Ctrl-C ends", file=sys.stderr)
            serving.serve_forever()
