"""Roles of a PostgreSQL store: an owner that migrates, drivers that write rows, analysts that read.

The statements may be run any number of times, also after a migration. They set no password, so that none gets into a
shell's history or a log; set it with `\\password ROLE` in psql. An existing role keeps its rights, and must not be the
owner or a superuser: an owner with an analyst's settings could not migrate. Roles belong to the whole server, so
another database's owner may have created them; settings that are already right are not set again, because that takes
more rights than granting.

Drivers may not create, change or drop tables, and may delete only learning curves, which are then in the event log.
Analysts may SELECT; their transactions are READ ONLY and limited in time unless they change these settings, and even
then they have no right to write a row, a file or a program's input.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import sqlalchemy as sa

from aquasurf_ray.store.database.schema import VERSION_TABLE, Base, Epoch, LearnedValue, table
from aquasurf_ray.store.errors import BadRecord
from aquasurf_ray.store.verbs.store_core import StoreCore

DRIVER, ANALYST = "aquasurf_driver", "aquasurf_analyst"
ANALYST_SECONDS = 60
_NAME = re.compile(r"[a-z_][a-z0-9_]{0,62}")


@dataclass(frozen=True)
class Roles:
    """The names of the two roles; lower-case letters, digits and underscores.

    Raises:
        BadRecord: a name has other characters, or both names are the same.
    """

    driver: str = DRIVER
    analyst: str = ANALYST

    def __post_init__(self) -> None:
        for name in (self.driver, self.analyst):
            if not _NAME.fullmatch(name) or name.startswith("pg_"):
                raise BadRecord(
                    f"role '{name:.80}' must have lower-case letters, digits and _ only, and not begin with pg_"
                )
        if self.driver == self.analyst:
            raise BadRecord(f"role '{self.driver}' cannot be driver and analyst; give two names")

    def statements(self) -> list[str]:
        """Return the statements that the owner of the tables runs, in order, in one transaction."""
        both = f"{self.driver}, {self.analyst}"
        tables = ", ".join(sorted(Base.metadata.tables))
        return [
            *(_no_owner(name) for name in (self.driver, self.analyst)),
            *(_made(name) for name in (self.driver, self.analyst)),
            "REVOKE CREATE ON SCHEMA public FROM PUBLIC",
            _in_this_database("REVOKE TEMPORARY ON DATABASE %I FROM PUBLIC"),
            _in_this_database(f"GRANT CONNECT ON DATABASE %I TO {both}"),
            f"GRANT USAGE ON SCHEMA public TO {both}",
            f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {both}",
            f"GRANT INSERT, UPDATE ON {tables} TO {self.driver}",
            f"GRANT DELETE ON {table(Epoch).name}, {table(LearnedValue).name} TO {self.driver}",
            f"REVOKE INSERT, UPDATE, DELETE ON {VERSION_TABLE} FROM {both}",
            f"GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO {self.driver}",
            _set(self.analyst, "default_transaction_read_only", "on"),
            _set(self.analyst, "statement_timeout", f"{ANALYST_SECONDS}s"),
            _set(self.analyst, "idle_in_transaction_session_timeout", f"{ANALYST_SECONDS}s"),
        ]


class RoleVerbs(StoreCore):
    """The verb that grants roles."""

    def grant_roles(self, roles: Roles) -> None:
        """Create the roles and grant their rights. The store must be opened as the owner of the tables, who must have
        the right to create roles.

        Raises:
            BadRecord: the store is SQLite, which has no roles, only the file's permissions; or a role is the owner's or
                a superuser's.
            StoreError: PostgreSQL refuses, in its own words.
        """
        if self._database.url.kind == "sqlite":
            raise BadRecord(f"store '{self.safe_url}' has no roles: chmod says who may read and write a SQLite file")

        def body(connection: sa.Connection) -> None:
            for statement in roles.statements():
                connection.exec_driver_sql(statement.replace("%", "%%"))  # psycopg would read %I as a parameter

        self._write(body)


def _made(name: str) -> str:
    # PostgreSQL has no CREATE ROLE IF NOT EXISTS.
    made = f"IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '{name}') THEN CREATE ROLE {name} LOGIN; END IF;"
    return f"DO $$ BEGIN {made} END $$"


def _no_owner(name: str) -> str:
    owns = f"SELECT FROM pg_class WHERE relname = '{VERSION_TABLE}' AND pg_get_userbyid(relowner) = '{name}'"
    is_super = f"SELECT FROM pg_roles WHERE rolname = '{name}' AND rolsuper"
    wrong = f"current_user = '{name}' OR EXISTS ({owns}) OR EXISTS ({is_super})"
    says = f"role {name} is the owner or a superuser, who may do more than search or read; give another name"
    return f"DO $$ BEGIN IF {wrong} THEN RAISE EXCEPTION '{says}'; END IF; END $$"


def _set(name: str, setting: str, value: str) -> str:
    known = f"SELECT FROM pg_roles WHERE rolname = '{name}' AND '{setting}={value}' = ANY(rolconfig)"
    return f"DO $$ BEGIN IF NOT EXISTS ({known}) THEN ALTER ROLE {name} SET {setting} = '{value}'; END IF; END $$"


def _in_this_database(statement: str) -> str:
    return f"DO $$ BEGIN EXECUTE format('{statement}', current_database()); END $$"
