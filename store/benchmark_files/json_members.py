"""A streaming reader of one large JSON object: its members one after the other, with a window of the file in memory.

Python's own decoder reads every value, so the bare words NaN and Infinity are numbers, which streaming parsers refuse.
A value that is incomplete is decoded again once more of the file is read. The window then doubles, so that no text is
read more than about twice. Values must be objects, and no object may have the same key twice.
"""

from __future__ import annotations

import codecs
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, NamedTuple

from aquasurf_ray.store.errors import BenchmarkFileError

LONGEST_MEMBER = 1 << 26  # characters; a longer member is refused, so that a damaged file cannot exhaust the memory
_CHUNK = 1 << 20
_LONGEST_WORD = len("-Infinity")  # an error this near to the window's end may be a word that was cut
_SPACE = " \t\n\r"
_BYTE_ORDER_MARK = "\ufeff"

Progress = Callable[[int, int], None]


class Member(NamedTuple):
    """A key, its value, and the byte at which the key begins."""

    key: str
    value: dict[str, Any]
    offset: int


class _DuplicateKey(Exception):
    """An object has a key twice. Not a ValueError, which would mean that the rest of the value is missing."""


def read_members(path: Path, progress: Progress | None = None) -> Iterator[Member]:
    """Yield the members in the order of the file.

    Args:
        progress: called with (bytes read, bytes in all) from time to time.

    Raises:
        BenchmarkFileError: the file is not a JSON object of objects, is cut short, or has a key twice; the text names
            the byte.
        OSError: the file cannot be read.
    """
    with path.open("rb") as file:
        size = path.stat().st_size
        window = _Window(file, path.name, lambda done: progress(done, size) if progress else None)
        if window.sign() == _BYTE_ORDER_MARK:
            window.skip(1)
        if window.sign() != "{":
            raise window.error(
                f"expected a JSON object, got {window.sign()!a}" if window.sign() else "the file is empty"
            )
        window.skip(1)
        if window.sign() == "}":
            window.skip(1)
        else:
            yield from _members(window)
        if window.sign():
            raise window.error(f"expected the end of the file after the JSON object, got {window.sign()!a}")


def _members(window: _Window) -> Iterator[Member]:
    seen: set[str] = set()
    while True:
        window.sign()
        offset = window.offset()
        key = window.value('"', "a name in double quotes", "")
        if key in seen:
            raise window.error(f"entry {key!a:.60} appears twice", offset)
        seen.add(key)
        window.take(":", key)
        yield Member(key, window.value("{", "an object", key), offset)
        if window.sign() == "}":
            window.skip(1)
            return
        window.take(",", "")


class _Window:
    """A part of the file's text, and a position in it."""

    def __init__(self, file: IO[bytes], name: str, on_read: Callable[[int], None]) -> None:
        self._file, self._name, self._on_read = file, name, on_read
        self._text, self._position = "", 0
        self._bytes_before = 0  # the bytes of the text that the window has left behind
        self._utf8 = codecs.getincrementaldecoder("utf-8")()
        self._at_end = False
        self._counted = 0, 0  # a position and the bytes of the text before it, so that counting continues from there
        self._decoder = json.JSONDecoder(object_pairs_hook=_unique)

    def sign(self) -> str:
        """Move to the next character that is not white space, and return it; '' at the end of the file."""
        while True:
            while self._position < len(self._text):
                if self._text[self._position] not in _SPACE:
                    return self._text[self._position]
                self._position += 1
            if not self._more():
                return ""

    def skip(self, n: int) -> None:
        """Move the position forward."""
        self._position += n

    def take(self, expected: str, key: str) -> None:
        """Move past this sign, which must come next."""
        if self.sign() != expected:
            raise self._unexpected(f"'{expected}'", key)
        self._position += 1

    def value(self, opening: str, what: str, key: str) -> Any:
        """Read a value that begins with this sign."""
        if self.sign() != opening:
            raise self._unexpected(what, key)
        while True:
            try:
                found, self._position = self._decoder.raw_decode(self._text, self._position)
                return found
            except RecursionError:
                raise self.error(f"{_in(key)}brackets are nested too deeply") from None
            except _DuplicateKey as duplicate:
                raise self.error(f"{_in(key)}{duplicate} appears twice") from None
            except ValueError as error:
                if self._is_certain(error):
                    raise self._broken(error, key) from None
                if len(self._text) - self._position > LONGEST_MEMBER:
                    raise self.error(f"{_in(key)}more than {LONGEST_MEMBER} characters are not an entry") from None
                if not self._more():
                    raise self._broken(error, key) from None

    def offset(self, position: int | None = None) -> int:
        """Return the byte of the file at a position of the window."""
        position = self._position if position is None else position
        before, n_bytes = self._counted if self._counted[0] <= position else (0, 0)
        n_bytes += len(self._text[before:position].encode())
        self._counted = position, n_bytes
        return self._bytes_before + n_bytes

    def error(self, what: str, offset: int | None = None) -> BenchmarkFileError:
        """Return the error with the byte at which it was found."""
        return BenchmarkFileError(f"'{self._name}', byte {self.offset() if offset is None else offset}: {what}")

    def _unexpected(self, expected: str, key: str) -> BenchmarkFileError:
        got = f"got {self.sign()!a}" if self.sign() else "but the file ends: it was cut short"
        return self.error(f"{_in(key)}expected {expected}, {got}")

    def _is_certain(self, error: ValueError) -> bool:
        """Return whether the decoder stopped well before the window ended, so that more of the file changes nothing."""
        if not isinstance(error, json.JSONDecodeError):
            return True
        return not error.msg.startswith("Unterminated") and error.pos + _LONGEST_WORD < len(self._text)

    def _broken(self, error: ValueError, key: str) -> BenchmarkFileError:
        if not isinstance(error, json.JSONDecodeError):
            return self.error(f"{_in(key)}{str(error)[:80]}")
        text = self._text.rstrip(_SPACE)
        if self._at_end and (error.pos >= len(text) or error.msg.startswith("Unterminated") or text[-1] != "}"):
            return self.error(f"{_in(key)}the file ends: it was cut short", self.offset(len(text)))
        return self.error(f"{_in(key)}{error.msg}", self.offset(error.pos))

    def _more(self) -> bool:
        """Read more of the file, and drop the text before the position; return False at the end of the file."""
        # Reading as much as is left doubles the window, so a long value is decoded a logarithmic number of times.
        data = b"" if self._at_end else self._file.read(max(_CHUNK, len(self._text) - self._position))
        self._at_end = not data
        decoded = self._decoded(data)
        if self._at_end:
            return False
        # The text before the position is counted in bytes before it is dropped: errors name a byte of the file.
        self._bytes_before = self.offset()
        self._text, self._position, self._counted = self._text[self._position :] + decoded, 0, (0, 0)
        self._on_read(self._file.tell())
        return True

    def _decoded(self, data: bytes) -> str:
        # The decoder may hold the first bytes of a character whose end was not read yet.
        first = self._file.tell() - len(data) - len(self._utf8.getstate()[0])
        try:
            return self._utf8.decode(data, final=self._at_end)
        except UnicodeDecodeError as error:
            raise self.error("the file is not text in UTF-8", first + error.start) from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        raise _DuplicateKey(next(f"{key!a:.60}" for key in found if keys.count(key) > 1))
    return found


def _in(key: str) -> str:
    return f"in entry {key!a:.60}: " if key else ""
