"""The command roles: who may do what in a PostgreSQL store."""

from __future__ import annotations

from typing import Annotated

import typer

from aquasurf_ray.cli.terminal.options import Store

DRIVER, ANALYST = "aquasurf_driver", "aquasurf_analyst"


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command("roles", epilog="Example: aquasurf roles --sql | psql runs")(roles)


def roles(
    driver: Annotated[str, typer.Option(help="Role of those who search.")] = DRIVER,
    analyst: Annotated[str, typer.Option(help="Role of those who only read.")] = ANALYST,
    sql: Annotated[bool, typer.Option("--sql", help="Print the statements instead of running them.")] = False,
    store: Store = None,
) -> None:
    """Give a PostgreSQL store two roles: one to search with, one to read with.

    Run it as the owner of the database, after each upgrade too: it makes or migrates the tables first. Passwords are
    set by you, with \\password in psql.
    """
    from aquasurf_ray.driver.config import store_url
    from aquasurf_ray.driver.errors import BadUse
    from aquasurf_ray.store import BadRecord, Roles
    from aquasurf_ray.store import Store as Opened

    try:
        wanted = Roles(driver, analyst)
        if sql:
            print("BEGIN;", *(f"{statement};" for statement in wanted.statements()), "COMMIT;", sep="\n")
            return
        with Opened.open(store_url(store), create=not store_url(store).startswith("sqlite")) as opened:
            opened.grant_roles(wanted)
            where = opened.safe_url
    except BadRecord as error:
        raise BadUse(str(error)) from None
    print(f"{where}: {driver} may search, {analyst} may read; set their passwords with \\password in psql")
