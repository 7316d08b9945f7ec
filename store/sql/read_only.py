"""Read-only queries: any SELECT and nothing else, enforced by the database itself.

This module never judges the text of a query. SQLite opens the file read-only, with `query_only`, and asks an authorizer
before each action of a statement; only reading is allowed, so ATTACH, PRAGMA, VACUUM INTO and loading of extensions
fail when they are compiled. PostgreSQL gets the text as the query of a cursor, in the extended protocol, in a READ ONLY
transaction: a second statement, COPY or DML is a syntax error there, and a function that writes fails. A superuser's
rights are dropped first, and set_config, with which a SELECT could restore them, is revoked from everybody in this
transaction, which is rolled back. Still, a superuser's query may read every table of the server, including password
digests; so give the readers of a shared PostgreSQL store a role of their own (`store.verbs.roles`).

If parameters are given, `:name` in the text stands for a bound value, outside of quotes and comments.
"""

from __future__ import annotations

import contextlib
import re
import sqlite3
import time
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any, cast
from urllib.parse import quote

from sqlalchemy.exc import DBAPIError

from aquasurf_ray.store.database.engine import APPLICATION_ID, check_sqlite_file, explain, make_engine
from aquasurf_ray.store.database.url import StoreUrl, one_line, parse_url
from aquasurf_ray.store.errors import QueryError, WrongDatabase
from aquasurf_ray.store.records.answers import QueryResult

TIMEOUT = 30.0  # seconds
LONGEST_VALUE = 64 << 20  # bytes of the largest value that a query may build in SQLite
_STEPS_BETWEEN_LOOKS = 10_000  # instructions of SQLite's virtual machine between two looks at the clock
# Quoted text, quoted names, comments and casts match as a whole, so that their colons begin no parameter.
_PARAMETER = re.compile(r"'(?:[^']|'')*'|\"[^\"]*\"|--[^\n]*|/\*.*?\*/|::|:(?P<name>[A-Za-z_]\w*)|%", re.DOTALL)
_GRANTED = frozenset(
    # RECURSIVE: WITH RECURSIVE, which reads too; the deadline ends one that never stops.
    {sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_FUNCTION, sqlite3.SQLITE_RECURSIVE}
)  # fmt: skip
_REFUSED_FUNCTIONS = frozenset({"load_extension", "fts3_tokenizer", "readfile", "writefile", "edit"})


def read_only_query(
    url: str,
    sql: str,
    limit: int | None = None,
    timeout: float = TIMEOUT,
    parameters: Mapping[str, str | int | float] | None = None,
) -> QueryResult:
    """Return the rows of one SELECT: at most `limit`, within `timeout` seconds.

    Args:
        parameters: the values of `:name` in the query; None passes the text to the database as it is.

    Raises:
        QueryError: the database refuses or cannot run the query, in its own words, or a parameter is missing.
        BadUrl, StoreUnavailable, WrongDatabase: the store cannot be read.
    """
    parsed = parse_url(url)
    if "\x00" in sql:  # PostgreSQL's library would run only the part before it
        raise QueryError(f"the query has U+0000 at {sql.index(chr(0)) + 1}; remove it")
    values = dict(parameters or {})
    if parsed.kind == "sqlite":
        return _query_sqlite(parsed, sql, values, limit, timeout)
    return _query_postgres(parsed, _percent_named(sql, values) if values else sql, values, limit, timeout)


def _percent_named(sql: str, values: Mapping[str, Any]) -> str:
    """Return a query with each `:name` in psycopg's spelling, `%(name)s`."""

    def spelled(match: re.Match[str]) -> str:
        name = match["name"]
        if name is None:
            return match[0].replace("%", "%%")
        if name not in values:
            raise QueryError(
                f"the query has a parameter ':{name:.40}' without a value; give it one with --set {name:.40}=VALUE"
            )
        return f"%({name})s"

    return _PARAMETER.sub(spelled, sql)


def _query_sqlite(url: StoreUrl, sql: str, values: dict[str, Any], limit: int | None, timeout: float) -> QueryResult:
    try:
        check_sqlite_file(url, create=False)
        assert url.path is not None  # noqa: S101 - a SQLite URL has a path
        connection = _open_sqlite(url.path, timeout)
    except sqlite3.Error as error:
        raise explain(error, url) from None
    with contextlib.closing(connection):
        try:
            cursor = connection.execute(sql, values)
            rows = cursor.fetchall() if limit is None else cursor.fetchmany(limit)
        except (sqlite3.Error, sqlite3.Warning, ValueError, OverflowError, MemoryError) as error:
            raise QueryError(_refusal(error, timeout)) from None
        return _result(cursor.description, rows)


