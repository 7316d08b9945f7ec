"""Records of a search space that grows: candidates that a run made while it searched, and the family of a function."""

from __future__ import annotations

from dataclasses import dataclass

from aquasurf_ray.store.records.tasks import FunctionRow, TaskMetric


@dataclass(frozen=True)
class NewCandidate:
    """A candidate to add to a run.

    Attributes:
        change: the change that made it, such as `insert`, `crossover`, or `proposal`.
        parents: the numbers of the functions that it was made from, at most two.
    """

    function: FunctionRow
    change: str
    parents: tuple[int, ...] = ()


@dataclass(frozen=True)
class GrowthState:
    """The number of a run's last generation, 0 if it has none, and the number of candidates of all generations."""

    generation: int
    candidates: int


@dataclass(frozen=True)
class FamilyMember:
    """A function in a family.

    Attributes:
        generation: the generation that made it; 0 for a function that the run did not make.
        change: the change that made it; None for a function that the run did not make.
        parents: the numbers of its parents.
        score: its best score in the run's task; None if it has none.
    """

    function_id: int
    name: str
    generation: int
    change: str | None
    parents: tuple[int, ...]
    score: float | None


@dataclass(frozen=True)
class Family:
    """A function's relatives in one run, whose task has this metric.

    Attributes:
        ancestors: the function itself, then its parents, their parents and so on, each once.
        children: the functions that were made from it directly, best first, untrained ones last.
    """

    run: str
    metric: TaskMetric
    ancestors: tuple[FamilyMember, ...]
    children: tuple[FamilyMember, ...]
