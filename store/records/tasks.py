"""Records of tasks, with their metric, and of functions."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime
from typing import Any

_RANGES = {"accuracy": (0.0, 1.0), "rmse": (0.0, math.inf), "perplexity": (1.0, math.inf)}


@dataclass(frozen=True)
class TaskMetric:
    """The metric of a task.

    >>> TaskMetric("rmse", higher_is_better=False).value(-0.25)
    0.25
    """

    name: str = "accuracy"
    higher_is_better: bool = True

    @classmethod
    def of_spec(cls, spec: dict[str, Any]) -> TaskMetric:
        """Return the metric in a task's spec; a spec without one is from the time when accuracy was the only one."""
        objective = spec.get("objective") or {}
        return cls(objective.get("metric", cls.name), objective.get("higher_is_better", cls.higher_is_better))

    def value(self, score: float | None) -> float | None:
        """Return the metric's value with its natural sign, from a score."""
        return score if score is None or self.higher_is_better else -score

    def interval(self, mean: float, low: float, high: float) -> tuple[float, float]:
        """Return the ends of a mean score's interval as values of the metric, the smaller one first.

        Student's t knows no bounds, so ends outside of the metric's range are moved to its bounds. A metric of the
        user's may have the name of a known one and another range, which a mean outside of the known range shows.

        >>> TaskMetric().interval(0.99, 0.97, 1.01)
        (0.97, 1.0)
        """
        ends = sorted((low, high) if self.higher_is_better else (-low, -high))
        bottom, top = _RANGES.get(self.name, (-math.inf, math.inf))
        if bottom <= (mean if self.higher_is_better else -mean) <= top:
            ends = [min(max(end, bottom), top) for end in ends]
        return ends[0], ends[1]


@dataclass(frozen=True)
class TaskRecord:
    """A task as it was first stored."""

    id: int
    name: str
    version: str
    digest: str
    spec: dict[str, Any]
    created_at: datetime

    @property
    def metric(self) -> TaskMetric:
        """Return the metric of the task."""
        return TaskMetric.of_spec(self.spec)

    @property
    def places_of_roles(self) -> dict[str, list[str]]:
        """Return the names of each role's activations in the network; empty for a network without roles."""
        return dict((self.spec.get("network") or {}).get("roles") or {})


@dataclass(frozen=True)
class FunctionRow:
    """A function to add. `aliases` are its other spellings."""

    fingerprint: str
    name: str
    n_operators: int
    aliases: tuple[str, ...] = ()


@dataclass(frozen=True)
class FunctionRecord:
    """A function of the store; `name` is the first name that it was added under."""

    id: int
    fingerprint: str
    name: str
    n_operators: int