def _open_sqlite(path: Path, timeout: float) -> sqlite3.Connection:
    connection = sqlite3.connect(f"file:{quote(str(path.absolute()))}?mode=ro", uri=True, timeout=timeout)
    if connection.execute("PRAGMA application_id").fetchone()[0] != APPLICATION_ID:
        connection.close()
        raise WrongDatabase(f"'{path}' is empty; start a search or give another --store")
    connection.execute("PRAGMA query_only = ON")
    connection.execute("PRAGMA trusted_schema = OFF")
    connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, LONGEST_VALUE)
    deadline = time.monotonic() + timeout
    connection.set_progress_handler(lambda: int(time.monotonic() > deadline), _STEPS_BETWEEN_LOOKS)
    connection.set_authorizer(_authorize)
    return connection


def _authorize(action: int, first: str | None, second: str | None, database: str | None, trigger: str | None) -> int:
    if action not in _GRANTED:
        return sqlite3.SQLITE_DENY
    if action == sqlite3.SQLITE_FUNCTION and (second or "").lower() in _REFUSED_FUNCTIONS:
        return sqlite3.SQLITE_DENY
    return sqlite3.SQLITE_OK


def _query_postgres(url: StoreUrl, sql: str, values: dict[str, Any], limit: int | None, timeout: float) -> QueryResult:
    import psycopg

    engine = make_engine(url)
    try:
        raw = engine.raw_connection()
    except (DBAPIError, psycopg.Error) as error:
        raise explain(error, url) from None
    try:
        connection = cast("psycopg.Connection[Any]", raw.driver_connection)
        return _query_psycopg(connection, sql, values, limit, timeout)
    except psycopg.Error as error:
        raise QueryError(url.redact(str(error).split("\n")[0])) from None
    except UnicodeEncodeError:
        raise QueryError("the query holds characters that UTF-8 cannot encode; remove them") from None
    finally:
        raw.close()
        engine.dispose()


def _query_psycopg(connection: Any, sql: str, values: dict[str, Any], limit: int | None, timeout: float) -> QueryResult:
    connection.rollback()  # inside an open transaction, the block below would be a mere savepoint
    with connection.transaction(force_rollback=True):
        connection.execute(f"SET LOCAL statement_timeout = {int(timeout * 1000)}")
        # Before READ ONLY: to revoke a right is to write.
        if connection.execute("SHOW is_superuser").fetchone()[0] == "on":
            _drop_rights(connection)
        connection.execute("SET TRANSACTION READ ONLY")  # cannot be undone within a transaction
        with connection.cursor(name="aquasurf_query") as cursor:  # DECLARE ... CURSOR FOR, one statement only
            cursor.execute(sql, values or None)
            rows = cursor.fetchall() if limit is None else cursor.fetchmany(limit)
            return _result(cursor.description, rows)


def _drop_rights(connection: Any) -> None:
    """Drop a superuser's rights until the transaction ends: SET is not a SELECT, and set_config is revoked.

    Two such queries run one after the other, because both change the function's row in the catalogue.
    """
    connection.execute("REVOKE EXECUTE ON FUNCTION pg_catalog.set_config(text, text, boolean) FROM PUBLIC")
    connection.execute("SET LOCAL ROLE pg_read_all_data")


def _result(description: Any, rows: list[Any]) -> QueryResult:
    if description is None:
        raise QueryError("the query gives no rows; write a SELECT")
    return QueryResult(tuple(column[0] for column in description), tuple(tuple(map(_plain, row)) for row in rows))


def _plain(value: Any) -> Any:
    """Convert PostgreSQL's exact numbers, such as sums of integers, to Python's int or float."""
    if not isinstance(value, Decimal):
        return value
    return int(value) if value.is_finite() and value == value.to_integral_value() else float(value)


def _refusal(error: BaseException, timeout: float) -> str:
    if str(error) == "interrupted":
        return f"the query took longer than {timeout:g} s; ask for less"
    return one_line(str(error) or type(error).__name__)
