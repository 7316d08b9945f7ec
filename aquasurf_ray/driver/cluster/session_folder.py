"""The folder of a private Ray instance: Ray's default, or a short private folder if the default cannot have sockets.

Ray puts its session into a folder `ray` under RAY_TMPDIR, TMPDIR or /tmp, and its sockets into the session's folder.
The system allows a socket's path 107 bytes, which leaves 43 for the folder: a TMPDIR of a batch job is often longer.
In that case, or if the folder cannot be written, Ray gets a folder under /tmp that only this user can enter, and that
is removed when Ray has ended.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from aquasurf_ray.driver.errors import DriverError

SOCKET_BYTES = 107
IN_THE_FOLDER = "/session_2026-11-28_12-00-00_000000_4194304/sockets/plasma_store"
SHORT_PLACE = "/tmp"  # noqa: S108 - a new folder of mode 0700 is made in it


@contextmanager
def session_folder() -> Iterator[str | None]:
    """Yield the folder in which to start Ray; None if Ray's default works.

    Raises:
        DriverError: Ray's default does not work, and no folder can be created under /tmp.
    """
    problem = _problem(os.path.join(os.environ.get("RAY_TMPDIR", os.environ.get("TMPDIR", SHORT_PLACE)), "ray"))
    if problem is None:
        yield None
        return
    try:
        folder = tempfile.TemporaryDirectory(prefix="aquasurf-", dir=SHORT_PLACE, ignore_cleanup_errors=True)
    except OSError as error:
        raise DriverError(
            f"Ray does not start: {problem}, and none can be made in {SHORT_PLACE} ({error.strerror}); set RAY_TMPDIR "
            f"or TMPDIR to a folder that you may write, of at most {_longest() - len('/ray')} bytes"
        ) from None
    with folder:
        # Ray opens its folder to all users, so it gets a subfolder of a folder that only this user can enter.
        yield os.path.join(folder.name, "ray")


def _problem(folder: str) -> str | None:
    """Return what prevents Ray from having its sockets in a folder, or None; Ray creates a missing folder."""
    n_bytes = len(os.fsencode(os.path.abspath(folder)))
    if n_bytes > _longest():
        return f"its folder '{folder}' has {n_bytes} bytes, {_longest()} at most leave room for its sockets"
    place = Path(folder).absolute()
    existing = next(path for path in (place, *place.parents) if os.path.exists(path))
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        return f"its folder '{folder}' cannot be written"
    return None


def _longest() -> int:
    return SOCKET_BYTES - len(IN_THE_FOLDER)
