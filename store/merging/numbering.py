"""The state of a merge: the number in this store of each row of the other one, and the report.

Each store numbers its own rows. So every column that holds such a number, and every number inside a JSON cell, is
replaced; inside JSON, the keys tell which numbers these are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa

from aquasurf_ray.store.errors import StoreCorrupt
from aquasurf_ray.store.merging.own_operators import OwnOperators
from aquasurf_ray.store.merging.source import Source

Row = dict[str, Any]
ParameterNames = Callable[[str, str], Mapping[str, str]]
"""The names that the learned parameters of a function have in one spelling of it, by those in another one: called with
the other spelling and the one."""


@dataclass(frozen=True)
class Note:
    """A line for a run's log in this store, written after all lines of the other store."""

    run_id: int
    kind: str
    evaluation_id: int
    function_id: int
    data: Row


@dataclass
class Merging:
    """Both stores, and the number here by the number there for tasks, functions, runs and evaluations.

    A run that is left out has no number here. `renewed` are runs here that are updated to the other store's state.
    `settled` are evaluations that had a result here and none there. `counts` are the numbers of added rows by kind.
    `parameters` are the names here by those there of the learned parameters of functions that have another spelling
    here, by the function's number here.
    """

    source: Source
    here: sa.Connection
    operators: OwnOperators = field(default_factory=OwnOperators)
    tasks: dict[int, int] = field(default_factory=dict)
    functions: dict[int, int] = field(default_factory=dict)
    runs: dict[int, int] = field(default_factory=dict)
    evaluations: dict[int, int] = field(default_factory=dict)
    renewed: set[int] = field(default_factory=set)
    settled: set[int] = field(default_factory=set)
    parameters: dict[int, Mapping[str, str]] = field(default_factory=dict)
    notes: list[Note] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)

    def count(self, what: str, n: int = 1) -> None:
        """Add to the report."""
        self.counts[what] = self.counts.get(what, 0) + n

    def function(self, number: int | None) -> int | None:
        """Return the number of a function in this store."""
        return None if number is None else self._known(self.functions, number, "function")

    def parameter(self, function_id: int, name: str) -> str:
        """Return the name here of a learned parameter, of the function with this number here."""
        return self.parameters.get(function_id, {}).get(name, name)

    def task(self, number: int) -> int:
        """Return the number of a task in this store."""
        return self._known(self.tasks, number, "task")

    def evaluation(self, number: int | None) -> int | None:
        """Return the number of an evaluation in this store."""
        return None if number is None else self._known(self.evaluations, number, "evaluation")

    def run(self, number: int | None) -> int | None:
        """Return the number of a run in this store; None for one that is left out."""
        return None if number is None else self.runs.get(number)

    def json(self, value: Any) -> Any:
        """Return a JSON cell with the numbers of this store."""
        if isinstance(value, list):
            return [self.json(item) for item in value]
        if isinstance(value, dict):
            return {key: self._member(key, item) for key, item in value.items()}
        return value

    def _member(self, key: str, value: Any) -> Any:
        numbers = {"function_id": self.functions, "evaluation_id": self.evaluations}
        numbers |= {"claimed_by": self.runs, "run_id": self.runs}
        # A row that was left out of the merge has no number here: null.
        if key in numbers and isinstance(value, int):
            return numbers[key].get(value)
        if key.removesuffix("s") in numbers and isinstance(value, list):
            return [numbers[key.removesuffix("s")].get(item) if isinstance(item, int) else item for item in value]
        return self.json(value)

    def _known(self, numbers: dict[int, int], number: int, what: str) -> int:
        try:
            return numbers[number]
        except (KeyError, TypeError):
            text = f"store '{self.source.name}' refers to {what} {number!r:.20}, which it lacks; restore a copy of it"
            raise StoreCorrupt(text) from None
