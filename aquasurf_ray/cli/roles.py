"""The command `roles`: permissions in a PostgreSQL store."""

from __future__ import annotations

from typing import Annotated

import typer

from aquasurf_ray.cli.terminal.commands import Commands
from aquasurf_ray.cli.terminal.shared_parameters import StoreOption

app = Commands()

DRIVER, ANALYST = "aquasurf_driver", "aquasurf_analyst"


@app.command(epilog="Example: aquasurf roles --sql | psql runs")
def roles(
    driver: Annotated[str, typer.Option(metavar="ROLE", help="Role that may search.")] = DRIVER,
    analyst: Annotated[str, typer.Option(metavar="ROLE", help="Role that may only read.")] = ANALYST,
    sql: Annotated[bool, typer.Option("--sql", help="Print the statements instead of running them.")] = False,
    store: StoreOption = None,
) -> None:
    """Create a role for searching and one for reading in PostgreSQL.

    Run this as the owner of the database, and again after each upgrade, since it creates or migrates the tables first.
    Set the passwords yourself, with \\password in psql.
    """
    from aquasurf_ray.driver.errors import BadUse
    from aquasurf_ray.driver.settings.places import store_url
    from aquasurf_ray.store import BadRecord, Roles
    from aquasurf_ray.store import Store as Opened

    try:
        wanted = Roles(driver, analyst)
        if sql:
            print("BEGIN;", *(f"{statement};" for statement in wanted.statements()), "COMMIT;", sep="\n")
            return
        # SQLite has no roles, and no file is to be created before it is refused.
        with Opened.open(store_url(store), create=not store_url(store).startswith("sqlite")) as opened:
            opened.grant_roles(wanted)
            where = opened.safe_url
    except BadRecord as error:
        raise BadUse(str(error)) from None
    print(f"{where}: {driver} may search, {analyst} may read; set their passwords with \\password in psql")
