"""The folder of a private Ray instance: Ray's own, or a short one of this process where Ray's cannot have sockets.

Ray puts its session into a folder `ray` under RAY_TMPDIR, TMPDIR or /tmp, and its sockets into the session's folder.
The system allows a socket's path 107 bytes, which leaves 43 for the folder: a TMPDIR of a batch job is often longer.
Then, and where the folder cannot be written, Ray gets a folder under /tmp that only this user can enter, and that is
removed when Ray has ended.
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
    """Yield the folder to start Ray in; None where Ray's own is as good.

    Raises:
        DriverError: Ray's own does not do, and no folder can be made under /tmp.
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
        # Ray opens its folder to all users of the machine, so it gets one inside the folder that is closed to them.
        yield os.path.join(folder.name, "ray")


def _problem(folder: str) -> str | None:
    """Return what keeps Ray from having its sockets in a folder, which it makes where it is missing."""
    n_bytes = len(os.fsencode(os.path.abspath(folder)))
    if n_bytes > _longest():
        return f"its folder '{folder}' has {n_bytes} bytes, {_longest()} at most leave room for its sockets"
    place = Path(folder).absolute()
    there = next(path for path in (place, *place.parents) if os.path.exists(path))
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        return f"its folder '{folder}' cannot be written"
    return None


def _longest() -> int:
    return SOCKET_BYTES - len(IN_THE_FOLDER)
