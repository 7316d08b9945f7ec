"""The JSON log of a run: one JSON object per line, appended to a file.

Each line has `time` (UTC), `run`, `event`, and the fields of the event (`events`). A line is written whole and never
rewritten, so the file can be followed, and rotated by copying and truncating. If the file can no longer be written,
this is reported once and the run continues. The URL of the database is written without its password.
"""

from __future__ import annotations

import errno
import json
import logging
import math
import os
from datetime import UTC, datetime
from types import TracebackType
from typing import Any

from aquasurf_ray.driver.errors import BadUse
from aquasurf_ray.driver.events import Event

logger = logging.getLogger(__name__)


class JsonLog:
    """A file to which events are appended. It may be a pipe, whose reader is never waited for.

    Raises:
        BadUse: the file cannot be written.
    """

    def __init__(self, path: str, run: str) -> None:
        self._path, self._run = path, run
        try:
            # O_APPEND: a line lands at the end, also after rotation has truncated the file. O_NONBLOCK: see above.
            self._file: int | None = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NONBLOCK, 0o640)
        except OSError as error:
            why = "nobody reads this pipe" if error.errno == errno.ENXIO else error.strerror
            raise BadUse(f"log: '{path}' cannot be written: {why}") from None

    def __enter__(self) -> JsonLog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def on_event(self, event: Event) -> None:
        """Append a line, if the event belongs in the log."""
        if self._file is None or not event.logged:
            return
        line = {"time": datetime.now(UTC).isoformat(timespec="milliseconds"), "run": self._run, "event": event.name}
        text = json.dumps(line | {key: _plain(value) for key, value in event.fields().items()}, allow_nan=False) + "\n"
        try:
            os.write(self._file, text.encode())
        except OSError as error:
            self.close()
            logger.warning("log '%s' ends here: %s", self._path, error.strerror)

    def close(self) -> None:
        """Close the file; harmless twice."""
        file, self._file = self._file, None
        if file is not None:
            os.close(file)


def check_log(path: str) -> None:
    """Check that a log can be written, and create the file.

    Raises:
        BadUse: it cannot be written.
    """
    JsonLog(path, "").close()


def _plain(value: Any) -> Any:
    """Return a value that JSON can represent; infinities and NaN become strings."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value if isinstance(value, (str, int, float, bool, type(None))) else str(value)
