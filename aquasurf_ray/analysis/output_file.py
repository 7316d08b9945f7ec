"""Whether a file can be written, asked before hours of work whose result it is to hold."""

from __future__ import annotations

import os
from pathlib import Path

from aquasurf_ray.analysis.errors import AnalysisError


def check_place(path: Path) -> None:
    """Checks that a file can be made, or replaced, at this place; it is left as it is.

    Raises:
        AnalysisError: the place is a folder, is in none, or is not to be written to.
    """
    folder = path.absolute().parent
    if path.is_dir():
        raise AnalysisError(f"'{path}' is a folder; name a file in it")
    if not folder.is_dir():
        raise AnalysisError(f"'{path}' cannot be written: there is no folder '{path.parent}'")
    for place in (folder, path) if path.exists() else (folder,):
        if not os.access(place, os.W_OK):
            raise AnalysisError(f"'{path}' cannot be written: '{place}' does not permit it")
