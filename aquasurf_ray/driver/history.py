"""What a run knows: its candidates, their spectra and its evaluations, as read from the store and kept up to date."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from store import CostRecord, FunctionRecord, Snapshot, SpectrumRecord
from store.records import Origin

FINAL = frozenset({"done", "diverged"})


@dataclass
class RunEvaluation:
    """One evaluation of the run: what was asked for, by whom, and what has become of it.

    `stopped_early` says why a rule ended the training before its last epoch, if one did. `ours` says whether this run
    trains it, rather than another; `asked_at` is when the driver last asked the store to take it over from there, on
    its own clock.
    """

    evaluation_id: int
    function_id: int
    function: str
    origin: Origin
    status: str
    score: float | None = None
    stopped_early: str | None = None
    attempts: int = 0
    ours: bool = False
    reused: bool = False
    asked_at: float = 0.0


@dataclass
class History:
    """The run's picture of itself. Evaluations are keyed by id, in the order in which they were asked for.

    `costs` are keyed by function and device, and hold those of the devices that the run's workers have. What is given
    up is not tried again in this session.
    """

    candidates: list[FunctionRecord]
    evaluations: dict[int, RunEvaluation] = field(default_factory=dict)
    spectra: dict[int, SpectrumRecord] = field(default_factory=dict)
    spectra_given_up: set[int] = field(default_factory=set)
    costs: dict[int, dict[str, CostRecord]] = field(default_factory=dict)
    costs_given_up: set[int] = field(default_factory=set)

    @classmethod
    def of(cls, snapshot: Snapshot, spectra: dict[int, SpectrumRecord]) -> History:
        """From the store's snapshot of the run and the spectra of its candidates."""
        evaluations = {evaluation.evaluation_id: evaluation for evaluation in wanted(snapshot)}
        return cls(list(snapshot.candidates), evaluations, spectra)

    def __post_init__(self) -> None:
        self.position = {function.id: i for i, function in enumerate(self.candidates)}

    def counted(self) -> int:
        """Evaluations that use up budget: all but baselines and those that machines failed to do."""
        return sum(1 for e in self.evaluations.values() if e.origin != "baseline" and e.status != "failed")

    def n_finished(self, *, baselines: bool) -> int:
        """Evaluations that are done or diverged, with or without the baselines."""
        return sum(1 for e in self.evaluations.values() if e.status in FINAL and (baselines or e.origin != "baseline"))

    def n_suggested(self) -> int:
        """Suggestions made so far, whatever became of them."""
        return sum(1 for e in self.evaluations.values() if e.origin == "suggestion")

    def n_failed(self) -> int:
        """Evaluations given up after too many faults of machines."""
        return sum(1 for e in self.evaluations.values() if e.status == "failed")

    def open_evaluations(self) -> list[RunEvaluation]:
        """Evaluations that are queued, or running here or in another run."""
        return [e for e in self.evaluations.values() if e.status in ("queued", "running")]

    def asked_for(self) -> set[int]:
        """Ids of all functions that have an evaluation in this run."""
        return {e.function_id for e in self.evaluations.values()}

    def finished(self) -> Iterable[RunEvaluation]:
        """What the surrogate learns from, in order."""
        return (e for e in self.evaluations.values() if e.status in FINAL)

    def best(self) -> tuple[str, float] | None:
        """Name and score of the best function so far."""
        scored = [(e.function, e.score) for e in self.finished() if e.score is not None]
        return max(scored, key=lambda pair: pair[1], default=None)

    def without_spectrum(self, n: int) -> list[FunctionRecord]:
        """Those of the first `n` candidates whose spectrum is still to be computed, in order."""
        settled = self.spectra.keys() | self.spectra_given_up
        return [function for function in self.candidates[:n] if function.id not in settled]

    def without_cost(self, n: int) -> list[FunctionRecord]:
        """Those of the first `n` candidates whose cost is still to be measured, in order."""
        settled = self.costs.keys() | self.costs_given_up
        return [function for function in self.candidates[:n] if function.id not in settled]

    def learn_costs(self, records: Iterable[CostRecord]) -> None:
        """Takes in what is stored, or was just measured."""
        for record in records:
            self.costs.setdefault(record.function_id, {})[record.device] = record

    def ruled_out(self, max_cost: float | None) -> set[int]:
        """Candidates that cost more than `max_cost` times relu on some device, or whose cost cannot be measured."""
        if max_cost is None:
            return set()
        return {f.id for f in self.candidates if f.id in self.costs_given_up or self._is_dear(f.id, max_cost)}

    def _is_dear(self, function_id: int, max_cost: float) -> bool:
        measured: Mapping[str, CostRecord] = self.costs.get(function_id, {})
        return any(cost.time_ratio > max_cost for cost in measured.values())

    def n_stopped_early(self) -> int:
        """Trainings that a rule ended before their last epoch."""
        return sum(1 for e in self.evaluations.values() if e.stopped_early and e.status == "done")

    def n_reused(self) -> int:
        """Results that were taken from other runs of the task."""
        return sum(1 for evaluation in self.evaluations.values() if evaluation.reused)


def wanted(snapshot: Snapshot) -> list[RunEvaluation]:
    """The run's evaluations, in the order in which they were asked for."""
    return [
        RunEvaluation(
            evaluation_id=wish.evaluation.id,
            function_id=wish.evaluation.function_id,
            function=wish.function,
            origin=wish.origin,
            status=wish.evaluation.status,
            score=wish.evaluation.score,
            stopped_early=wish.evaluation.stopped_early,
            attempts=wish.evaluation.attempts,
            reused=wish.reused,
        )
        for wish in snapshot.evaluations
    ]
