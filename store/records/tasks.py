"""Records of tasks, with their metric, and of functions."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, overload

BOUNDS = ("low", "high")
"""The keys of a metric's range in a task's spec; one that is not there is no bound, or is not known."""


_OWN_LOOPS = ("study", "trainable")


def is_own_loop(spec: Mapping[str, Any]) -> bool:
    """Return whether a task's values come from a loop or trainable of the user's own, which its digest cannot tell from
    another one of the same name.

    >>> is_own_loop({"name": "exp", "study": "exp"}), is_own_loop({"name": "digits"})
    (True, False)
    """
    return any(key in spec for key in _OWN_LOOPS)


def bounds_in(spec: Mapping[str, Any]) -> dict[str, float]:
    """Return the range of the metric in a task's spec, as far as the spec has it.

    >>> bounds_in({"objective": {"metric": "rmse", "low": 0.0}})
    {'low': 0.0}
    """
    objective = spec.get("objective") or {}
    return {key: objective[key] for key in BOUNDS if objective.get(key) is not None}


@dataclass(frozen=True)
class TaskMetric:
    """The metric of a task. `low` and `high` are the ends of its range, None where it has none or does not say: no name
    says what a user's values are, an accuracy may be told in percent.

    >>> TaskMetric("rmse", higher_is_better=False).value(-0.25)
    0.25
    """

    name: str
    higher_is_better: bool = True
    low: float | None = None
    high: float | None = None

    @classmethod
    def of_spec(cls, spec: dict[str, Any]) -> TaskMetric:
        """Return the metric in a task's spec; a spec without one is from the time when accuracy was the only one."""
        objective = spec.get("objective")
        if not objective:
            return ACCURACY
        name = objective.get("metric", ACCURACY.name)
        return cls(name, objective.get("higher_is_better", cls.higher_is_better), **bounds_in(spec))

    @property
    def range(self) -> tuple[float, float]:
        """The lowest and the highest possible value; infinite where there is no bound, or none is known."""
        return -math.inf if self.low is None else self.low, math.inf if self.high is None else self.high

    def compares_with(self, other: TaskMetric) -> bool:
        """Return whether values of both are of one kind: a study may be confirmed on a task with another metric.

        >>> TaskMetric("rmse", higher_is_better=False).compares_with(TaskMetric("mae", higher_is_better=False))
        False
        """
        return (self.name, self.higher_is_better) == (other.name, other.higher_is_better)

    @overload
    def value(self, score: float) -> float: ...
    @overload
    def value(self, score: None) -> None: ...
    @overload
    def value(self, score: float | None) -> float | None: ...
    def value(self, score: float | None) -> float | None:
        """Return the metric's value with its natural sign, from a score."""
        return score if score is None or self.higher_is_better else -score

    def interval(self, mean: float, low: float, high: float) -> tuple[float, float]:
        """Return the ends of a mean score's interval as values of the metric, the smaller one first.

        Student's t knows no bounds, so ends outside of the metric's range are moved to its bounds. A mean that is
        outside itself shows that the range was declared wrongly.

        >>> ACCURACY.interval(0.99, 0.97, 1.01)
        (0.97, 1.0)
        """
        ends = sorted((low, high) if self.higher_is_better else (-low, -high))
        bottom, top = self.range
        if bottom <= (mean if self.higher_is_better else -mean) <= top:
            ends = [min(max(end, bottom), top) for end in ends]
        return ends[0], ends[1]

    def gain_interval(self, gain: float, low: float, high: float) -> tuple[float, float]:
        """Return the ends of the interval of a difference of two scores, which is at most as large as the range.

        >>> ACCURACY.gain_interval(0.4, -1.2, 2.0)
        (-1.0, 1.0)
        """
        bottom, top = self.range
        width = top - bottom
        if abs(gain) > width:  # the range was declared wrongly
            return low, high
        return max(low, -width), min(high, width)


ACCURACY = TaskMetric("accuracy", low=0.0, high=1.0)


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
