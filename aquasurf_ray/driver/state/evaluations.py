"""The evaluations of a run, with an index for each question of the loop, so that answers take constant time.

Only `put` changes the evaluations. It replaces an entry as a whole and updates the counts, the set of open evaluations
and the queue. Entries are never removed.
"""

from __future__ import annotations

import heapq
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass

from aquasurf_ray.recipe_change import UNCHANGED
from aquasurf_ray.store import EvaluationRequest, RequestedEvaluation, Snapshot
from aquasurf_ray.store.records.runs import Origin

FINAL = frozenset({"done", "diverged"})
OPEN = frozenset({"queued", "running"})


@dataclass(frozen=True)
class EvaluationState:
    """One evaluation of the run: its function, seed and change of the recipe, its origin, and its state.

    `stopped_early` is the reason if a rule ended the training before its last epoch. `begun` is false while a
    request has only been queued; begun evaluations come before such new entries of the queue. `ours` is true while this
    run, rather than another, trains the function.
    """

    evaluation_id: int
    function_id: int
    function: str
    seed: int
    origin: Origin
    status: str
    score: float | None = None
    stopped_early: str | None = None
    attempts: int = 0
    begun: bool = False
    ours: bool = False
    reused: bool = False
    recipe_change: str = UNCHANGED

    @property
    def request(self) -> EvaluationRequest:
        """The request that claims it, without a reason."""
        return EvaluationRequest(self.function_id, self.seed, self.origin, recipe_change=self.recipe_change)

    @property
    def elsewhere(self) -> bool:
        """True if another run trains it, as far as this driver knows."""
        return self.status == "running" and not self.ours


class RunEvaluations(Mapping[int, EvaluationState]):
    """Evaluations by number, in the order in which they were requested."""

    def __init__(self, evaluations: tuple[EvaluationState, ...] = ()) -> None:
        self._by_id: dict[int, EvaluationState] = {}
        self._order: dict[int, int] = {}
        self._asked_for: set[int] = set()
        self._pairs: set[tuple[int, str]] = set()
        self._counts: Counter[tuple[Origin, str]] = Counter()
        self._open: dict[int, None] = {}
        self._elsewhere: dict[int, None] = {}
        self._queue: list[tuple[bool, int, int]] = []
        self._ended: list[int] = []
        self._scores: defaultdict[tuple[int, str], dict[int, float]] = defaultdict(dict)
        self._best: EvaluationState | None = None
        self.n_reused = 0
        self.n_stopped_early = 0
        for evaluation in evaluations:
            self.put(evaluation)

    def __getitem__(self, evaluation_id: int) -> EvaluationState:
        return self._by_id[evaluation_id]

    def __iter__(self) -> Iterator[int]:
        return iter(self._by_id)

    def __len__(self) -> int:
        return len(self._by_id)

    def put(self, evaluation: EvaluationState) -> None:
        """Add an evaluation, or replace the known state of one."""
        number, before = evaluation.evaluation_id, self._by_id.get(evaluation.evaluation_id)
        # The order of requests, not of numbers: another run may have created the evaluation earlier.
        self._order.setdefault(number, len(self._order))
        self._asked_for.add(evaluation.function_id)
        self._pairs.add((evaluation.function_id, evaluation.recipe_change))
        if before is not None:
            self._count(before, -1)
        self._by_id[number] = evaluation
        self._count(evaluation, 1)
        _set_member(self._open, number, evaluation.status in OPEN)
        _set_member(self._elsewhere, number, evaluation.elsewhere)
        if evaluation.status == "queued" and (before is None or _rank(before) != _rank(evaluation)):
            # False sorts first, so begun evaluations precede new ones.
            heapq.heappush(self._queue, (not evaluation.begun, self._order[number], number))
        # `observe` of the surrogate reads this list, so a result must appear once each time it becomes known.
        if evaluation.status in FINAL and (before is None or before.status not in FINAL):
            self._ended.append(number)
        scores = self._scores[evaluation.function_id, evaluation.recipe_change]
        if _is_scored(evaluation) and evaluation.score is not None:
            scores[number] = evaluation.score
        else:
            scores.pop(number, None)
        self._update_best(before, evaluation)

    def n(self, *, status: Set[str] = FINAL, but: Origin | None = None) -> int:
        """Return how many evaluations have one of these statuses, not counting the origin `but`."""
        return sum(n for (origin, now), n in self._counts.items() if now in status and origin != but)

    def n_of(self, origin: Origin) -> int:
        """Return how many evaluations have this origin, whatever their status."""
        return sum(n for (of, _), n in self._counts.items() if of == origin)

    @property
    def asked_for(self) -> Set[int]:
        """The functions that have an evaluation."""
        return self._asked_for

    @property
    def pairs(self) -> Set[tuple[int, str]]:
        """The functions that have an evaluation, each with the change of the recipe in it."""
        return self._pairs

    @property
    def open(self) -> list[EvaluationState]:
        """The evaluations that are queued, or running here or in another run."""
        return [self._by_id[number] for number in self._open]

    @property
    def n_open(self) -> int:
        """The number of evaluations that are queued or running."""
        return len(self._open)

    @property
    def elsewhere(self) -> list[EvaluationState]:
        """The evaluations that another run trains."""
        return [self._by_id[number] for number in self._elsewhere]

    @property
    def best(self) -> EvaluationState | None:
        """The evaluation with the highest score; of equal ones, the one that was requested first."""
        return self._best

    def next_queued(self, most: int) -> list[EvaluationState]:
        """Return the evaluations to train next: begun ones first, each group in the order of the requests.

        They have one origin, since one transaction claims evaluations of one origin only. They stay queued until `put`
        gives them another status.
        """
        found: dict[tuple[bool, int, int], EvaluationState] = {}
        while self._queue and len(found) < most:
            entry = heapq.heappop(self._queue)
            fresh, _, number = entry
            evaluation = self._by_id[number]
            # `put` leaves outdated entries in the heap; they are dropped here.
            if evaluation.status == "queued" and evaluation.begun is not fresh:
                found[entry] = evaluation
                # Those of the next origin wait for the next call, and go back into the heap below.
                if evaluation.origin != next(iter(found.values())).origin:
                    break
        for entry in found:
            heapq.heappush(self._queue, entry)
        first = next(iter(found.values()), None)
        return [evaluation for evaluation in found.values() if first and evaluation.origin == first.origin]

    def ended(self, after: int = 0) -> list[EvaluationState]:
        """Return the evaluations with a result, in the order of the results, without the first `after`. A retrained
        evaluation appears twice."""
        return [self._by_id[number] for number in self._ended[after:]]

    def score_of(self, function_id: int, recipe_change: str = UNCHANGED) -> float | None:
        """Return the function's best score with this change of the recipe; None if all of these trainings diverged, or
        none has a result."""
        return max(self._scores[function_id, recipe_change].values(), default=None)

    def _count(self, evaluation: EvaluationState, by: int) -> None:
        self._counts[evaluation.origin, evaluation.status] += by
        self.n_reused += by * evaluation.reused
        self.n_stopped_early += by * (evaluation.stopped_early is not None and evaluation.status == "done")

    def _update_best(self, before: EvaluationState | None, evaluation: EvaluationState) -> None:
        if self._best is not None and before is self._best:
            # Rare: the best evaluation itself changes, perhaps to a lower score, so all have to be compared.
            self._best = max((e for e in self._by_id.values() if _is_scored(e)), key=self._merit, default=None)
        elif _is_scored(evaluation) and (self._best is None or self._merit(evaluation) > self._merit(self._best)):
            self._best = evaluation

    def _merit(self, evaluation: EvaluationState) -> tuple[float, int]:
        assert evaluation.score is not None  # noqa: S101 - only called for evaluations with a score
        return evaluation.score, -self._order[evaluation.evaluation_id]


