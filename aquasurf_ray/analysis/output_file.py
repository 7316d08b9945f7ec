"""The file that a result goes to: whether it can be written, asked before hours of work, and its writing as a whole."""

from __future__ import annotations

import os
from pathlib import Path

from aquasurf_ray.activations.spaces import cache
from aquasurf_ray.analysis.errors import AnalysisError


def check_place(path: Path) -> None:
    """Checks that a file can be made, or replaced, at this place; it is left as it is.

    Raises:
        AnalysisError: the place is a folder or a device, is in no folder, or is not to be written to.
    """
    folder = path.absolute().parent
    if path.is_dir():
        raise AnalysisError(f"'{path}' is a folder; name a file in it")
    if path.exists() and not path.is_file():
        raise AnalysisError(f"'{path}' is no plain file; name one to write")
    if not folder.is_dir():
        raise AnalysisError(f"'{path}' cannot be written: there is no folder '{path.parent}'")
    for place in (folder, path) if path.exists() else (folder,):
        if not os.access(place, os.W_OK):
            raise AnalysisError(f"'{path}' cannot be written: '{place}' does not permit it")


def write_file(path: Path, data: bytes) -> None:
    """Writes a file that all may read; it is there as a whole, or what was there stays.

    Raises:
        AnalysisError: it cannot be written.
    """
    check_place(path)
    try:
        with cache.whole_file(path) as file:
            file.write(data)
        path.chmod(0o644)
    except OSError as error:
        raise AnalysisError(f"'{path}' cannot be written: {error.strerror or error}") from None
