"""The log of a run for machines: one JSON object a line, appended to a file.

Each line has `time` (UTC), `run` and `event`, and the fields of the occurrence (`occurrences`). Lines are written whole
at once and never rewritten, so the file may be followed, and rotated by copying and truncating. A file that cannot be
written any more is told of once and ends nothing. The database is named without its password.
"""

from __future__ import annotations

import errno
import json
import logging
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from aquasurf_ray.driver.callbacks.progress import Reporter, RunView
from aquasurf_ray.driver.errors import BadUse

OWN_LOGGERS = ("aquasurf_ray",)


class RunLog:
    """A file that occurrences are appended to. Of a pipe nothing is waited for: neither its reader nor room in it.

    Raises:
        BadUse: it cannot be written.
    """

    def __init__(self, path: str, run: str) -> None:
        self._path, self._run = path, run
        try:
            self._file: int | None = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NONBLOCK, 0o640)
        except OSError as error:
            why = "nobody reads this pipe" if error.errno == errno.ENXIO else error.strerror
            raise BadUse(f"log: '{path}' cannot be written: {why}") from None

    def __call__(self, event: str, /, **fields: object) -> None:
        """One line."""
        line = {"time": datetime.now(UTC).isoformat(timespec="milliseconds"), "run": self._run, "event": event}
        text = json.dumps(line | {key: _plain(value) for key, value in fields.items()}, allow_nan=False) + "\n"
        try:
            if self._file is not None:
                os.write(self._file, text.encode())
        except OSError as error:
            self.close()
            logging.getLogger(__name__).warning("log '%s' ends here: %s", self._path, error.strerror)

    def close(self) -> None:
        """Harmless twice."""
        file, self._file = self._file, None
        if file is not None:
            os.close(file)


def check_log(path: str) -> None:
    """Looks whether a log can be written, and makes the file.

    Raises:
        BadUse: it cannot.
    """
    RunLog(path, "").close()


@contextmanager
def run_log(path: str | None, run: str) -> Iterator[RunLog | None]:
    """The log of one session, to which this program's own warnings go too; None without a path."""
    if path is None:
        yield None
        return
    log = RunLog(path, run)
    handler = _Handler(log)
    loggers = [logging.getLogger(name) for name in OWN_LOGGERS]
    for logger in loggers:
        logger.addHandler(handler)
    try:
        yield log
    finally:
        for logger in loggers:
            logger.removeHandler(handler)
        log.close()


class Noting:
    """A reporter whose notes go to the log too."""

    def __init__(self, reporter: Reporter, log: RunLog) -> None:
        self._reporter, self._log = reporter, log

    def note(self, text: str) -> None:
        """Shows the line, and logs it."""
        self._reporter.note(text)
        self._log("note", text=text)

    def update(self, view: RunView) -> None:
        """Shows the view."""
        self._reporter.update(view)

    def close(self) -> None:
        """Gives the terminal back."""
        self._reporter.close()


class _Handler(logging.Handler):
    def __init__(self, log: RunLog) -> None:
        super().__init__(logging.WARNING)
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        self._log(record.levelname.lower(), logger=record.name, text=record.getMessage())
        if not logging.getLogger().handlers and logging.lastResort:
            logging.lastResort.handle(record)  # as if this handler were not there


def _plain(value: Any) -> Any:
    """As JSON has it; numbers that it lacks are words."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value if isinstance(value, (str, int, float, bool, type(None))) else str(value)
