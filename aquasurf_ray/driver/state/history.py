"""The history of a run: its candidates, their spectra and costs, and its evaluations, as the store has them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from aquasurf_ray.driver.state.evaluations import FINAL, OPEN, RunEvaluations, evaluations_of
from aquasurf_ray.recipe_change import UNCHANGED
from aquasurf_ray.store import CostRecord, FunctionRecord, Snapshot, SpectrumRecord

if TYPE_CHECKING:
    from aquasurf_ray.driver.settings.until import Until


@dataclass
class History:
    """The candidates, spectra, costs and evaluations of one run in memory.

    `costs` are keyed by function and device, for the devices of the run's workers. The functions in `spectra_failed`
    and `costs_failed` are not tried again in this session.
    """

    candidates: list[FunctionRecord]
    evaluations: RunEvaluations = field(default_factory=RunEvaluations)
    spectra: dict[int, SpectrumRecord] = field(default_factory=dict)
    spectra_failed: set[int] = field(default_factory=set)
    costs: dict[int, dict[str, CostRecord]] = field(default_factory=dict)
    costs_failed: set[int] = field(default_factory=set)

    @classmethod
    def of(cls, snapshot: Snapshot, spectra: dict[int, SpectrumRecord]) -> History:
        """Make a history from the store's snapshot of the run and the spectra of its candidates."""
        return cls(list(snapshot.candidates), evaluations_of(snapshot), spectra)

    def __post_init__(self) -> None:
        self.position = {function.id: i for i, function in enumerate(self.candidates)}
        self._no_spectrum = self._no_cost = self.candidates  # as of the last call; both only shrink until `extend`

    def extend(self, functions: Sequence[FunctionRecord]) -> None:
        """Add candidates after the others; the store has them already."""
        self._no_spectrum, self._no_cost = [*self._no_spectrum, *functions], [*self._no_cost, *functions]
        self.position.update({function.id: i for i, function in enumerate(functions, start=len(self.candidates))})
        self.candidates.extend(functions)

    def counted(self) -> int:
        """Return how many evaluations use up budget: all except baselines and infrastructure failures."""
        return self.evaluations.n(status=FINAL | OPEN, but="baseline")

    def n_finished(self, *, baselines: bool) -> int:
        """Return how many evaluations are done or diverged, with or without the baselines."""
        return self.evaluations.n(but=None if baselines else "baseline")

    def n_failed(self) -> int:
        """Return how many evaluations were given up after too many infrastructure failures."""
        return self.evaluations.n(status={"failed"})

    def best(self) -> tuple[str, float] | None:
        """Return the name and the score of the best function so far."""
        best = self.evaluations.best
        return None if best is None or best.score is None else (best.function, best.score)

    def reaches(self, until: Until) -> bool:
        """Return whether the best function meets a stop condition, with results of all its seeds: a single lucky
        training ends no run that trains its best functions with several."""
        best = self.evaluations.best
        return best is not None and until.is_met(best.score) and self.evaluations.is_best_complete()

    def best_change(self) -> str:
        """Return the change of the recipe that the best function was trained with, "" for none."""
        best = self.evaluations.best
        return UNCHANGED if best is None else best.recipe_change

    def without_spectrum(self, n: int) -> list[FunctionRecord]:
        """Return the candidates among the first `n` whose spectrum is still to be computed, in order."""
        known, failed = self.spectra, self.spectra_failed
        self._no_spectrum = [f for f in self._no_spectrum if f.id not in known and f.id not in failed]
        return self._first(n, self._no_spectrum)

    def without_cost(self, n: int) -> list[FunctionRecord]:
        """Return the candidates among the first `n` whose cost is still to be measured, in order."""
        known, failed = self.costs, self.costs_failed
        self._no_cost = [f for f in self._no_cost if f.id not in known and f.id not in failed]
        return self._first(n, self._no_cost)

    def add_costs(self, records: Iterable[CostRecord]) -> None:
        """Add costs from the store."""
        for record in records:
            self.costs.setdefault(record.function_id, {})[record.device] = record

    def ruled_out(self, max_cost: float | None) -> set[int]:
        """Return the candidates that cost more than `max_cost` times ReLU on some device, or cannot be measured."""
        if max_cost is None:
            return set()
        # A cost that cannot be measured counts as too high: the limit is a promise about every function trained.
        return {f.id for f in self.candidates if f.id in self.costs_failed or self._is_too_costly(f.id, max_cost)}

    def _first(self, n: int, functions: list[FunctionRecord]) -> list[FunctionRecord]:
        return [f for f in functions if self.position[f.id] < n]

    def _is_too_costly(self, function_id: int, max_cost: float) -> bool:
        measured: Mapping[str, CostRecord] = self.costs.get(function_id, {})
        return any(cost.time_ratio > max_cost for cost in measured.values())
