"""The study of a Tune experiment, in the store's terms: the task whose results its trials are.

A trial is a function and other settings. Fixed settings are part of the task: `epochs=5` makes the task of that recipe,
which `aquasurf search` would call the same. Settings that are tuned together with the function make a task of their
own, whose record names their domains: its score of a function is the best that some draws of them reach. A draw is
settled by the search's seed, the function and the draw's number, which takes the place of the training's seed in the
store, so a row of the store always means the same training. Judged by another metric than the task's own, or trained by
a trainable that this package does not know, it is another task again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from ray.tune.search.sample import Domain, Function

from aquasurf_ray.driver.config import digest
from aquasurf_ray.driver.errors import BadUse
from aquasurf_ray.tasks import Recipe, Task, TaskError

SCORE, MAX = "score", "max"
RECIPE_FIELDS = tuple(field.name for field in fields(Recipe))


@dataclass(frozen=True)
class Study:
    """The task of an experiment as the store keeps it, and the settings that come with each function.

    `loaded` is the task with the fixed settings, where it is one of this package's; `higher_is_better` says how the
    experiment's metric becomes a score.
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
        """The other settings of a function's draw with this number."""
        drawn = {name: self._drawn(name, fingerprint, number) for name in self.tuned}
        return {**self.fixed, **drawn}

    def score(self, value: float) -> float:
        """The metric's value with its sign changed where lower is better."""
        return value if self.higher_is_better else -value

    def _drawn(self, name: str, fingerprint: str, number: int) -> Any:
        text = f"{self.seed} {fingerprint} {number} {name}"
        seed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:4])
        value = self.tuned[name].sample(random_state=seed)
        return value.item() if hasattr(value, "item") else value


def study_of_task(task: Task, config: Mapping[str, Any], metric: str, mode: str, seed: int) -> Study:
    """The study of `train_activation` on a task.

    Raises:
        BadUse: a setting that recipes do not have, or a value out of its range.
    """
    fixed, tuned = _split(config)
    unknown = [name for name in config if name not in RECIPE_FIELDS]
    if unknown:
        raise BadUse(f"config: '{unknown[0]}' is no setting of a recipe; there are {', '.join(RECIPE_FIELDS)}")
    try:
        loaded = replace(task, recipe=replace(task.recipe, **fixed))
    except TaskError as error:
        raise BadUse(f"config: {error}") from None
    spec = loaded.spec()
    own = not tuned and (metric, mode) == (SCORE, MAX)
    if tuned:
        spec["recipe"] = {key: value for key, value in spec["recipe"].items() if key not in tuned}
        spec["tuned"] = _texts(tuned, seed)
    if (metric, mode) != (SCORE, MAX):
        spec["objective"] = {**spec["objective"], "metric": metric, "higher_is_better": mode == MAX}
    key = loaded.digest if own else digest(spec)
    return Study(task.name, task.version, key, spec, fixed, tuned, seed, mode == MAX, loaded)


def study_of_trainable(trainable: str, config: Mapping[str, Any], metric: str, mode: str, seed: int) -> Study:
    """The study of a trainable of the user's own, which is known by the name that the user gives it."""
    fixed, tuned = _split(config)
    objective = {"metric": metric, "higher_is_better": mode == MAX}
    spec: dict[str, Any] = {"name": trainable, "trainable": trainable, "config": fixed, "objective": objective}
    if tuned:
        spec["tuned"] = _texts(tuned, seed)
    try:
        key = digest(spec)
    except TypeError as error:
        raise BadUse(f"config: fixed values must be such that JSON can hold them: {error}") from None
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
    """For example `Float LogUniform (0.001, 1.0)`."""
    return f"{type(domain).__name__} {domain.get_sampler()} {domain.domain_str}"
