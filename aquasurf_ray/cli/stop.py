"""The command `stop`: stop a run from another shell or machine."""

from __future__ import annotations

from typing import Annotated

import typer

from aquasurf_ray.analysis.studies.run_origin import how_to_continue
from aquasurf_ray.cli.terminal.commands import Commands
from aquasurf_ray.cli.terminal.open_store import open_store, store_option
from aquasurf_ray.cli.terminal.output import print_json
from aquasurf_ray.cli.terminal.shared_parameters import AsJson, RunName, StoreOption

app = Commands()


@app.command(epilog="Example: aquasurf stop digits-1 --wait")
def stop(
    name: RunName,
    wait: Annotated[bool, typer.Option("--wait", help="Wait until the run has stopped.")] = False,
    finish: Annotated[
        bool,
        typer.Option(
            "--finish", help="End the run for good: drop its open evaluations, and set its budget to what is done."
        ),
    ] = False,
    store: StoreOption = None,
    as_json: AsJson = False,
) -> None:
    """Stop a run cleanly, from any shell or machine.

    The driver checks for stop requests about once a second and ends within a minute; its trainings continue from a
    checkpoint when the run is resumed. Exits with status 1 if the driver shows no sign of life. The processes of a
    Study end after the training that each has.
    """
    from aquasurf_ray.driver import finish as end_for_good
    from aquasurf_ray.driver import request_stop

    answer = end_for_good(name, store=store) if finish else request_stop(name, store=store, wait=wait)
    if as_json:
        print_json({"run": answer.run, "state": answer.state, "text": answer.text})
    else:
        print(answer.text)
        if answer.state in ("dead", "not-running"):
            with open_store(store) as opened:
                print(f"resume it with: {how_to_continue(name, opened.run(name).config, store_option(store))}")
    # Scripts that stop a run before maintenance need to know that its driver never answered.
    if answer.state == "silent":
        raise typer.Exit(1)
