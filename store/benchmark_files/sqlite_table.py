"""The rows of a benchmark in a SQLite database: one table, one row a function, arrays as Python text.

What the columns are called is not known for sure. A column is understood if its name is a title of the JSON format in
any case and with any signs between its words (`Validation Accuracy`, `validation_accuracy`), with the usual short
forms; any other is kept beside the entry under its own name. The file is opened as one that never changes: no lock is
taken and nothing is written beside it.
"""

from __future__ import annotations

import contextlib
import re
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

from aquasurf_ray.store.benchmark_files.act_bench import ALIASES, CDF, FIGURES, SCORES
from aquasurf_ray.store.benchmark_files.json_members import LONGEST_MEMBER, Progress
from aquasurf_ray.store.benchmark_files.literals import LiteralError, read_literal
from aquasurf_ray.store.errors import BenchmarkFileError

MAGIC = b"SQLite format 3\x00"
NAME = "function"
_SHORT = {"val": "validation", "acc": "accuracy", "eigs": "eigenvalue", "eigenvalues": "eigenvalue"}
_NAMES = ("function", "name", "activation function", "activation fn", "fn name", "function name", "fn")
_FIGURES = {title for title, _, _ in FIGURES + SCORES}


def _plain(name: str) -> str:
    """
    >>> _plain("Val_Acc"), _plain("Runtime (s)")
    ('validation accuracy', 'runtime s')
    """
    words = re.findall(r"[a-z0-9]+", name.lower())
    return " ".join(_SHORT.get(word, word) for word in words)


_TITLES = {
    **{_plain(title): title for title in (*_FIGURES, ALIASES, CDF)},
    **{_plain(name): NAME for name in _NAMES},
    **{"runtime": "Runtime (s)", "aliases": ALIASES, "equivalent functions": ALIASES},
    **{"equivalent fns": ALIASES, "equivalent activation fns": ALIASES},
}


def read_rows(path: Path, progress: Progress | None = None) -> Iterator[tuple[str, dict[str, Any], str]]:
    """Name, values by the titles of the JSON format, and place, of every row.

    Args:
        progress: called with (rows read, rows in all) now and then.

    Raises:
        BenchmarkFileError: not one table, a column of the same meaning twice, none for the names, or a cell that
            is no literal; the text names row and column.
    """
    _refuse_unfinished(path)
    try:
        uri = f"file:{quote(str(path.absolute()))}?mode=ro&immutable=1"
        with contextlib.closing(sqlite3.connect(uri, uri=True)) as connection:
            _distrust(connection)
            yield from _rows(connection, path.name, progress or (lambda done, total: None))
    except (sqlite3.Error, UnicodeDecodeError) as error:
        raise BenchmarkFileError(f"'{path.name}': the database cannot be read: {str(error)!a:.100}") from None


def _rows(connection: sqlite3.Connection, name: str, progress: Progress) -> Iterator[tuple[str, dict[str, Any], str]]:
    table = _only_table(connection, name)
    total = connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0]  # noqa: S608 - a quoted name
    cursor = connection.execute(f"SELECT * FROM {table}")  # noqa: S608
    columns = [column[0] for column in cursor.description]
    titles = _titles(columns, name)
    seen: set[str] = set()
    for n, row in enumerate(cursor, start=1):
        values = dict(zip(titles, row, strict=True))
        function, place = values.pop(NAME), f"row {n}"
        if not isinstance(function, str) or function in seen:
            problem = "is there a second time" if function in seen else "is no name of a function"
            raise BenchmarkFileError(f"'{name}', {place}: {function!a:.60} {problem}")
        seen.add(function)
        for title, value in values.items():
            try:
                values[title] = _cell(title, value)
            except LiteralError as error:
                column = columns[titles.index(title)]
                raise BenchmarkFileError(f"'{name}', {place}, column {column!a:.60}: {error}") from None
        yield function, values, place
        progress(n, total)


def _titles(columns: list[str], name: str) -> list[str]:
    """What each column is: a title of the JSON format, `NAME`, or its own name."""
    titles = [_TITLES.get(_plain(column), column) for column in columns]
    for column, title in zip(columns, titles, strict=True):
        if titles.count(title) > 1:
            raise BenchmarkFileError(f"'{name}': column {column!a:.60} and another one both mean '{title:.60}'")
    if NAME not in titles:
        raise BenchmarkFileError(
            f"'{name}': no column holds the functions; it is expected to be named {', '.join(_NAMES[:4])}, "
            f"got {', '.join(f'{column!a:.40}' for column in columns[:12])}"
        )
    return titles


def _cell(title: str, value: Any) -> Any:
    """A cell as JSON would have it."""
    if title in (ALIASES, CDF):
        if value is None:
            return []
        return read_literal(value) if isinstance(value, str) else value
    if title in _FIGURES and isinstance(value, str):
        return read_literal(value)
    return value.hex() if isinstance(value, bytes) else value


def _distrust(connection: sqlite3.Connection) -> None:
    """No functions of the file's own schema, and no cell that would fill the memory."""
    connection.execute("PRAGMA query_only = ON")
    connection.execute("PRAGMA trusted_schema = OFF")
    connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, LONGEST_MEMBER)


def _only_table(connection: sqlite3.Connection, name: str) -> str:
    found = connection.execute(
        "SELECT name FROM sqlite_master WHERE type = 'table' AND sql LIKE 'CREATE TABLE%'"
        " AND name NOT LIKE 'sqlite!_%' ESCAPE '!'"
    ).fetchall()
    if len(found) != 1:
        names = ", ".join(f"{row[0]!a:.40}" for row in found[:6])
        raise BenchmarkFileError(f"'{name}': one table is expected, got {len(found)}{': ' if names else ''}{names}")
    return '"{}"'.format(str(found[0][0]).replace('"', '""'))


def _refuse_unfinished(path: Path) -> None:
    """Changes that lie beside the file are not in it, and an open that never changes would not see them."""
    for suffix in ("-wal", "-journal"):
        beside = path.with_name(path.name + suffix)
        if beside.exists() and beside.stat().st_size:
            raise BenchmarkFileError(
                f"'{path.name}' has changes that are still in '{beside.name}'; close what writes it"
            )
