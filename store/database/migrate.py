"""The migration of a database's schema to this code's version, wholly or not at all.

The migration runs in one transaction (in SQLite too, whose DDL is transactional once this program sends BEGIN itself),
so a process killed in the middle leaves the old schema. The first process takes the write lock (SQLite) or an advisory
lock (PostgreSQL); the others wait and find the migration done. Alembic is imported only if a migration is due.
"""

from __future__ import annotations

import logging
import threading
from pathlib import Path
from typing import Literal

import sqlalchemy as sa

from aquasurf_ray.store.database.engine import APPLICATION_ID
from aquasurf_ray.store.database.schema import HEAD_REVISION, VERSION_TABLE, Base
from aquasurf_ray.store.database.transactions import Database
from aquasurf_ray.store.errors import StoreTooNew, StoreTooOld, StoreUnavailable, WrongDatabase

SCRIPTS = Path(__file__).parent / "migrations"
_LOCK_KEY = 0x6171756173757266  # "aquasurf"
_ALEMBIC = threading.Lock()  # Alembic's `op` and `context` are global, and two threads may open two stores

SchemaState = Literal["new", "current", "older"]  # no store yet, this code's schema, or one that a migration upgrades

logger = logging.getLogger(__name__)


def prepare_schema(database: Database, *, create: bool, migrate: bool) -> None:
    """Make sure that the database has this code's schema.

    Raises:
        StoreTooNew: a later version wrote it.
        StoreTooOld: an earlier version wrote it, and `migrate` is False.
        StoreUnavailable: it is empty, and `create` is False.
        WrongDatabase: another program's tables have the names of the store's.
    """
    revision, name = database.read(current_revision), database.url.safe
    state = check_revision(name, revision)
    if state == "current":
        return
    if state == "new" and not create:
        raise StoreUnavailable(f"store '{name}' is empty; start a search or give another --store")
    if state == "older" and not migrate:
        raise StoreTooOld(
            f"store '{name}' has schema {revision}, this version needs {HEAD_REVISION}; "
            "run any command that writes to it, such as resume, to upgrade it"
        )
    database.write(upgrade)
    if state == "older":
        logger.warning("store '%s' now has schema %s: an older aquasurf-ray cannot open it", name, HEAD_REVISION)


def current_revision(connection: sa.Connection) -> str | None:
    """Return the schema's version; None for a database without a store."""
    if not sa.inspect(connection).has_table(VERSION_TABLE):
        return None
    return connection.execute(sa.text(f"SELECT version_num FROM {VERSION_TABLE}")).scalar()  # noqa: S608 - a constant


def check_revision(name: str, revision: str | None) -> SchemaState:
    """Return how the schema of a store relates to this code's.

    Args:
        name: the store's URL without passwords, for the error.
        revision: the schema's version; None for a database without a store.

    Raises:
        StoreTooNew: a later version wrote it.
    """
    if revision is None:
        return "new"
    if revision == HEAD_REVISION:
        return "current"
    if revision in known_revisions():
        return "older"
    raise StoreTooNew(f"store '{name}' has schema {revision}, newer than this version knows; upgrade aquasurf-ray")


def known_revisions() -> set[str]:
    """Return all versions that this code has migrations for."""
    from alembic.script import ScriptDirectory

    return {script.revision for script in ScriptDirectory(str(SCRIPTS)).walk_revisions()}


def upgrade(connection: sa.Connection, revision: str = HEAD_REVISION) -> None:
    """Run the missing migrations up to `revision` in the connection's transaction."""
    _lock(connection)
    found = current_revision(connection)
    if found == revision:
        return  # another process has migrated it meanwhile
    if found is None:
        _refuse_foreign_tables(connection)
    _run_scripts(connection, revision)
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql(f"PRAGMA application_id = {APPLICATION_ID}")


def _run_scripts(connection: sa.Connection, target: str) -> None:
    from alembic import command
    from alembic.config import Config

    config = Config(attributes={"connection": connection})  # env.py uses this connection, inside its transaction
    # The option is read by configparser, in which % begins a substitution.
    config.set_main_option("script_location", str(SCRIPTS).replace("%", "%%"))
    with _ALEMBIC:
        command.upgrade(config, target)


def _lock(connection: sa.Connection) -> None:
    if connection.dialect.name == "postgresql":
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_LOCK_KEY)))


def _refuse_foreign_tables(connection: sa.Connection) -> None:
    taken = sorted(set(sa.inspect(connection).get_table_names()) & set(Base.metadata.tables))
    if taken:
        raise WrongDatabase(f"the database has a table '{taken[0]}' of another program; give another --store")
