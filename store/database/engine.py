"""The engines: connections to SQLite and PostgreSQL, and the translation of their drivers' errors.

SQLite: WAL (readers never block the writer), a write transaction takes its lock at BEGIN (no upgrade that must fail),
synchronous=FULL (one fsync a commit: a result that was recorded survives a power cut, not only a killed process),
foreign keys on, functions in a planted schema off. SQLite waits for at most two seconds inside its own code, where
Ctrl-C does not reach it; `store.database.transactions` does all longer waiting. PostgreSQL: psycopg 3, one transaction
a verb, and the server ends a transaction whose client is suspended in the middle, so that its locks are soon released;
synchronous_commit is on, whatever the server's default. Nothing depends on a session's state, so that a pooler may give
each transaction another session.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import logging
import os
import shutil
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.exc import DBAPIError

from aquasurf_ray.store.database.columns import dump_json, load_json
from aquasurf_ray.store.database.schema import Base, table
from aquasurf_ray.store.database.url import StoreUrl
from aquasurf_ray.store.errors import (
    StoreBusy,
    StoreCorrupt,
    StoreError,
    StoreFull,
    StoreUnavailable,
    WrongDatabase,
)

if TYPE_CHECKING:
    import psycopg

logger = logging.getLogger(__name__)

APPLICATION_ID = 0x41715366  # "AqSf", in the header of this program's SQLite files
WRITES = "aquasurf_writes"  # an execution option of connections that will write
SQLITE_WAIT_MS = 2_000
NETWORK_FILE_SYSTEMS = frozenset(
    ("nfs", "nfs4", "cifs", "smb3", "smbfs", "ceph", "lustre", "glusterfs", "fuse.sshfs", "afs", "gpfs", "beegfs", "9p")
)
_ROOM_NEEDED = 1 << 20  # with less free than this, an I/O error on SQLite means a full disk

# PostgreSQL: serialization, deadlock, lock timeout, shutdowns, too many connections, killing of an idle transaction
_TRANSIENT_STATES = frozenset(("40001", "40P01", "55P03", "57P01", "57P02", "57P03", "53300", "25P03", "25P04"))
_DISK_FULL = frozenset({"53100"})
_NOT_OURS = frozenset({"42P01", "42703"})  # undefined table, undefined column
_POSTGRES_SETTINGS = (("idle_in_transaction_session_timeout", "30s"), ("synchronous_commit", "on"))
_SETTINGS = "aquasurf_settings"  # in a connection's `info`: those that each transaction makes for itself


def make_engine(url: StoreUrl) -> sa.Engine:
    """Return an engine, which connects on first use."""
    common: dict[str, Any] = {
        "json_serializer": dump_json,
        "json_deserializer": load_json,
        "hide_parameters": True,  # an error would otherwise quote the rows, features of 20 kB included
    }
    if url.kind == "sqlite":
        # Threads share the pool, which lends a connection to one of them at a time.
        engine = sa.create_engine(url.sqlalchemy, **common, connect_args={"check_same_thread": False})
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
        return engine
    # A connection that the server or a firewall dropped meanwhile is replaced before a statement is lost on it.
    engine = sa.create_engine(url.sqlalchemy, **common, pool_pre_ping=True, connect_args=_postgres_arguments(url))
    event.listen(engine, "connect", functools.partial(_prepare_postgres, url))
    event.listen(engine, "begin", _begin_postgres)
    return engine


def insert_or_skip(connection: sa.Connection, model: type[Base]) -> Any:
    """Return an INSERT that skips rows whose unique key is taken; for a single row, `rowcount` says if it was new."""
    return _insert_or_skip(connection.dialect.name, model)


def insert_new(connection: sa.Connection, model: type[Base], rows: Sequence[dict[str, Any]], column: str) -> list[Any]:
    """Insert rows in their order, skip those whose unique key exists already, and return a column of the new ones.

    Two transactions that insert the same rows in the same order cannot deadlock.
    """
    if not rows:
        return []
    statement = _insert(connection.dialect.name, model).returning(table(model).c[column])
    return list(connection.execute(statement, rows).scalars())


@functools.cache
def _insert_or_skip(dialect: str, model: type[Base]) -> Any:
    return _insert(dialect, model).inline().execution_options(preserve_rowcount=True)


@functools.cache
def _insert(dialect: str, model: type[Base]) -> Any:
    # Only the dialect in use is imported: PostgreSQL's takes a tenth of a second.
    insert: Any = importlib.import_module(f"sqlalchemy.dialects.{dialect}").insert
    return insert(table(model)).on_conflict_do_nothing()


def check_sqlite_file(url: StoreUrl, create: bool) -> None:
    """Check a SQLite file before anything in it is changed.

    Raises:
        StoreUnavailable: the folder or the file does not exist, or there is no permission.
        WrongDatabase: the file is not SQLite's, or belongs to another program.
    """
    path = url.path
    assert path is not None  # noqa: S101 - a SQLite URL has a path
    check_place(path, create)
    if not path.exists() or path.stat().st_size == 0:
        return
    # Not through the engine: its PRAGMA journal_mode would change another program's file.
    with contextlib.closing(sqlite3.connect(path, timeout=SQLITE_WAIT_MS / 1000)) as connection:
        application = connection.execute("PRAGMA application_id").fetchone()[0]
        n_objects = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    if application != APPLICATION_ID and (application != 0 or n_objects > 0):
        raise WrongDatabase(f"'{path}' is another program's SQLite file; give another --store")


def warn_of_network_file_system(path: Path) -> None:
    """Log a warning if the file is on a network file system, where SQLite's locks cannot be trusted."""
    kind = file_system(path)
    if kind in NETWORK_FILE_SYSTEMS:
        logger.warning("'%s' is on %s, where SQLite may lose data; use a local disk or PostgreSQL", path, kind)


