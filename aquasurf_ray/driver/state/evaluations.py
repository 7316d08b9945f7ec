"""The evaluations of a run, with an index for each question of the loop, so that answers take constant time.

Only `put` changes the evaluations. It replaces an entry as a whole and updates the counts, the set of open evaluations
and the queue. Entries are never removed.
"""

from __future__ import annotations

import heapq
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass, replace

from aquasurf_ray.recipe_change import UNCHANGED
from aquasurf_ray.seed_means import leader_seeds_of, score_of_seeds
from aquasurf_ray.store import EvaluationRequest, RequestedEvaluation, Snapshot
from aquasurf_ray.store.records.evaluations import Origin

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
    """Evaluations by number, in the order in which they were requested.

    Args:
        leader_seeds: with more than one, a function's score is the mean over its seeds, and it has none if it diverged
            with one of them; else it is the best of them.
    """

    def __init__(self, evaluations: tuple[EvaluationState, ...] = (), leader_seeds: int = 1) -> None:
        self.leader_seeds = leader_seeds
        self._by_id: dict[int, EvaluationState] = {}
        self._order: dict[int, int] = {}
        self._asked_for: set[int] = set()
        self._pairs: dict[tuple[int, str], list[int]] = {}
        self._counts: Counter[tuple[Origin, str]] = Counter()
        self._open: dict[int, None] = {}
        self._elsewhere: dict[int, None] = {}
        self._queue: list[tuple[bool, int, int]] = []
        self._ended: list[int] = []
        self._results: defaultdict[tuple[int, str], dict[int, float | None]] = defaultdict(dict)
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
        pair = evaluation.function_id, evaluation.recipe_change
        if before is None:
            self._pairs.setdefault(pair, []).append(number)
        else:
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
        if evaluation.status in FINAL:
            self._results[pair][number] = evaluation.score
        else:
            self._results[pair].pop(number, None)
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
        return self._pairs.keys()

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
        """The evaluation with the highest score; of equal ones, the one that was requested first.

        If scores are means, it is the function's first evaluation, with the mean as its score.
        """
        return self._best

    def best_lacking_seeds(self) -> EvaluationState | None:
        """Return the best function that was not requested with all its seeds and is not being trained, as `best` does;
        None if there is none."""
        # Requests count, not results: one that failed has had all its attempts, until `resume` retries it.
        lacking = [pair for pair, asked in self._pairs.items() if len(asked) < self.leader_seeds]
        idle = [pair for pair in lacking if all(self._by_id[number].status not in OPEN for number in self._pairs[pair])]
        means = [found for pair in idle if (found := self._with_mean(pair)) is not None]
        return max(means, key=self._merit, default=None)

    def is_best_complete(self) -> bool:
        """Return whether there is a best evaluation, and its function has a result with each of its seeds."""
        best = self._best
        return best is not None and self.n_seeds_of(best.function_id, best.recipe_change) >= self.leader_seeds

    def seeds_of(self, evaluation: EvaluationState) -> set[int]:
        """Return the seeds that were requested for the evaluation's function and change of the recipe."""
        return {self._by_id[number].seed for number in self._pairs[evaluation.function_id, evaluation.recipe_change]}

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
        """Return the function's score with this change of the recipe: the mean, or the best, of its trainings; None if
        it diverged, or none has a result."""
        return score_of_seeds(list(self._results[function_id, recipe_change].values()), self.leader_seeds)

    def n_seeds_of(self, function_id: int, recipe_change: str = UNCHANGED) -> int:
        """Return the number of trainings that the function's score is the mean of, at least 1."""
        return max(1, len(self._results[function_id, recipe_change])) if self.leader_seeds > 1 else 1

    def _count(self, evaluation: EvaluationState, by: int) -> None:
        self._counts[evaluation.origin, evaluation.status] += by
        self.n_reused += by * evaluation.reused
        self.n_stopped_early += by * (evaluation.stopped_early is not None and evaluation.status == "done")

    def _update_best(self, before: EvaluationState | None, evaluation: EvaluationState) -> None:
        if self.leader_seeds > 1:
            self._update_best_mean(evaluation)
        elif self._best is not None and before is self._best:
            # Rare: the best evaluation itself changes, perhaps to a lower score, so all have to be compared.
            self._best = max((e for e in self._by_id.values() if _is_scored(e)), key=self._merit, default=None)
        elif _is_scored(evaluation) and (self._best is None or self._merit(evaluation) > self._merit(self._best)):
            self._best = evaluation

    def _update_best_mean(self, evaluation: EvaluationState) -> None:
        pair, best = (evaluation.function_id, evaluation.recipe_change), self._best
        if best is None or pair == (best.function_id, best.recipe_change):
            # Only here can the best become worse, so that all have to be compared.
            means = [found for each in self._pairs if (found := self._with_mean(each)) is not None]
            self._best = max(means, key=self._merit, default=None)
        elif (found := self._with_mean(pair)) is not None and self._merit(found) > self._merit(best):
            self._best = found

    def _with_mean(self, pair: tuple[int, str]) -> EvaluationState | None:
        """Return the first evaluation of a function with its mean as the score; None if it has none."""
        mean = self.score_of(*pair)
        return None if mean is None else replace(self._by_id[self._pairs[pair][0]], score=mean)

    def _merit(self, evaluation: EvaluationState) -> tuple[float, int]:
        assert evaluation.score is not None  # noqa: S101 - only called for evaluations with a score
        return evaluation.score, -self._order[evaluation.evaluation_id]


def evaluations_of(snapshot: Snapshot) -> RunEvaluations:
    """Return the evaluations of a run as the store has them."""
    states = tuple(state_of(request) for request in snapshot.evaluations)
    return RunEvaluations(states, leader_seeds_of(snapshot.run.kind, snapshot.run.config))


def over_budget(snapshot: Snapshot, budget: int, dropped: Set[str] = OPEN) -> list[int]:
    """Return the suggestions with one of the statuses `dropped` that a lowered budget has no room for, the last ones of
    the run."""
    counted = [
        each for each in snapshot.evaluations if each.origin != "baseline" and each.evaluation.status != "failed"
    ]
    # Requests stay: somebody asked for them, while suggestions can be made again.
    suggested = [each for each in counted if each.origin == "suggestion" and each.evaluation.status in dropped]
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
