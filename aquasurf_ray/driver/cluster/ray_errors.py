"""Shorten Ray's errors to one line, without tracebacks and colours."""

from __future__ import annotations

import re

CREATION_ERROR = "error in the worker's creation: "
COLOUR = re.compile(r"\x1b\[[0-9;]*m")
LONGEST = 500


def cause_of(error: BaseException) -> str:
    """Return the exception that the other process raised, or how that process was lost.

    >>> cause_of(ValueError("two\\nlines"))
    'ValueError: two'
    """
    cause = getattr(error, "cause", None)
    if isinstance(cause, BaseException):
        return one_line(f"{type(cause).__name__}: {cause}")
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or ["no message"]
    if "error raised in its creation task" in lines[0]:
        return one_line(CREATION_ERROR + lines[-1])
    return one_line(f"{type(error).__name__}: {lines[0]}")


def can_be_retried(cause: str) -> bool:
    """Return whether a retry can succeed after this cause; an error of the task would occur on every worker.

    >>> can_be_retried("TaskError: the split is empty"), can_be_retried("RayActorError: gone")
    (False, True)
    """
    return not cause.startswith("TaskError: ")


def is_other_task(cause: str) -> bool:
    """Return whether a worker has refused a task that is another one in its process; no worker can have the driver's.

    >>> is_other_task("OtherTask: the data of task 'a' must be the same everywhere")
    True
    """
    return "OtherTask: " in cause


def one_line(text: str) -> str:
    """Return the text with white space folded and without colours, cut at 500 characters."""
    return " ".join(COLOUR.sub("", text).split())[:LONGEST]
