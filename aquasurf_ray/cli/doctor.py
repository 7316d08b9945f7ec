"""The command doctor: is everything there that a search needs?"""

from __future__ import annotations

import sys
from contextlib import redirect_stdout
from typing import TYPE_CHECKING, Annotated

import typer

from aquasurf_ray.cli.terminal.options import Address, AsJson, DataFolder, Modules, Storage, Store
from aquasurf_ray.cli.terminal.output import print_json

if TYPE_CHECKING:
    from aquasurf_ray.driver.examine.doctor import Finding


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command("doctor", epilog="Example: aquasurf doctor digits --store postgresql+psycopg://ada@db/runs")(doctor)


def doctor(
    task: Annotated[str | None, typer.Argument(help="A task, whose data are looked for too.")] = None,
    store: Store = None,
    storage: Storage = None,
    address: Address = None,
    data: DataFolder = None,
    modules: Modules = None,
    as_json: AsJson = False,
) -> None:
    """Look at what a search needs: versions, limits, GPUs, database, storage, data, Ray. Nothing is changed.

    Exits with 1 if there is a problem; warnings are no problems.
    """
    from aquasurf_ray.driver.config import make_config
    from aquasurf_ray.driver.examine.doctor import document, examine_all

    given = {"store": store, "storage": storage, "address": address, "data": data, "modules": tuple(modules or ())}
    config = make_config({"task": task or "digits", **{k: value for k, value in given.items() if value is not None}})
    results = sys.stdout

    def tell(finding: Finding) -> None:
        if not as_json:
            print(f"{finding.check:<10}  {finding.level:<7}  {finding.says}", file=results, flush=True)

    with redirect_stdout(sys.stderr):  # tasks and modules are the user's code
        findings = examine_all(task, config, tell)
    if as_json:
        print_json(document(findings))
    if any(finding.level == "problem" for finding in findings):
        raise typer.Exit(1)
