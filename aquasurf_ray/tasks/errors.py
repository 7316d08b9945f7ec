"""The exceptions of this room."""

from __future__ import annotations

from collections.abc import Mapping, Sequence


class TaskError(ValueError):
    """A task is unknown or not well formed, or its data cannot be loaded."""


class UnknownTask(TaskError):
    """No task has this name; no code of the user's own has failed."""


class ModelFails(TaskError):
    """An existing model fails on the inputs that it is tried on."""


class OtherTask(TaskError):
    """The task of this name is another one in this process than in the one that began the run."""


def differing_parts(mine: Mapping[str, str], other: Mapping[str, str]) -> list[str]:
    """Return the parts of a task, such as `data`, whose digests (`Task.digests`) differ in two processes.

    >>> differing_parts({"data": "a", "recipe": "b"}, {"data": "c", "recipe": "b", "init": "d"})
    ['data', 'init']
    """
    return sorted(part for part in mine.keys() | other.keys() if mine.get(part) != other.get(part))


def other_parts(name: str, parts: Sequence[str]) -> str:
    """Return the beginning of a message on the parts of a task that are others than elsewhere, with what to do.

    >>> other_parts("mine", ["recipe"])
    "the recipe of task 'mine' must be the same everywhere, and is another"
    """
    if "data" in parts:
        return (
            f"the data of task '{name}' must be the same everywhere: seed their random generator, as in "
            "np.random.default_rng(0), and sort what a set or a folder lists; data() returns others"
        )
    return f"the {' and the '.join(parts)} of task '{name}' must be the same everywhere, and is another"


def require(condition: bool, name: str, value: object, expected: str) -> None:
    """Raise TaskError with the field and its value if the condition does not hold."""
    if not condition:
        raise TaskError(f"{name} must be {expected}, got {value!r}")
