"""The command `watch`: the runs of a store in the browser, kept up to date."""

from __future__ import annotations

import sys
from contextlib import closing
from typing import TYPE_CHECKING, Annotated

import typer

from aquasurf_ray.cli.terminal.commands import Commands
from aquasurf_ray.cli.terminal.findings import repeat_command
from aquasurf_ray.cli.terminal.open_store import store_option
from aquasurf_ray.cli.terminal.shared_parameters import StoreOption

if TYPE_CHECKING:
    from aquasurf_ray.analysis.report.live_store import LiveStore

app = Commands()

NAMES_SHOWN = 10
PATIENCE = 2.0  # seconds: a page asks again by itself, and says meanwhile what it waits for


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

    The pages are updated while the runs continue, and may be opened before the run or the database exists. Ctrl-C ends
    the server.
    """
    from aquasurf_ray.analysis.report.live_store import LiveStore
    from aquasurf_ray.analysis.report.server import path_of, server
    from aquasurf_ray.driver.errors import BadUse
    from aquasurf_ray.driver.settings.places import store_url
    from aquasurf_ray.store import Store, parse_url

    url = store_url(store)
    live = LiveStore(
        parse_url(url).safe,
        lambda: Store.open(url, create=False, patience=PATIENCE),
        lambda opened, run: repeat_command(opened, run, store),
        store_option(store),
    )
    with closing(live):
        missing = _not_there_yet(live, url, name)
        try:
            serving = server(live, port)
        # The port is taken, or below 1024 without the right to it.
        except OSError as error:
            raise BadUse(f"port: cannot listen on {port}: {error.strerror or error}; choose another") from None
        with serving:
            at = f"http://127.0.0.1:{serving.server_address[1]}"
            place, what = ("/", "all runs") if name is None else (path_of(name), f"run '{name}'")
            print(f"{missing}{at}{place} shows {what}; Ctrl-C ends", file=sys.stderr)
            serving.serve_forever()


def _not_there_yet(live: LiveStore, url: str, name: str | None) -> str:
    """Return a line that says that the database or the run does not exist yet; empty if it does.

    Raises:
        StoreError: there is a database, which cannot be read, or none can be created there.
    """
    from aquasurf_ray.store import Store, StoreUnavailable

    try:
        names = live.names()
    except StoreUnavailable:
        if Store.exists(url):
            raise
        return f"there is no store at '{live}' yet; its runs are shown once a search has created it\n"
    if name is None or name in names:
        return ""
    shown = ", ".join(names[:NAMES_SHOWN]) + (f" and {n} more" if (n := len(names) - NAMES_SHOWN) > 0 else "")
    return f"run '{name}' does not exist yet; {f'the runs are {shown}' if names else 'there are no runs'}\n"
