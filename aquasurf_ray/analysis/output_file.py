"""The output file of a result: a check before hours of work that it can be written, and an atomic write.

matplotlib is imported when a picture is drawn, and needs no display.
"""

from __future__ import annotations

import os
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aquasurf_ray import cached_files
from aquasurf_ray.analysis.errors import AnalysisError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PICTURES = (".png", ".svg", ".pdf")


def check_place(path: Path) -> None:
    """Check that a file can be created or replaced at this path; an existing file is left unchanged.

    Raises:
        AnalysisError: the path is a folder or a device, its folder does not exist, or writing is not permitted.
    """
    folder = path.absolute().parent
    if path.is_dir():
        raise AnalysisError(f"'{path}' is a folder; name a file in it")
    if path.exists() and not path.is_file():
        raise AnalysisError(f"'{path}' is not a regular file; name one to write")
    if not folder.is_dir():
        raise AnalysisError(f"'{path}' cannot be written: there is no folder '{path.parent}'")
    for place in (folder, path) if path.exists() else (folder,):
        if not os.access(place, os.W_OK):
            raise AnalysisError(f"'{path}' cannot be written: '{place}' does not permit it")


def write_file(path: Path, data: bytes) -> None:
    """Write a file that everybody may read, whole or not at all: if writing fails, an existing file stays unchanged.

    Raises:
        AnalysisError: the file cannot be written.
    """
    check_place(path)
    try:
        with cached_files.whole_file(path) as file:
            file.write(data)
        path.chmod(0o644)  # whatever the umask is
    except OSError as error:
        raise AnalysisError(f"'{path}' cannot be written: {error.strerror or error}") from None


def check_picture(path: Path) -> None:
    """Check, before anything is computed for a picture, that it can be drawn into this file.

    Raises:
        AnalysisError: matplotlib is not installed or does not know the format, or the file cannot be written.
    """
    new_figure()
    if path.suffix not in PICTURES:
        raise AnalysisError(f"picture '{path}' must end in one of {', '.join(PICTURES)}")
    check_place(path)


def new_figure(**settings: Any) -> Figure:
    """Return an empty figure of matplotlib.

    Raises:
        AnalysisError: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise AnalysisError("a picture needs matplotlib: pip install matplotlib") from None
    return Figure(layout="constrained", **settings)


def write_picture(figure: Figure, path: Path) -> None:
    """Write a figure in the format of the file's suffix, one of `PICTURES`, whole or not at all.

    Raises:
        AnalysisError: the file cannot be written.
    """
    drawn = BytesIO()
    figure.savefig(drawn, format=path.suffix.removeprefix("."))
    write_file(path, drawn.getvalue())
