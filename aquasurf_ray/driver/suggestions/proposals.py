"""Functions that a user's command proposes: a script, or a program that asks a language model.

The command gets the leaderboard as a JSON document on standard input and prints functions, one a line; empty lines and
lines that begin with `#` do not count. It runs in parallel with the search, once for each generation, and the surrogate
decides what is trained. A command that fails, hangs or prints something else only causes a note.
"""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import signal
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

LIMIT_SECONDS = 300.0
MOST_BYTES = 1_000_000  # that are read
MOST_LINES = 1_000
MOST_WRITTEN = 100_000_000  # bytes, after which the command is ended
FAILURES = 3  # in a row, after which the command is not run again in this session
_SHOWN = 200  # characters of an error


@dataclass
class _Running:
    """A command at work: its process, the files of its output, the time when it began, and the limit that it reached,
    in words."""

    process: subprocess.Popen[bytes]
    output: Any
    errors: Any
    began: float
    problem: str = ""


class ProposalCommand:
    """The command of one session, which runs at most once at a time.

    Args:
        text: the command with its arguments, as in a shell; no shell interprets it.
        note: called with one line about each failure.
        clock: a monotonic clock, in seconds.
    """

    def __init__(self, text: str, note: Callable[[str], None], clock: Callable[[], float]) -> None:
        self._words, self._note, self._clock = shlex.split(text), note, clock
        self._running: _Running | None = None
        self._failures = 0

    def start(self, document: dict[str, Any]) -> None:
        """Run the command with this document; do nothing if it has failed too often."""
        if self._failures >= FAILURES:
            return
        # Files instead of pipes: neither side ever waits for the other, however much is written.
        with tempfile.TemporaryFile() as given, contextlib.ExitStack() as files:
            given.write(json.dumps(document).encode() + b"\n")
            given.seek(0)
            output, errors = (files.enter_context(tempfile.TemporaryFile()) for _ in range(2))
            try:
                process = subprocess.Popen(  # noqa: S603 - the user's own command
                    self._words, stdin=given, stdout=output, stderr=errors, start_new_session=True
                )
            except OSError as error:
                self._fail(f"cannot be started: {error.strerror or error}")
                return
            files.pop_all()  # they are closed when they have been read
        self._running = _Running(process, output, errors, self._clock())

    @property
    def is_running(self) -> bool:
        """True while the command works within its limits."""
        self.watch()
        return self._running is not None and self._running.process.poll() is None

    def watch(self) -> None:
        """End the command if it has reached a limit; called often, for an endless output fills a disk in minutes."""
        running = self._running
        if running is None or running.process.poll() is not None:
            return
        if self._clock() - running.began >= LIMIT_SECONDS:
            running.problem = f"took longer than {LIMIT_SECONDS:.0f} s"
        elif max(os.fstat(file.fileno()).st_size for file in (running.output, running.errors)) > MOST_WRITTEN:
            running.problem = f"wrote more than {MOST_WRITTEN // 1_000_000} MB"
        else:
            return
        _end(running.process)

    def take(self) -> list[str]:
        """Return the lines that the command has printed, each once; none if it failed or has reached a limit."""
        if self.is_running:
            return []
        running, self._running = self._running, None
        if running is None:
            return []
        with running.output, running.errors:
            if running.problem:
                self._fail(running.problem)
            elif running.process.returncode != 0:
                self._fail(f"ended with status {running.process.returncode}{_last_line(running.errors)}")
            else:
                self._failures = 0
                return self._lines(running.output)
        return []

    def close(self) -> None:
        """End the command."""
        if self._running is not None:
            _end(self._running.process)
            self._running.output.close()
            self._running.errors.close()
            self._running = None

    def _lines(self, output: Any) -> list[str]:
        output.seek(0)
        text = output.read(MOST_BYTES).decode("utf-8", errors="replace")
        lines = [line.strip() for line in text.splitlines()]
        return list(dict.fromkeys(line for line in lines if line and not line.startswith("#")))[:MOST_LINES]

    def _fail(self, what: str) -> None:
        self._failures += 1
        last = "; it is not run again in this session" if self._failures == FAILURES else ""
        self._note(f"proposals: '{self._words[0]}' {what}{last}")


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a process and those that it has started; it leads their group."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _last_line(errors: Any) -> str:
    """Return the end of what was written to standard error, for a note."""
    errors.seek(0, os.SEEK_END)
    errors.seek(max(0, errors.tell() - 10_000))
    lines = errors.read().decode("utf-8", errors="replace").strip().splitlines()
    return f": {lines[-1][:_SHOWN]}" if lines else ""
