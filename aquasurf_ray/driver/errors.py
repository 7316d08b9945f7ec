"""The exceptions of the driver, split by what the caller can do about each.

DriverError
├── BadUse            the request itself is wrong: nothing was started (exit code 2)
└── RunFailed         the run stopped before its budget was met; it can be resumed (exit code 1)
    ├── WorkersFailed the workers cannot start, or die on every job
    ├── TaskAtFault   no baseline trains, so the task has to be mended first
    └── Interrupted   Ctrl-C or SIGTERM
"""

from __future__ import annotations


class DriverError(Exception):
    """A search or an evaluation cannot be carried out as requested."""


class BadUse(DriverError, ValueError):
    """The request is wrong; the message names the value received and what is expected."""


class RunFailed(DriverError, RuntimeError):
    """The run stopped early. Everything finished is in the store, and `aquasurf resume` continues the run."""


class WorkersFailed(RunFailed):
    """No worker can do its work; the message includes the last worker's error."""


class TaskAtFault(RunFailed):
    """No baseline trains on the task; the message includes the most frequent reason."""


class Interrupted(RunFailed):
    """The run was asked to stop by a signal."""
