"""The command `watch`: the runs of a store in the browser, kept up to date."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from aquasurf_ray.cli.terminal.commands import Commands
from aquasurf_ray.cli.terminal.findings import repeat_command
from aquasurf_ray.cli.terminal.open_store import open_store, store_option
from aquasurf_ray.cli.terminal.shared_parameters import StoreOption

app = Commands()


@app.command(epilog="Example: aquasurf watch digits-1")
def watch(
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="Name of a run. Default: a list of all runs to choose from.")
    ] = None,
    port: Annotated[
        int, typer.Option(metavar="PORT", min=0, max=65535, help="Port on this machine; 0 chooses a free one.")
    ] = 0,
    store: StoreOption = None,
) -> None:
    """Serve runs to this machine's browser: progress, workers, events and reports.

    The pages are updated while the runs continue. Ctrl-C ends the server.
    """
    from aquasurf_ray.analysis.report.server import LiveStore, path_of, server
    from aquasurf_ray.driver.errors import BadUse

    with open_store(store) as opened:
        if name is not None:
            opened.run(name)  # an unknown name is an error here, and not a page that nobody can use
        try:
            live = LiveStore(opened, lambda run: repeat_command(opened, run, store), store_option(store))
            serving = server(live, port)
        # The port is taken, or below 1024 without the right to it.
        except OSError as error:
            raise BadUse(f"port: cannot listen on {port}: {error.strerror or error}; choose another") from None
        with serving:
            at = f"http://127.0.0.1:{serving.server_address[1]}"
            place, what = ("/", "all runs") if name is None else (path_of(name), f"run '{name}'")
            print(f"{at}{place} shows {what}; Ctrl-C ends", file=sys.stderr)
            serving.serve_forever()
