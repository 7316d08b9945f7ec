"""The arguments of the verbs, checked before anything is started: a task, numbers of seeds, what is tuned."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from aquasurf_ray.analysis.studies.run_origin import OWN_TASK
from aquasurf_ray.driver.errors import BadUse
from aquasurf_ray.driver.other_process import refuse_other_in_another_process
from aquasurf_ray.driver.own_activation import with_reference
from aquasurf_ray.driver.settings.models import SearchConfig
from aquasurf_ray.driver.settings.places import data_folder
from aquasurf_ray.driver.settings.until import Until
from aquasurf_ray.driver.user_modules import import_modules
from aquasurf_ray.recipe_change import UNCHANGED, changes_of
from aquasurf_ray.store import Run
from aquasurf_ray.surrogate.regressors import REGRESSORS
from aquasurf_ray.surrogate.settings import METRIC_REGRESSORS
from aquasurf_ray.tasks import Task, TaskError, load_task
from aquasurf_ray.tasks.data_sets import DATA_FOLDER


def name_of(task: str | Task) -> str:
    """Return the name of the task in the store and in configurations."""
    return task.name if isinstance(task, Task) else task


def loaded_task(task: str | Task, config: SearchConfig) -> Task:
    """Return the task, checked as a whole: the digest needs its network and its data.

    Raises:
        BadUse: the task cannot be loaded, one of its baselines is no function, or `until` does not fit its metric.
    """
    import_modules(config.modules)
    try:
        with _data_folder_set(data_folder(config)):
            loaded = load_task(task, import_from=Path.cwd()) if isinstance(task, str) else task
            _ = loaded.digest  # builds the network and loads the data, so whatever is wrong with them shows here
            loaded = with_reference(loaded)
    except TaskError as error:
        raise BadUse(str(error)) from error
    problem = Until.parse(config.until).problem_with(loaded.objective.metric) if config.until else None
    if problem:
        raise BadUse(f"until: {problem}, got '{config.until}'")
    return loaded


def task_of_run(run: Run, given: Task | None, config: SearchConfig) -> Task:
    """Return the task of a run: the one that is given now, or else the one of the name in the run's configuration.

    Raises:
        BadUse: it cannot be loaded, or has changed since the run began: results of two tasks must not mix.
    """
    is_unnamed = given is None and OWN_TASK in run.config
    unnamed = (
        f"the task of run '{run.name}' was given as a Python object, which has no name to load it by; give it again in "
        "Python, with task=, or begin a run with its import path in place of the object: 'module:function'"
    )
    try:
        loaded = loaded_task(given or config.task, config)
    except BadUse as error:
        raise BadUse(unnamed if is_unnamed else str(error)) from error
    if loaded.digest != run.config["task_digest"]:
        raise BadUse(unnamed if is_unnamed else _changed(run, loaded, given, config))
    return loaded


def _changed(run: Run, loaded: Task, given: Task | None, config: SearchConfig) -> str:
    """Return what to do about a task that is not that of its run: it may be another one in each process."""
    changed = f"task '{loaded.name}' has changed since run '{run.name}' began"
    if given is None:
        try:
            with _data_folder_set(data_folder(config)):
                refuse_other_in_another_process(config.task, loaded, loaded.splits())
        except TaskError as error:
            return f"{changed}, although its code may not have: {error}; mend it, and start another run"
    return f"{changed}; restore it, or start another run"


def check_seeds(seeds: int) -> None:
    """Raise BadUse unless there is at least one seed."""
    if seeds < 1:
        raise BadUse(f"seeds: at least one is needed, got {seeds}")


def check_regressor(config: SearchConfig) -> None:
    """Raise BadUse unless the surrogate has this regressor."""
    known = METRIC_REGRESSORS if config.surrogate == "metric" else REGRESSORS
    if config.regressor not in known:
        raise BadUse(f"regressor must be one of {', '.join(sorted(known))}, got '{config.regressor}'")


def recipe_changes(config: SearchConfig, task: Task) -> tuple[str, ...]:
    """Return the changes of the recipe that functions are tried with; "" alone if nothing is tuned.

    Raises:
        BadUse: the recipe has no such field, or refuses a value.
    """
    tuned = config.tuned()
    if tuned is None:
        return (UNCHANGED,)
    try:
        return changes_of(*tuned, task.recipe)
    except (TaskError, ValueError) as error:
        raise BadUse(f"{tuning_setting(config)}: {error}") from None


def tuning_setting(config: SearchConfig) -> str:
    """Return the name of the setting that says what is tuned."""
    return "learning-rates" if config.learning_rates else "tune"


@contextmanager
def _data_folder_set(folder: str | None) -> Iterator[None]:
    """Set the environment variable of the data folder while a task is loaded; workers get it in their settings."""
    before = os.environ.get(DATA_FOLDER)
    if folder is not None:
        os.environ[DATA_FOLDER] = folder
    try:
        yield
    finally:
        if folder is not None:
            os.environ.pop(DATA_FOLDER)
            os.environ.update({DATA_FOLDER: before} if before is not None else {})
