"""What a run's configuration says of how the run came about, and so which commands know its task."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

from aquasurf_ray.tasks.errors import TaskError
from aquasurf_ray.tasks.registry import check_name

STUDY = "study"
"""The key of a run's configuration that only studies have: their values are told by a loop of the user's own."""
DRAWS = "draws"
"""The key that only runs of Ray Tune have: how often each function is tried."""
OWN_TASK = "own_task"
"""The key of runs that were started from Python with a task, which may have the name of another one."""
NETWORK = "network"
"""The key of studies whose spectra are those of a network, which is no task: it has no recipe to train it with."""
TRANSFERRED = "transferred_from"
"""The key of a transfer's run: the run whose best functions it trains."""


def has_task(config: Mapping[str, Any]) -> bool:
    """Return whether the values of a run, or the spectra of its network, are those of a task.

    >>> has_task({"study": {}, "task_digest": "d"}), has_task({"study": {}, "task_digest": "d", "network": True})
    (True, False)
    """
    return STUDY not in config or ("task_digest" in config and not config.get(NETWORK))


def computes_spectra(kind: str, config: Mapping[str, Any]) -> bool:
    """Return whether a run computes spectra of its candidates, so that their number is part of its progress.

    >>> computes_spectra("search", {"features": "both"}), computes_spectra("search", {"features": "outputs"})
    (True, False)
    >>> computes_spectra("evaluate", {"features": "both"})
    False
    """
    return kind == "build" or (kind == "search" and config.get("features") != "outputs")


def how_to_continue(name: str, config: Mapping[str, Any], where: str = "", evaluations: int | None = None) -> str:
    """Return the command or the call that continues a run; `where` is the option that names its store.

    >>> how_to_continue("one", {"task": "digits"}, " --store sqlite:///a.db", 60)
    'aquasurf resume one --evaluations 60 --store sqlite:///a.db'
    >>> how_to_continue("one", {"study": {}}, evaluations=60), how_to_continue("one", {"study": {}})
    ("Study('one', ..., evaluations=60)", "Study('one', ...)")
    >>> how_to_continue("one", {"task": "mine", "own_task": True}), how_to_continue("one", {"draws": 3})
    ("aquasurf_ray.driver.resume('one', task=task)", 'Tuner.restore')
    """
    more = "" if evaluations is None else f", evaluations={evaluations}"
    if STUDY in config:
        return f"Study({name!r}, ...{more})"
    if DRAWS in config:
        return "Tuner.restore"
    if config.get(OWN_TASK):
        return f"aquasurf_ray.driver.resume({name!r}, task=task{more})"
    return f"aquasurf resume {shlex.quote(name)}{'' if evaluations is None else f' --evaluations {evaluations}'}{where}"


def knows_task(config: Mapping[str, Any]) -> bool:
    """Return whether commands find the task of a run by the name in its configuration.

    >>> knows_task({"task": "digits"}), knows_task({"task": "digits", "own_task": True}), knows_task({"task": "mine"})
    (True, False, False)
    """
    if "task" not in config or config.get(OWN_TASK) or not has_task(config):
        return False
    try:
        check_name(str(config["task"]))
    except TaskError:
        return False
    return True
