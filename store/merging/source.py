"""The other store of a merge: one consistent state of it in this code's version. The store itself is not changed.

SQLite itself copies a SQLite file through a read-only connection. The copy is migrated if its version is older, and
read; so the file may be on a read-only disk, and its writers do not wait. A PostgreSQL database is read in one READ
ONLY transaction, and must have this code's version.
"""

from __future__ import annotations

import contextlib
import sqlite3
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError

from aquasurf_ray.store.database.clock import SystemClock
from aquasurf_ray.store.database.engine import APPLICATION_ID, explain, is_starting_up
from aquasurf_ray.store.database.migrate import check_revision, current_revision, prepare_schema, upgrade
from aquasurf_ray.store.database.schema import Base
from aquasurf_ray.store.database.transactions import Database
from aquasurf_ray.store.database.url import StoreUrl, parse_url
from aquasurf_ray.store.errors import StoreFull, StoreUnavailable, WrongDatabase

READ_SECONDS = 60.0  # to wait for a file that another process has locked, or a server that starts
LONGEST_IDLE = "10min"  # one side of a merge waits while the other is read or written


class Source:
    """The rows of the other store, all from one moment."""

    def __init__(self, connection: sa.Connection, url: StoreUrl) -> None:
        self.connection = connection
        self.name = url.safe
        self._url = url

    def rows(self, query: sa.Select[*tuple[Any, ...]]) -> Sequence[Any]:
        """Return the rows of a query.

        Raises:
            StoreError: the other store cannot be read; the text names it, not the one that is merged into.
        """
        try:
            return self.connection.execute(query).all()
        except DBAPIError as error:
            raise explain(error, self._url) from None


@contextlib.contextmanager
def opened(url: str) -> Iterator[Source]:
    """Open the store at a URL for reading.

    Raises:
        BadUrl, StoreUnavailable: there is no store, or it cannot be read.
        WrongDatabase: the database is another program's; StoreTooNew, StoreTooOld: the store has another version.
    """
    parsed = parse_url(url)
    with contextlib.ExitStack() as stack:
        if parsed.path is not None:
            parsed = _copied(parsed, stack.enter_context(_folder(parsed)) / "copy.db")
        database = Database(parsed, SystemClock(), READ_SECONDS)
        stack.callback(database.close)
        _make_ready(database)
        with database.snapshot() as connection:
            _refuse_views(connection, parsed)
            if parsed.kind == "postgresql":
                lift_idle_limit(connection)
            yield Source(connection, parsed)


def check_mergeable(url: str) -> None:
    """Check that `opened` would find a store, without copying it.

    Raises:
        BadUrl, StoreUnavailable, WrongDatabase: as `opened`.
    """
    parsed = parse_url(url)
    if parsed.path is None:
        with opened(url):
            return
    try:
        with _original(parsed):
            pass
    except sqlite3.Error as error:
        raise explain(error, parsed) from None


def lift_idle_limit(connection: sa.Connection) -> None:
    """Keep PostgreSQL from ending this transaction while it waits for the other side of the merge."""
    connection.exec_driver_sql(f"SET LOCAL idle_in_transaction_session_timeout = '{LONGEST_IDLE}'")


def _refuse_views(connection: sa.Connection, url: StoreUrl) -> None:
    """Refuse views in place of tables: a planted view could take for ever to read."""
    tables = set(sa.inspect(connection).get_table_names())
    for name in sorted(set(Base.metadata.tables) - tables):
        raise WrongDatabase(f"store '{url.safe}': '{name}' is not a table; restore a copy of it")


def _make_ready(database: Database) -> None:
    if database.url.kind == "postgresql":
        database.connect(is_starting_up)
    is_copy = database.url.kind == "sqlite"  # a PostgreSQL database is the original, and stays as it is
    if is_copy and check_revision(database.url.safe, database.read(current_revision)) == "older":
        database.write(upgrade)
    prepare_schema(database, create=False, migrate=False)


@contextlib.contextmanager
def _folder(url: StoreUrl) -> Iterator[Path]:
    """Create a temporary folder for the copy."""
    with contextlib.ExitStack() as stack:
        try:
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="aquasurf-merge-"))
        except OSError as error:
            text = f"cannot create a temporary copy of '{url.path}': {error.strerror}; set TMPDIR to another folder"
            raise StoreUnavailable(text) from None
        yield Path(folder)


def _copied(url: StoreUrl, copy: Path) -> StoreUrl:
    """Copy a store, and return the copy's URL, which is displayed as the original's."""
    try:
        with _original(url) as original, contextlib.closing(sqlite3.connect(copy)) as target:
            original.backup(target)
    except sqlite3.Error as error:
        # The disk of the copy is full: the original is only read.
        if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL:
            text = f"no space left in '{copy.parent.parent}' for a copy of '{url.path}'; set TMPDIR to another folder"
            raise StoreFull(text) from None
        raise explain(error, url) from None
    return StoreUrl("sqlite", url.sqlalchemy.set(database=str(copy)), url.safe, copy)


@contextlib.contextmanager
def _original(url: StoreUrl) -> Iterator[sqlite3.Connection]:
    """Yield a connection to the file of a store that cannot write."""
    assert url.path is not None  # noqa: S101 - a SQLite URL has a path
    if not url.path.is_file():
        raise StoreUnavailable(f"no database at '{url.path}'; name an existing store")
    with contextlib.closing(_read_only(url.path)) as connection:
        if connection.execute("PRAGMA application_id").fetchone()[0] != APPLICATION_ID:
            raise WrongDatabase(f"'{url.path}' is another program's SQLite file; name another store")
        yield connection


def _read_only(path: Path) -> sqlite3.Connection:
    """Open a connection that cannot write, even where SQLite cannot create its files next to the database."""
    name = f"file:{quote(str(path.absolute()))}?mode=ro"
    connection = sqlite3.connect(name, uri=True, timeout=READ_SECONDS)
    try:
        connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    except sqlite3.Error as error:
        connection.close()
        log = path.with_name(path.name + "-wal")
        # `immutable` ignores the write-ahead log, and with it every commit that is only there.
        if not isinstance(error, sqlite3.OperationalError) or (log.exists() and log.stat().st_size):
            raise
        return sqlite3.connect(f"{name}&immutable=1", uri=True)
    return connection
