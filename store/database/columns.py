"""Column types that keep the same value on both engines, and the database's own clock.

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

Identifier = BigInteger().with_variant(Integer(), "sqlite")


class FaithfulFloat(TypeDecorator[float]):
    """A double that round-trips NaN and the infinities."""

    impl = Double
    cache_ok = True

    def bind_processor(self, dialect: Dialect) -> Callable[[Any], Any]:
        """In place of the implementation's own, which would turn SQLite's 'NaN' back into a float."""
        return _text_for_nan if dialect.name == "sqlite" else _plain_float

    def process_result_value(self, value: Any, dialect: Dialect) -> float | None:
        """Numbers, and SQLite's 'NaN'."""
        if value is None or isinstance(value, float):
            return value
        try:
            return float(value)
        except (TypeError, ValueError):
            raise StoreCorrupt(f"a number was expected in the store, got {value!r:.40}") from None


class CleanText(TypeDecorator[str]):
    """Text that both engines can hold."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        """Replaces what cannot be stored."""
        return None if value is None else clean(value)


class UtcDateTime(TypeDecorator[datetime]):
    """An instant; naive UTC text in SQLite, timestamptz in PostgreSQL."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """UTC, naive for SQLite."""
        if value is None:
            return None
        value = value.astimezone(UTC)
        return value.replace(tzinfo=None) if dialect.name == "sqlite" else value

    def result_processor(self, dialect: Dialect, coltype: object) -> Callable[[Any], Any] | None:
        """Aware, in UTC. SQLite's text is read here: the implementation's own error would not say what is wrong."""
        return _read_time if dialect.name == "sqlite" else super().result_processor(dialect, coltype)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Aware, in UTC, from PostgreSQL."""
        return None if value is None else value.astimezone(UTC)


class utc_now(FunctionElement[datetime]):
    """The database's clock, so that times written by many machines compare."""

    type = UtcDateTime()
    inherit_cache = True


@compiles(utc_now, "sqlite")
def _sqlite_now(element: utc_now, compiler: SQLCompiler, **kw: Any) -> str:
    return "strftime('%Y-%m-%d %H:%M:%f000', 'now')"


@compiles(utc_now, "postgresql")
def _postgres_now(element: utc_now, compiler: SQLCompiler, **kw: Any) -> str:
    return "clock_timestamp()"


def _read_time(value: Any) -> datetime | None:
    if value is None:
        return None
    try:
        return datetime.fromisoformat(value).replace(tzinfo=UTC)
    except (TypeError, ValueError):
        raise StoreCorrupt(f"a time was expected in the store, got {value!r:.40}") from None


def _plain_float(value: Any) -> float | None:
    return None if value is None else float(value)  # NumPy's scalars are not known to either driver


def _text_for_nan(value: Any) -> float | str | None:
    value = _plain_float(value)
    return "NaN" if value is not None and math.isnan(value) else value


def clean(text: str) -> str:
    """`text` without U+0000 and lone surrogates.

    >>> clean("a\\x00b\\ud800")
    'a\ufffdb?'
    """
    return text.replace("\x00", REPLACEMENT).encode("utf-8", "replace").decode("utf-8")


def dump_json(value: Any) -> str:
    """Compact ASCII JSON; NaN and the infinities as strings, `\\u0000` replaced."""
    try:
        text = json.dumps(value, allow_nan=False, separators=(",", ":"), default=_plain)
    except ValueError:
        text = json.dumps(_spelled(value), allow_nan=False, separators=(",", ":"))
    return text.replace("\\u0000", "\\ufffd")


def load_json(text: str | bytes) -> Any:
    """The value of a JSON cell.

    Raises:
        StoreCorrupt: it is not JSON.
    """
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise StoreCorrupt(f"JSON was expected in the store, got {text!r:.40}") from None


def _plain(value: Any) -> Any:
    """The Python number in a NumPy scalar."""
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
