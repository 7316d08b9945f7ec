"""Results on standard output: tables for people, JSON or CSV for programs.

JSON is strict: NaN and infinite numbers, which JSON does not have, become null.
"""

from __future__ import annotations

import csv
import io
import json
import math
import sys
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from datetime import datetime
from enum import StrEnum
from typing import Any

from aquasurf_ray.value_text import LARGEST, value_text


class Format(StrEnum):
    """The formats that a table can be printed in."""

    table = "table"
    json = "json"
    csv = "csv"


@contextmanager
def user_code() -> Iterator[None]:
    """Redirect standard output to standard error while user code runs, which may print: only results belong there."""
    with redirect_stdout(sys.stderr):
        yield


def print_json(document: Any) -> None:
    """Print one JSON document."""
    print(json.dumps(_plain(document), indent=2, ensure_ascii=False))


def print_rows(
    columns: Sequence[str], rows: Sequence[Sequence[Any]], form: Format, *, decimals: Mapping[str, int] | None = None
) -> None:
    """Print rows under column names, in JSON as a list of objects; `decimals` by column shorten the table only."""
    if form is Format.json:
        print_json([dict(zip(columns, row, strict=True)) for row in rows])
    elif form is Format.csv:
        buffer = io.StringIO()
        # Not the module's CRLF, which Unix tools take for part of the last column.
        writer = csv.writer(buffer, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows([["" if cell is None else cell for cell in row] for row in rows])
        sys.stdout.write(buffer.getvalue())
    else:
        print_table(columns, rows, decimals)


def print_table(
    columns: Sequence[str],
    rows: Sequence[Sequence[Any]],
    decimals: Mapping[str, int] | None = None,
    *,
    differences: Collection[str] = (),
) -> None:
    """Print a plain table, as wide as its text needs: numbers to the right, as `value_text` writes them, or with the
    `decimals` of a column. Numbers in the columns `differences` are as exact as the largest one there."""
    places = [(decimals or {}).get(column) for column in columns]
    among = [_largest(row[i] for row in rows) if column in differences else 0.0 for i, column in enumerate(columns)]
    cells = [[_cell(*of_column) for of_column in zip(row, places, among, strict=True)] for row in rows]
    widths = [max(map(len, column)) for column in zip(columns, *cells, strict=True)] if columns else []
    numeric = [all(isinstance(row[i], (int, float, type(None))) for row in rows) for i in range(len(columns))]
    for line in (list(columns), *cells):
        parts = [c.rjust(w) if right else c.ljust(w) for c, w, right in zip(line, widths, numeric, strict=True)]
        print("  ".join(parts).rstrip())


def _largest(column: Iterable[Any]) -> float:
    return max((abs(value) for value in column if isinstance(value, float) and math.isfinite(value)), default=0.0)


def _cell(value: Any, decimals: int | None, among: float) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        # A large number with all its digits would widen the column for every row.
        if decimals is None or LARGEST <= abs(value) < math.inf:
            return value_text(value, among=among)
        return f"{value:z.{decimals}f}"
    if isinstance(value, datetime):
        return value.strftime("%Y-%m-%d %H:%M:%S")
    # Texts such as error messages may have several lines, and a row has one.
    return " ".join(str(value).split()) if isinstance(value, str) else str(value)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, bytes):
        return value.hex()
    return value