def is_transient(error: Exception) -> bool:
    """Return whether the same transaction may succeed when it is run again."""
    if isinstance(error, DBAPIError) and error.connection_invalidated:
        return True  # the connection was lost, and the pool makes a new one
    original = _original(error)
    if isinstance(original, sqlite3.Error):
        return _sqlite_code(original) in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
    state = getattr(original, "sqlstate", None)
    if state is None:  # psycopg raised it without an answer of the server
        return type(original).__name__ == "OperationalError"
    return state in _TRANSIENT_STATES or state.startswith("08")  # class 08: connection exceptions


def is_starting_up(error: DBAPIError) -> bool:
    """Return whether a server that is starting up refused the connection; `open` waits for no other."""
    # A refused connection has no SQLSTATE: libpq passes the server's answer on as text.
    text = str(error.orig)
    return any(
        sign in text
        for sign in (
            "starting up",
            "shutting down",
            "recovery",
            "too many clients",
            "reserved for",
            "no more connections",
        )
    )


def explain(error: Exception, url: StoreUrl) -> StoreError:
    """Return the store's own error for a driver's; its text has one line and no password."""
    original = _original(error)
    words = url.redact(str(original))
    if isinstance(original, sqlite3.Error):
        return _explain_sqlite(_sqlite_code(original), words, url)
    words = words.partition(" CONTEXT: ")[0]  # the rest is a position in this program's own SQL, which helps no user
    state = getattr(original, "sqlstate", None)
    if state in _DISK_FULL:
        return StoreFull(f"no space left for store '{url}'; make room there")
    if state in _NOT_OURS:
        return WrongDatabase(f"store '{url}' lacks our tables: {words}")
    if is_transient(error):
        return StoreUnavailable(f"store '{url}' does not answer: {words}")
    return StoreError(f"store '{url}' refused a statement: {words}")


def _explain_sqlite(code: int | None, words: str, url: StoreUrl) -> StoreError:
    path = url.path
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return StoreBusy(f"'{path}' is locked by another process; end that one or use PostgreSQL")
    if code == sqlite3.SQLITE_FULL or (code == sqlite3.SQLITE_IOERR and _disk_is_full(path)):
        return StoreFull(f"no space left on the disk of '{path}'; make room there")
    if code in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM, sqlite3.SQLITE_IOERR):
        return StoreUnavailable(f"'{path}' cannot be opened for writing: {words}; check its permissions")
    if code == sqlite3.SQLITE_NOTADB:
        return WrongDatabase(f"'{path}' is not a SQLite database; give another --store")
    if code == sqlite3.SQLITE_CORRUPT:
        return StoreCorrupt(f"'{path}' is damaged: {words}; restore a copy")
    if "no such table" in words or "no such column" in words:
        return WrongDatabase(f"'{path}' lacks our tables: {words}")
    return StoreError(f"'{path}' refused a statement: {words}")


