"""The command `doctor`: is this machine ready to run a search?"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from aquasurf_ray.cli.terminal.commands import Commands
from aquasurf_ray.cli.terminal.output import print_json, user_code
from aquasurf_ray.cli.terminal.shared_parameters import AsJson, Modules, Setting, StoreOption

if TYPE_CHECKING:
    from aquasurf_ray.driver.examine.doctor import Finding

app = Commands()


@app.command(epilog="Example: aquasurf doctor digits --store postgresql+psycopg://ada@db/runs")
def doctor(
    task: Annotated[
        str | None, typer.Argument(metavar="TASK", help="Also check that this task's data are available.")
    ] = None,
    store: StoreOption = None,
    storage: Setting = None,
    address: Setting = None,
    data: Setting = None,
    modules: Modules = None,
    as_json: AsJson = False,
) -> None:
    """Check whether this machine is ready to run a search.

    Examines versions, limits, GPUs, the database, the storage, the data and Ray, and changes nothing. Exits with
    status 1 on errors; warnings do not change the exit status.
    """
    from aquasurf_ray.driver.examine.doctor import document, examine_all
    from aquasurf_ray.driver.settings.reading import make_config

    given = {"store": store, "storage": storage, "address": address, "data": data, "modules": tuple(modules or ())}
    # A configuration has a task; without one on the command line, none is examined.
    config = make_config({"task": task or "digits", **{k: value for k, value in given.items() if value is not None}})
    # Kept, because `user_code` redirects the printing of everything that runs inside of it.
    results = sys.stdout

    def show(finding: Finding) -> None:
        if not as_json:
            print(f"{finding.check:<10}  {finding.level:<7}  {finding.says}", file=results, flush=True)

    with user_code():
        findings = examine_all(task, config, show)
    if as_json:
        print_json(document(findings))
    if any(finding.level == "problem" for finding in findings):
        raise typer.Exit(1)
