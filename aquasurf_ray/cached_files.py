"""Files of what can be computed again: in one folder, written whole, and computed again where they are damaged.

Arrays are stored as uncompressed .npz files (nothing pickled), named by everything that decides their content. zip's
checksums detect a damaged one.
"""

from __future__ import annotations

import functools
import hashlib
import os
import secrets
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

T = TypeVar("T")
Arrays = Mapping[str, NDArray[Any]]


def default_folder() -> Path:
    """Return `$AQUASURF_CACHE` if it is set, else `~/.cache/aquasurf-ray`; for a user without a home, a folder that is
    removed when the process ends."""
    named = os.environ.get("AQUASURF_CACHE")
    if named:
        return Path(named)
    try:
        return Path.home() / ".cache" / "aquasurf-ray"
    except RuntimeError:
        return Path(_folder_of_process().name)


@functools.cache
def _folder_of_process() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="aquasurf-ray-")


def key_of(content: object) -> str:
    """Return 32 hexadecimal digits that differ where the `repr` of the content does, for the name of a file."""
    return hashlib.blake2b(repr(content).encode(), digest_size=16).hexdigest()


@contextmanager
def whole_file(path: Path) -> Iterator[IO[bytes]]:
    """Open a temporary file that replaces `path` once it is completely written, so that readers see a whole file or
    none; its folder is created. If writing fails, nothing is left of it.

    Raises:
        OSError: the file cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.stem}-{secrets.token_hex(8)}.part")
    with part.open("xb") as file:
        try:
            yield file
            file.flush()
            # On disk before it gets its name, or a power cut could leave an empty file under it.
            os.fsync(file.fileno())
            part.replace(path)
        except BaseException:
            part.unlink()
            raise


def read_arrays(path: Path, what: str, build: Callable[[Arrays], T]) -> T | None:
    """Return what `build` makes of the arrays in a file; None if there is no file, or, with a warning that names
    `what`, if it cannot be read, or if its arrays are not those that `build` accepts."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            return build(stored)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except Exception as error:  # damage shows as any of a dozen errors of zip, NumPy and the system
        trouble = "cannot be read" if isinstance(error, PermissionError) else "is damaged"
        warnings.warn(f"cached {what} {str(path)!r} {trouble} ({error}) and is computed again", stacklevel=3)
        return None


def write_arrays(path: Path, what: str, arrays: Arrays) -> None:
    """Store arrays; a folder that cannot be written is a warning, because they can be computed again."""
    try:
        with whole_file(path) as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]
    except OSError as error:
        warnings.warn(f"{what} cannot be stored in {str(path.parent)!r}: {error.strerror or error}", stacklevel=3)
