"""What can go wrong in a run, split by what the caller can do about it.

DriverError
├── BadUse            the request itself is wrong: nothing was started (exit code 2)
└── RunFailed         the run stopped before its budget was met; it can be resumed (exit code 1)
    ├── WorkersFailed the workers cannot start, or die whatever they are given
    └── Interrupted   Ctrl-C or SIGTERM
"""

from __future__ import annotations


class DriverError(Exception):
    """A search or an evaluation could not be done as asked."""


class BadUse(DriverError, ValueError):
    """The request is wrong; the message says what was got and what is expected."""


class RunFailed(DriverError, RuntimeError):
    """The run stopped early. Everything finished is in the store, and `aquasurf resume` goes on."""


class WorkersFailed(RunFailed):
    """No worker can do its work; the message holds the last worker's error."""


class Interrupted(RunFailed):
    """The run was asked to stop by a signal."""
