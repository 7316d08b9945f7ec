"""The examination of a store, before a search or when one is slow. Nothing is created or changed.

Whether SQLite can be written is tested by a lock, which is released. The duration of a commit is measured with a small
file that is synced next to the database and removed. In PostgreSQL it is measured with a message in its write-ahead log
that belongs to no table.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import quote

import sqlalchemy as sa

from aquasurf_ray.store.database.clock import SystemClock
from aquasurf_ray.store.database.engine import (
    APPLICATION_ID,
    NETWORK_FILE_SYSTEMS,
    check_place,
    explain,
    file_system,
    is_starting_up,
)
from aquasurf_ray.store.database.migrate import SchemaState, check_revision, current_revision
from aquasurf_ray.store.database.schema import VERSION_TABLE, Run, table
from aquasurf_ray.store.database.transactions import Database
from aquasurf_ray.store.database.url import StoreUrl, parse_url
from aquasurf_ray.store.errors import StoreError, StoreUnavailable, WrongDatabase

PATIENCE = 3.0  # seconds to wait for a locked or starting database
_PROBES = 3  # the fastest counts: other load only ever makes a probe slower


@dataclass(frozen=True)
class StoreHealth:
    """The findings. If `problem` is not None, the fields after it are unknown.

    Args:
        url: the URL without passwords.
        version: the version of the schema; None if there is no store yet.
        state: `new` (no store yet), `current`, `older` (a search migrates it).
        writable: whether this user may write rows.
        commit_seconds: the fastest of several commits to the disk.
        free_bytes: free space for this user on the disk of SQLite's file.
        network_file_system: the type of the network file system that SQLite's file is on, if it is on one.
        journal: SQLite's journal mode, which should be `wal`.
        clock_ahead: the seconds by which the server's clock is ahead of this machine's; None for SQLite.
        superuser: whether the user is a superuser of PostgreSQL.
    """

    url: str
    kind: Literal["sqlite", "postgresql"]
    problem: str | None = None
    version: str | None = None
    state: SchemaState = "new"
    writable: bool = False
    commit_seconds: float | None = None
    free_bytes: int | None = None
    network_file_system: str | None = None
    journal: str | None = None
    clock_ahead: float | None = None
    superuser: bool = False


def examine(url: str) -> StoreHealth:
    """Examine the store of a URL.

    Raises:
        BadUrl: the URL is not a store's.
    """
    parsed = parse_url(url)
    try:
        return _examine_sqlite(parsed, parsed.path) if parsed.path is not None else _examine_postgres(parsed)
    except sqlite3.Error as error:
        return StoreHealth(parsed.safe, parsed.kind, str(explain(error, parsed)))
    except StoreError as error:
        return StoreHealth(parsed.safe, parsed.kind, str(error))


def _examine_sqlite(url: StoreUrl, path: Path) -> StoreHealth:
    check_place(path, create=True)
    kind = file_system(path)
    network = kind if kind in NETWORK_FILE_SYSTEMS else None
    disk = os.statvfs(path.absolute().parent)
    free = disk.f_bavail * disk.f_frsize
    if not path.exists() or path.stat().st_size == 0:
        seconds = _sync_seconds(path.absolute().parent)
        return StoreHealth(
            url.safe, "sqlite", writable=True, commit_seconds=seconds, free_bytes=free, network_file_system=network
        )
    # SQLite also creates its write-ahead log in the folder, so a writable file alone is not enough.
    writable = os.access(path, os.W_OK) and os.access(path.absolute().parent, os.W_OK | os.X_OK)
    with contextlib.closing(_connected(path, writable)) as connection:
        if connection.execute("PRAGMA application_id").fetchone()[0] != APPLICATION_ID:
            raise WrongDatabase(f"'{path}' is another program's SQLite file; give another --store")
        version = connection.execute(f"SELECT version_num FROM {VERSION_TABLE}").fetchone()[0]  # noqa: S608 - a constant
        state = check_revision(url.safe, version)
        journal = connection.execute("PRAGMA journal_mode").fetchone()[0]
        if writable:
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("ROLLBACK")
    return StoreHealth(
        url.safe,
        "sqlite",
        version=version,
        state=state,
        writable=writable,
        commit_seconds=_sync_seconds(path.absolute().parent) if writable else None,
        free_bytes=free,
        network_file_system=network,
        journal=journal,
    )


def _connected(path: Path, writable: bool) -> sqlite3.Connection:
    name = f"file:{quote(str(path.absolute()))}?mode={'rw' if writable else 'ro'}"
    return sqlite3.connect(name, uri=True, timeout=PATIENCE, isolation_level=None)


def _sync_seconds(folder: Path) -> float:
    """Measure how long one commit waits for the disk."""
    try:
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".aquasurf-") as file:
            return min(_synced(file.fileno()) for _ in range(_PROBES))
    except OSError as error:
        raise StoreUnavailable(
            f"folder '{folder}' cannot be written: {error.strerror}; make room, or mount it"
        ) from None


def _synced(descriptor: int) -> float:
    started = time.perf_counter()
    os.write(descriptor, b"0" * 4096)  # a page of SQLite, about the least that a commit writes
    os.fsync(descriptor)
    return time.perf_counter() - started


def _examine_postgres(url: StoreUrl) -> StoreHealth:
    database = Database(url, SystemClock(), PATIENCE)
    try:
        database.connect(is_starting_up)
        version = database.read(current_revision)
        state = check_revision(url.safe, version)
        writable, superuser = database.read(_rights)
        return StoreHealth(
            url.safe,
            "postgresql",
            version=version,
            state=state,
            writable=writable,
            superuser=superuser,
            commit_seconds=_commit_seconds(database) if writable else None,
            clock_ahead=min((_clock_ahead(database) for _ in range(_PROBES)), key=abs),
        )
    finally:
        database.close()


def _rights(connection: sa.Connection) -> tuple[bool, bool]:
    """Return whether this user may write rows, or create the tables if there are none."""
    superuser = connection.exec_driver_sql("SHOW is_superuser").scalar() == "on"
    if connection.execute(sa.select(sa.func.pg_is_in_recovery())).scalar():
        return False, superuser
    if sa.inspect(connection).has_table(table(Run).name):
        privilege = sa.select(sa.func.has_table_privilege(table(Run).name, "INSERT"))
    else:
        privilege = sa.select(sa.func.has_schema_privilege("public", "CREATE"))
    return bool(connection.execute(privilege).scalar()), superuser


def _commit_seconds(database: Database) -> float:
    # A transactional message: its COMMIT waits for the disk like that of a result, and leaves no row behind.
    message = sa.select(sa.func.pg_logical_emit_message(True, "aquasurf", ""))

    def seconds() -> float:
        started = time.perf_counter()
        database.write(lambda connection: connection.execute(message).scalar())
        return time.perf_counter() - started

    return min(seconds() for _ in range(_PROBES))


def _clock_ahead(database: Database) -> float:
    def asked(connection: sa.Connection) -> float:
        before = time.time()
        servers = connection.exec_driver_sql("SELECT extract(epoch FROM clock_timestamp())").scalar_one()
        return float(servers) - (before + time.time()) / 2

    return database.read(asked)
