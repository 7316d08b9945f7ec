"""The address of a store: the engine, the file or server, and a form without passwords for display.

A URL is `sqlite:///FILE` or `postgresql+psycopg://USER@HOST/DATABASE`. Passwords exist only here and in the engine:
all texts for people and logs pass through `safe` and `redact`.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from aquasurf_ray.store.errors import BadUrl

EXPECTED = "give sqlite:///FILE or postgresql+psycopg://USER@HOST/DATABASE"
HIDDEN = "***"
_POSTGRES_NAMES = frozenset({"postgres", "postgresql", "postgresql+psycopg"})
_PREPARE = "prepare_threshold"
_SQLITE_NAMES = frozenset({"sqlite", "sqlite+pysqlite"})


@dataclass(frozen=True)
class StoreUrl:
    """A checked URL. Its text form hides every password."""

    kind: Literal["sqlite", "postgresql"]
    sqlalchemy: URL = field(repr=False)
    safe: str
    path: Path | None = None
    secrets: dict[str, str] = field(default_factory=dict, repr=False)
    options: dict[str, int | None] = field(default_factory=dict)  # psycopg's own, which libpq does not know

    def __str__(self) -> str:
        return self.safe

    def redact(self, text: str) -> str:
        """Return `text` on one line of at most 300 characters, without this URL's passwords."""
        for secret in filter(None, (self.sqlalchemy.password, *self.secrets.values())):
            text = text.replace(secret, HIDDEN)
        return one_line(text)


def parse_url(text: str) -> StoreUrl:
    """Return the checked form of a URL.

    Raises:
        BadUrl: not a URL, another engine, no file named, or options that SQLite does not support.

    Example:
        >>> parse_url("postgres://ada:secret@db.example/runs").safe
        'postgresql+psycopg://ada:***@db.example/runs'
    """
    if text.partition("://")[2].partition("/")[0].count("@") > 1:
        raise BadUrl(f"store '{_hide(text)}' has more than one @ before its host, write %40 in a password; {EXPECTED}")
    try:
        url = make_url(text)
    except (ArgumentError, ValueError):
        raise BadUrl(f"store '{_hide(text)}' is not a database URL; {EXPECTED}") from None
    if url.drivername in _SQLITE_NAMES:
        return _sqlite(url)
    if url.drivername in _POSTGRES_NAMES:
        return _postgres(url)
    raise BadUrl(f"store '{_hide(text)}' is neither SQLite nor PostgreSQL; {EXPECTED}")


def one_line(text: str) -> str:
    """Return the text on one line: white space folded, and cut after 300 characters."""
    folded = " ".join(text.split())
    return folded if len(folded) <= 300 else folded[:297] + "..."


def _sqlite(url: URL) -> StoreUrl:
    if not url.database or url.database == ":memory:" or url.database.startswith("file:"):
        raise BadUrl(f"store '{url}' names no file; give sqlite:///FILE")
    if url.query or url.host:
        raise BadUrl(f"store '{_hide(str(url))}' has more parts than a file name; give sqlite:///FILE")
    return StoreUrl("sqlite", url.set(drivername="sqlite+pysqlite"), str(url), Path(url.database))


def _postgres(url: URL) -> StoreUrl:
    # Passwords leave the URL before anything is made of it that may be shown.
    secrets = {key: value for key, value in url.query.items() if _is_secret(key) and isinstance(value, str)}
    url = url.difference_update_query(secrets).set(drivername="postgresql+psycopg")
    if "password" in secrets:
        url = url.set(password=secrets.pop("password"))
    safe = url.render_as_string(hide_password=True)
    bare = safe.partition("?")[0]  # the value of a parameter with a slip may be a password
    _check_parameters(bare, [*url.query, *secrets])
    options = {}
    if _PREPARE in url.query:
        options[_PREPARE] = _threshold(bare, url.query[_PREPARE])
        url = url.difference_update_query([_PREPARE])
    return StoreUrl("postgresql", url, safe, secrets=secrets, options=options)


def _is_secret(parameter: str) -> bool:
    return any(word in parameter for word in ("password", "secret", "scram_"))


def _check_parameters(safe: str, names: Iterable[str]) -> None:
    import psycopg

    known = {_PREPARE, *(option.keyword.decode() for option in psycopg.pq.Conninfo.get_defaults())}
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean '{near[0]}'?" if near else "see PostgreSQL's list of connection parameters"
            raise BadUrl(f"store '{safe}' has an unknown parameter '{name}'; {hint}")


def _threshold(safe: str, text: object) -> int | None:
    """Read psycopg's `prepare_threshold`: after how many times a statement is prepared, or none for never."""
    if isinstance(text, str) and text.lower() == "none":
        return None
    if not (isinstance(text, str) and text.isascii() and text.isdigit()):
        raise BadUrl(f"store '{safe}' has a parameter {_PREPARE} that is neither a number from 0 on nor none")
    return int(text)


def _hide(text: str) -> str:
    """Return a URL that could not be parsed, with anything that may be a password hidden."""
    text = re.sub(r"//.*@", f"//{HIDDEN}@", text, flags=re.DOTALL)
    return one_line(re.sub(r"(password=)[^&]*", rf"\1{HIDDEN}", text))
