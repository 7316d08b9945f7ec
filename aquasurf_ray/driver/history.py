"""What a run knows: its candidates, their spectra and its evaluations, as read from the store and kept up to date."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from store import FunctionRecord, Snapshot, SpectrumRecord
from store.records import Origin

FINAL = frozenset({"done", "diverged"})


@dataclass
class RunEvaluation:
    """One evaluation of the run: what was asked for, by whom, and what has become of it.

    `ours` says whether this run trains it, rather than another; `asked_at` is when the driver last asked the store to
    take it over from there, on its own clock.
    """

    evaluation_id: int
    function_id: int
    function: str
    origin: Origin
    status: str
    score: float | None = None
    attempts: int = 0
    ours: bool = False
    reused: bool = False
    asked_at: float = 0.0


@dataclass
class History:
    """The run's picture of itself. Evaluations are keyed by id, in the order in which they were asked for."""

    candidates: list[FunctionRecord]
    evaluations: dict[int, RunEvaluation] = field(default_factory=dict)
    spectra: dict[int, SpectrumRecord] = field(default_factory=dict)
    spectra_given_up: set[int] = field(default_factory=set)

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
            attempts=wish.evaluation.attempts,
            reused=wish.reused,
        )
        for wish in snapshot.evaluations
    ]
