"""One transaction a verb, repeated as a whole when the database says "not now".

After a transient error (a locked SQLite file, a serialization failure, a deadlock, a lost connection, a restarting
server) the transaction is rolled back and, after a pause with back-off and jitter, run again, for up to `patience`
seconds. If the connection is lost during COMMIT, nobody knows whether it took place; so every verb is written such that
running it again after a commit changes nothing more.

SQLite continues to write to a file that was deleted or moved away, and the data are lost. So each transaction first
checks that the file at the URL is still the one that was opened.
"""

from __future__ import annotations

import logging
import random
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError

from aquasurf_ray.store.database.clock import Clock
from aquasurf_ray.store.database.engine import WRITES, explain, is_transient, make_engine
from aquasurf_ray.store.database.url import StoreUrl
from aquasurf_ray.store.errors import StoreUnavailable

logger = logging.getLogger(__name__)

T = TypeVar("T")
FIRST_PAUSE, LONGEST_PAUSE = 0.05, 2.0  # seconds
REPORT_EVERY = 5.0  # seconds: a search that waits for a lock says so, but not at every try


class Database:
    """Runs transactions on one engine. Threads may share it; a forked process must open its own."""

    def __init__(self, url: StoreUrl, clock: Clock, patience: float) -> None:
        self.url = url
        self.clock = clock
        self.patience = patience
        self._engine = make_engine(url)
        self._writer = self._engine.execution_options(**{WRITES: True})
        self._reader = self._engine
        self._path = url.path.absolute() if url.path is not None else None
        self._file: tuple[int, int] | None = None
        if url.kind == "postgresql":
            # PostgreSQL's default level would let each statement of a read see a different state. SQLite's never does.
            self._reader = self._engine.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)

    def __repr__(self) -> str:
        return f"Database({self.url})"

    def write(self, body: Callable[[sa.Connection], T]) -> T:
        """Return what `body` returns, once its transaction is committed.

        Raises:
            StoreError: the database refuses, or stays locked or away for longer than the patience.
        """
        return self.retrying(lambda: self._once(self._writer, body))

    def read(self, body: Callable[[sa.Connection], T]) -> T:
        """Return what `body` returns, read from one consistent state of the database."""
        return self.retrying(lambda: self._once(self._reader, body))

    @contextmanager
    def snapshot(self) -> Iterator[sa.Connection]:
        """Open a connection that reads one consistent state until it is closed. Nothing is retried here."""
        with self._reader.connect() as connection, connection.begin():
            yield connection

    def connect(self, transient: Callable[[DBAPIError], bool]) -> None:
        """Make sure that the database answers; retry only after errors that `transient` accepts."""
        self.retrying(lambda: self._once(self._engine, lambda connection: None), transient)

    def retrying(self, work: Callable[[], T], transient: Callable[[DBAPIError], bool] = is_transient) -> T:
        """Run `work` until it meets no transient error, or until the patience is spent."""
        started = self.clock.monotonic()
        reported, pause = started, FIRST_PAUSE
        while True:
            try:
                return work()
            except (DBAPIError, sqlite3.Error) as error:
                now = self.clock.monotonic()
                passing = transient(error) if isinstance(error, DBAPIError) else is_transient(error)
                if not passing or now - started >= self.patience:
                    raise explain(error, self.url) from None
                if now - reported >= REPORT_EVERY:
                    reported = now
                    logger.warning(
                        "%s; waiting since %.0f s, for at most %.0f s",
                        explain(error, self.url), now - started, self.patience,
                    )  # fmt: skip
            self.clock.sleep(random.uniform(0, pause))  # noqa: S311 - jitter, not a secret
            pause = min(2 * pause, LONGEST_PAUSE)

    def close(self) -> None:
        """Close all connections."""
        self._engine.dispose()

    def _once(self, engine: sa.Engine, body: Callable[[sa.Connection], T]) -> T:
        # At every try: the file may have been moved while the one before waited.
        self._check_file()
        return _once(engine, body)

    def _check_file(self) -> None:
        """Raise StoreUnavailable if SQLite's file is no longer the one that was opened."""
        if self._path is None:
            return
        found = _identity(self._path)
        if self._file is None:
            self._file = found
        elif found != self._file:
            raise StoreUnavailable(f"'{self._path}' is gone or another file is in its place; put it back")


def _identity(path: Path) -> tuple[int, int] | None:
    """Return device and inode number of a file; None if it does not exist."""
    try:
        stat = path.stat()
    except FileNotFoundError:
        return None
    return stat.st_dev, stat.st_ino


def _once(engine: sa.Engine, body: Callable[[sa.Connection], T]) -> T:
    with engine.connect() as connection, connection.begin():
        return body(connection)