def evaluations_of(snapshot: Snapshot) -> RunEvaluations:
    """Return the evaluations of a run as the store has them."""
    return RunEvaluations(tuple(state_of(request) for request in snapshot.evaluations))


def over_budget(snapshot: Snapshot, budget: int) -> list[int]:
    """Return the open suggestions that a lowered budget has no room for, the last ones of the run."""
    counted = [
        each for each in snapshot.evaluations if each.origin != "baseline" and each.evaluation.status != "failed"
    ]
    # Requests stay: somebody asked for them, while suggestions can be made again.
    suggested = [each for each in counted if each.origin == "suggestion" and each.evaluation.status in OPEN]
    n = max(0, len(counted) - budget)
    return [each.evaluation.id for each in suggested[max(0, len(suggested) - n) :]] if n else []


def state_of(request: RequestedEvaluation) -> EvaluationState:
    """Return an evaluation as the store has it. If it is running, the store does not say in which run."""
    evaluation = request.evaluation
    return EvaluationState(
        evaluation_id=evaluation.id,
        function_id=evaluation.function_id,
        function=request.function,
        seed=evaluation.seed,
        origin=request.origin,
        status=evaluation.status,
        score=evaluation.score,
        stopped_early=evaluation.stopped_early,
        attempts=evaluation.attempts,
        begun=request.origin != "proposal" or evaluation.attempts > 0 or evaluation.started_at is not None,
        reused=request.reused,
        recipe_change=evaluation.recipe_change,
    )


def _is_scored(evaluation: EvaluationState) -> bool:
    return evaluation.status in FINAL and evaluation.score is not None


def _rank(evaluation: EvaluationState) -> tuple[str, bool]:
    return evaluation.status, evaluation.begun


def _set_member(numbers: dict[int, None], number: int, belongs: bool) -> None:
    if belongs:
        numbers[number] = None
    else:
        numbers.pop(number, None)