def _original(error: Exception) -> BaseException | None:
    return error.orig if isinstance(error, DBAPIError) else error


def _sqlite_code(error: sqlite3.Error) -> int | None:
    code = getattr(error, "sqlite_errorcode", None)
    return None if code is None else code & 0xFF  # the low byte of an extended code is its primary code


def _prepare_sqlite(connection: Any, record: object) -> None:
    connection.isolation_level = None  # BEGIN is sent by _begin_sqlite
    cursor = connection.cursor()
    cursor.execute(f"PRAGMA busy_timeout = {SQLITE_WAIT_MS}")
    cursor.execute("PRAGMA trusted_schema = OFF")
    cursor.execute("PRAGMA foreign_keys = ON")
    cursor.execute("PRAGMA synchronous = FULL")
    cursor.execute("PRAGMA journal_mode = WAL")
    cursor.close()


def _begin_sqlite(connection: sa.Connection) -> None:
    writes = connection.get_execution_options().get(WRITES, False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _prepare_postgres(url: StoreUrl, connection: psycopg.Connection[Any], record: Any) -> None:
    """Make our settings, for the session or, behind a pooler, for each transaction.

    A pooler such as PgBouncer refuses the startup parameter `options`, and in transaction mode gives each transaction
    any server process: what a session has set, or prepared, is another's or missing then. It is recognised by the
    process id in its greeting, which is not that of the server's process.
    """
    with connection.cursor() as cursor:
        pid = cursor.execute("SELECT pg_backend_pid()").fetchone()
        record.info[_SETTINGS] = ()
        if pid != (connection.info.backend_pid,):
            record.info[_SETTINGS] = _POSTGRES_SETTINGS
            if "prepare_threshold" not in url.options:
                connection.prepare_threshold = None
        elif "options" not in url.sqlalchemy.query:
            for name, value in _POSTGRES_SETTINGS:
                cursor.execute(f"SET {name} = '{value}'".encode())
    connection.commit()


def _begin_postgres(connection: sa.Connection) -> None:
    settings = "; ".join(f"SET LOCAL {name} = '{value}'" for name, value in connection.info[_SETTINGS])
    if settings:
        connection.exec_driver_sql(settings)


def _postgres_arguments(url: StoreUrl) -> dict[str, Any]:
    asked = url.sqlalchemy.query
    # The keepalives find out within a minute (30 + 3 * 10 s) that a server has vanished without closing the connection.
    arguments: dict[str, Any] = {
        "connect_timeout": 10,
        "application_name": "aquasurf",
        "keepalives_idle": 30,
        "keepalives_interval": 10,
        "keepalives_count": 3,
    }
    return {key: value for key, value in arguments.items() if key not in asked} | url.secrets | url.options


def check_place(path: Path, create: bool) -> None:
    """Check that a SQLite file is there, or can be created.

    Raises:
        StoreUnavailable: there is no such file, and it cannot be created.
    """
    folder = path.absolute().parent
    if path.is_dir():
        raise StoreUnavailable(f"store '{path}' is a folder; name a file in it")
    if not folder.is_dir():
        raise StoreUnavailable(f"folder '{folder}' does not exist; create it or give another --store")
    if not path.exists():
        if not create:
            raise StoreUnavailable(f"no database at '{path}'; start a search or give another --store")
        if not os.access(folder, os.W_OK | os.X_OK):
            raise StoreUnavailable(f"folder '{folder}' is not writable; give another --store")


def _disk_is_full(path: Path | None) -> bool:
    return path is not None and shutil.disk_usage(path.absolute().parent).free < _ROOM_NEEDED


def file_system(path: Path) -> str:
    """Return the type of the file system that holds `path`, or '' where the system does not tell."""
    try:
        mounts = Path("/proc/self/mountinfo").read_text()
        target = path.absolute().parent.resolve()
    except OSError:
        return ""
    best, kind = -1, ""
    for line in mounts.splitlines():
        before, _, after = line.partition(" - ")
        point = Path(before.split()[4].replace("\\040", " "))
        # The longest mount point that contains the path; of equal ones the later, which hides the earlier.
        if target.is_relative_to(point) and len(point.parts) >= best:
            best, kind = len(point.parts), after.split()[0]
    return kind
