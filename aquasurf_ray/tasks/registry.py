"""Finds a task by name.

A built-in task has a short name; anybody else's is named `package.module:function`, where the function takes no
arguments and returns a `Task`. A new built-in task is one file and one line in `BUILT_IN`.
"""

from __future__ import annotations

import difflib
import importlib
import sys
from pathlib import Path

from aquasurf_ray.tasks.errors import TaskError
from aquasurf_ray.tasks.task import Task

BUILT_IN = {
    "digits": "aquasurf_ray.tasks.digits:digits",
}


def task_names() -> list[str]:
    """The short names that `load_task` knows."""
    return sorted(BUILT_IN)


def load_task(name: str, *, import_from: Path | None = None) -> Task:
    """The task with a built-in name, or made by `package.module:function`.

    Args:
        name: a short name or an import path with one colon.
        import_from: a folder to look for the module in first, normally the working folder.

    Raises:
        TaskError: nothing has that name, or what has it does not return a `Task`.
    """
    path = BUILT_IN.get(name, name)
    if ":" not in path:
        raise TaskError(f"unknown task '{name}'{_hint(name)}; or give your own as package.module:function")
    maker = _import(path, import_from)
    try:
        task = maker()  # type: ignore[operator]
    except TaskError:
        raise
    except (Exception, SystemExit) as error:  # the user's own code: whatever it raises is a reason to refuse the task
        raise TaskError(f"task '{name}' could not be made: {type(error).__name__}: {error}") from error
    if not isinstance(task, Task):
        raise TaskError(f"task '{name}' must return a Task, got {type(task).__name__}")
    return task


def _hint(name: str) -> str:
    close = difflib.get_close_matches(name, task_names(), n=1)
    return f"; did you mean '{close[0]}'?" if close else f"; there are: {', '.join(task_names())}"


def _import(path: str, import_from: Path | None) -> object:
    module_name, _, attribute = path.partition(":")
    if import_from is not None and str(import_from) not in sys.path:
        sys.path.insert(0, str(import_from))
    try:
        maker = getattr(importlib.import_module(module_name), attribute)
    except AttributeError as error:
        raise TaskError(f"module '{module_name}' has no '{attribute}'") from error
    except (Exception, SystemExit) as error:  # importing the user's module runs the user's code
        raise TaskError(f"module '{module_name}' cannot be imported: {type(error).__name__}: {error}") from error
    if not callable(maker):
        raise TaskError(f"'{path}' must be a function that returns a Task, got {type(maker).__name__}")
    return maker
