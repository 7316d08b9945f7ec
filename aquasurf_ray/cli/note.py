"""The command `note`: what people remark on a run, kept with it."""

from __future__ import annotations

from typing import Annotated

import typer

from aquasurf_ray.cli.terminal.commands import Commands
from aquasurf_ray.cli.terminal.open_store import open_store
from aquasurf_ray.cli.terminal.output import print_json
from aquasurf_ray.cli.terminal.shared_parameters import AsJson, RunName, StoreOption

app = Commands()


@app.command(epilog="Example: aquasurf note digits-1 'with the new augmentation'")
def note(
    name: RunName,
    text: Annotated[str | None, typer.Argument(metavar="NOTE", help="The note. Default: print all notes.")] = None,
    store: StoreOption = None,
    as_json: AsJson = False,
) -> None:
    """Add a note to a run, or print its notes.

    The report, the page of `watch` and its list of runs show them.
    """
    from aquasurf_ray.driver.errors import BadUse
    from aquasurf_ray.store import BadRecord

    with open_store(store) as opened:
        run = opened.run(name)
        if text is not None:
            try:
                opened.add_note(run.id, text)
            except BadRecord as error:
                raise BadUse(str(error)) from None
        notes = opened.notes(run.id)
    if as_json:
        print_json([{"at": each.at.isoformat(timespec="seconds"), "text": each.text} for each in notes])
        return
    for each in notes:
        print(f"{each.at:%Y-%m-%d %H:%M}  {each.text}")
