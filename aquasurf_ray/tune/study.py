"""The study of a Tune experiment: the task in the store to which the results of its trials belong.

A trial has a function and other settings. Fixed settings are part of the task: `epochs=5` gives the task with that
recipe, with the same digest as in `aquasurf search`. Settings that are tuned together with the function give a separate
task, whose record names their domains: a function's score is the best of several draws. A draw depends only on the
search's seed, the function and the number of the draw. This number replaces the training seed in the store, so a row
of the store always means the same training. A metric other than the task's own, a trainable that this package does not
know, or a mean over the repeats of Tune's `Repeater` gives yet another task.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from ray.tune.search.sample import Domain, Function

from aquasurf_ray.driver.errors import BadUse
from aquasurf_ray.driver.settings.models import digest
from aquasurf_ray.tasks import Recipe, Task, TaskError

SCORE, MAX = "score", "max"
RECIPE_FIELDS = tuple(field.name for field in fields(Recipe))


@dataclass(frozen=True)
class Study:
    """The task of an experiment as the store has it, and the settings for each function.

    `loaded` is the task with the fixed settings, unless the experiment has its own trainable; `higher_is_better`
    decides how the experiment's metric becomes a score.
    """

    name: str
    version: str
    digest: str
    spec: dict[str, Any]
    fixed: Mapping[str, Any]
    tuned: Mapping[str, Domain]
    seed: int
    higher_is_better: bool
    loaded: Task | None = None

    def settings(self, fingerprint: str, number: int) -> dict[str, Any]:
        """Return the other settings for one draw of a function, by the number of the draw."""
        drawn = {name: self._drawn(name, fingerprint, number) for name in self.tuned}
        return {**self.fixed, **drawn}

    def score(self, value: float) -> float:
        """Return the metric's value, with the sign changed where lower is better."""
        return value if self.higher_is_better else -value

    def _drawn(self, name: str, fingerprint: str, number: int) -> Any:
        text = f"{self.seed} {fingerprint} {number} {name}"
        # A seed per setting, so that adding one setting does not change the draws of the others.
        # NumPy takes seeds of 32 bits.
        seed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:4])
        value = self.tuned[name].sample(random_state=seed)
        return value.item() if hasattr(value, "item") else value  # NumPy's numbers are not JSON-serialisable


def study_of_task(task: Task, config: Mapping[str, Any], metric: str, mode: str, seed: int, repeat: int) -> Study:
    """Return the study of `train_activation` on a task.

    Raises:
        BadUse: recipes do not have a setting, or a value is out of range.
    """
    fixed, tuned = _split(config)
    unknown = [name for name in config if name not in RECIPE_FIELDS]
    if unknown:
        raise BadUse(f"config: '{unknown[0]}' is not a recipe setting; choose from {', '.join(RECIPE_FIELDS)}")
    try:
        loaded = replace(task, recipe=replace(task.recipe, **fixed))
    except TaskError as error:
        raise BadUse(f"config: {error}") from None
    spec = loaded.spec()
    is_tasks_own = not tuned and (metric, mode, repeat) == (SCORE, MAX, 1)
    if tuned:
        spec["recipe"] = {key: value for key, value in spec["recipe"].items() if key not in tuned}
        spec["tuned"] = _texts(tuned, seed)
    if (metric, mode) != (SCORE, MAX):
        spec["objective"] = {**spec["objective"], "metric": metric, "higher_is_better": mode == MAX}
    if repeat > 1:
        spec["repeat"] = repeat
    key = loaded.digest if is_tasks_own else digest(spec)
    if (metric, mode) == (SCORE, MAX):  # the range of another metric is not known
        spec["objective"] = {**spec["objective"], **loaded.objective.metric.bounds}
    return Study(task.name, task.version, key, spec, fixed, tuned, seed, mode == MAX, loaded)


def study_of_trainable(
    trainable: str, config: Mapping[str, Any], metric: str, mode: str, seed: int, repeat: int
) -> Study:
    """Return the study of the user's own trainable, identified by the name that the user gives it."""
    fixed, tuned = _split(config)
    objective = {"metric": metric, "higher_is_better": mode == MAX}
    spec: dict[str, Any] = {"name": trainable, "trainable": trainable, "config": fixed, "objective": objective}
    if tuned:
        spec["tuned"] = _texts(tuned, seed)
    if repeat > 1:
        spec["repeat"] = repeat
    try:
        key = digest(spec)
    except TypeError as error:
        raise BadUse(f"config: fixed values must be JSON-serialisable: {error}") from None
    return Study(trainable, "1", key, spec, fixed, tuned, seed, mode == MAX)


def _split(config: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Domain]]:
    tuned = {name: value for name, value in config.items() if isinstance(value, Domain)}
    for name, value in config.items():
        if isinstance(value, Function) or (isinstance(value, Mapping) and "grid_search" in value):
            raise BadUse(f"config: '{name}' must be a value, or a domain such as tune.loguniform(1e-3, 1.0)")
    return {name: value for name, value in config.items() if name not in tuned}, tuned


def _texts(tuned: Mapping[str, Domain], seed: int) -> dict[str, Any]:
    return {**{name: _text(domain) for name, domain in tuned.items()}, "seed": seed}


def _text(domain: Any) -> str:
    """Return the text of a domain, such as `Float LogUniform (0.001, 1.0)`."""
    return f"{type(domain).__name__} {domain.get_sampler()} {domain.domain_str}"
