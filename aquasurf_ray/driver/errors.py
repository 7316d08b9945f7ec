"""The exceptions of the driver, split by what the caller can do about each.

DriverError
├── BadUse            the request itself is wrong: nothing was started (exit code 2)
├── TrialEnded        the trial of a study was told before, or it failed
├── TrialTaken        the trial's lease had expired, and another process was asked to train its function
└── RunFailed         the run stopped before its budget was met; it can be resumed (exit code 1)
    ├── WorkersFailed the workers cannot start, or die on every job
    ├── TaskAtFault   no baseline trains, so the task, or the machines, have to be mended first
    └── Interrupted   Ctrl-C or SIGTERM
"""

from __future__ import annotations


class DriverError(Exception):
    """A search or an evaluation cannot be carried out as requested."""


class BadUse(DriverError, ValueError):
    """The request is wrong; the message names the value received and what is expected."""


class TrialEnded(DriverError):
    """The trial has a value already, or it failed; a trial is told once."""


class TrialTaken(DriverError):
    """The trial's lease had expired, and another process has its function; the value is in the run's log only."""


class RunFailed(DriverError, RuntimeError):
    """The run stopped early. Everything finished is in the store, and `aquasurf resume` continues the run."""


class WorkersFailed(RunFailed):
    """No worker can do its work; the message includes the last worker's error."""


class TaskAtFault(RunFailed):
    """No baseline trains on the task, with the most frequent reason in the message; or workers have another task."""


class Interrupted(RunFailed):
    """The run was asked to stop by a signal."""
