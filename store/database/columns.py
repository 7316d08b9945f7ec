"""Column types that store the same value on both engines, and the database's own clock.

- floats: NaN and the infinities come back as they were. SQLite would turn NaN into NULL, so there it is the text
  'NaN'; it sorts above all numbers, as NaN does in PostgreSQL.
- text: U+0000 (which PostgreSQL refuses) and lone surrogates (which UTF-8 lacks) become U+FFFD.
- times: UTC, microseconds, always aware in Python; taken from the database's clock by `utc_now()`.
- JSON: floats that JSON lacks become the strings "NaN", "Infinity", "-Infinity"; read by `json` only.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import BigInteger, DateTime, Dialect, Double, Integer, Text
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.types import TypeDecorator

from aquasurf_ray.store.errors import BadRecord, StoreCorrupt

REPLACEMENT = "\ufffd"

# SQLite numbers rows by itself only in a column of the type INTEGER.
Identifier = BigInteger().with_variant(Integer(), "sqlite")


class FaithfulFloat(TypeDecorator[float]):
    """A double that round-trips NaN and the infinities."""

    impl = Double
    cache_ok = True

    def bind_processor(self, dialect: Dialect) -> Callable[[Any], Any]:
        """Replace SQLAlchemy's own processor, which would turn SQLite's 'NaN' back into a float."""
        return _text_for_nan if dialect.name == "sqlite" else _plain_float

    def process_result_value(self, value: Any, dialect: Dialect) -> float | None:
        """Return a float, also from SQLite's 'NaN'."""
        if value is None or isinstance(value, float):
            return value
        try:
            return float(value)
        except (TypeError, ValueError):
            raise StoreCorrupt(f"a number was expected in the store, got {value!r:.40}; restore a copy of it") from None


class CleanText(TypeDecorator[str]):
    """Text that both engines can store."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        """Replace characters that cannot be stored."""
        return None if value is None else clean(value)


class UtcDateTime(TypeDecorator[datetime]):
    """An instant; naive UTC text in SQLite, timestamptz in PostgreSQL."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Convert to UTC, naive for SQLite."""
        if value is None:
            return None
        value = value.astimezone(UTC)
        return value.replace(tzinfo=None) if dialect.name == "sqlite" else value

    def result_processor(self, dialect: Dialect, coltype: object) -> Callable[[Any], Any] | None:
        """Return aware times in UTC. SQLite's text is parsed here: SQLAlchemy's own error does not show the value."""
        return _read_time if dialect.name == "sqlite" else super().result_processor(dialect, coltype)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Convert PostgreSQL's value to UTC."""
        return None if value is None else value.astimezone(UTC)


class utc_now(FunctionElement[datetime]):
    """The database's clock, so that times written by many machines compare."""

    type = UtcDateTime()
    inherit_cache = True


@compiles(utc_now, "sqlite")
def _sqlite_now(element: utc_now, compiler: SQLCompiler, **kw: Any) -> str:
    # SQLite's clock gives milliseconds; the zeros make six digits, the form of every other time in the file.
    return "strftime('%Y-%m-%d %H:%M:%f000', 'now')"


@compiles(utc_now, "postgresql")
def _postgres_now(element: utc_now, compiler: SQLCompiler, **kw: Any) -> str:
    return "clock_timestamp()"  # now() would be the start of the transaction, which may have waited for a lock


def _read_time(value: Any) -> datetime | None:
    if value is None:
        return None
    try:
        return datetime.fromisoformat(value).replace(tzinfo=UTC)
    except (TypeError, ValueError):
        raise StoreCorrupt(f"a time was expected in the store, got {value!r:.40}; restore a copy of it") from None


def _plain_float(value: Any) -> float | None:
    return None if value is None else float(value)  # neither driver accepts NumPy's scalars


def _text_for_nan(value: Any) -> float | str | None:
    value = _plain_float(value)
    return "NaN" if value is not None and math.isnan(value) else value


def clean(text: str) -> str:
    """Return `text` with U+0000 and lone surrogates replaced.

    >>> clean("a\\x00b\\ud800")
    'a\ufffdb?'
    """
    return text.replace("\x00", REPLACEMENT).encode("utf-8", "replace").decode("utf-8")


def dump_json(value: Any) -> str:
    """Return compact ASCII JSON, with NaN and the infinities as strings and `\\u0000` replaced."""
    try:
        text = json.dumps(value, allow_nan=False, separators=(",", ":"), default=_plain)
    except ValueError:  # NaN or an infinity, too rare to copy every value for
        text = json.dumps(_spelled(value), allow_nan=False, separators=(",", ":"))
    return text.replace("\\u0000", "\\ufffd")


def load_json(text: str | bytes) -> Any:
    """Return the value of a JSON cell.

    Raises:
        StoreCorrupt: the cell is not JSON.
    """
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise StoreCorrupt(f"JSON was expected in the store, got {text!r:.40}; restore a copy of it") from None


def _plain(value: Any) -> Any:
    """Return a NumPy scalar as a Python number."""
    if not hasattr(value, "item"):
        raise BadRecord(f"JSON cannot hold {type(value).__name__} {value!r:.40}; give numbers, text, lists and dicts")
    return value.item()


def _spelled(value: Any) -> Any:
    if not isinstance(value, (str, int, float, dict, list, tuple, type(None))):
        value = _plain(value)
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, dict):
        return {key: _spelled(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_spelled(item) for item in value]
    return value
