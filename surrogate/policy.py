"""Policies decide which candidate to train next. They have two verbs: `observe` a result, `suggest` a candidate.

Format: candidates are the indices 0..n-1 of the embedding's rows. Higher scores are better. A score of None is a
training that diverged; it counts as the worst finite score observed so far.
Invariants: a candidate that was observed, is pending or is not allowed is never suggested. A suggestion depends on the
embedding, the seed, the observations and the arguments alone, not on the order of observations or on earlier calls, so
that a resumed run makes the suggestions that it would have made without the interruption.

A search by hand, on 30 candidates in a line, number 20 of which is best:

>>> from aquasurf_ray.surrogate.embedding import Embedding
>>> from aquasurf_ray.surrogate.predictors import MapPredictor
>>> from aquasurf_ray.surrogate.regressors import make_regressor
>>> line = np.stack([np.arange(30.0), np.zeros(30)], axis=1).astype(np.float32)
>>> embedding = Embedding(line, version="line", placed=np.ones(30, dtype=bool))
>>> policy = PredictorPolicy(MapPredictor(embedding, lambda: make_regressor("knr", seed=1)), seed=1)
>>> policy.observe(0, -20.0)
>>> for _ in range(12):
...     suggestion = policy.suggest()
...     policy.observe(suggestion.candidate, -abs(suggestion.candidate - 20.0))
>>> max(policy.observations, key=policy.observations.get)
20
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal, Protocol, get_args

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from aquasurf_ray.surrogate.errors import SurrogateError, check_choice
from aquasurf_ray.surrogate.one_thread import one_thread
from aquasurf_ray.surrogate.predictors import MetricPredictor, Prediction, Predictor

Indices = NDArray[np.int64]
Mask = NDArray[np.bool_]
Scores = NDArray[np.float64]
Diverged = Literal["worst", "ignore"]
Targets = Literal["scores", "ranks"]
Pending = Literal["liar", "believer", "ignore"]

N_REASONS = 3  # nearest trained candidates that a suggestion names
CROWDED = 2.0  # a candidate nearer to a pending one than this many typical gaps waits for its result
FEW_RESULTS = 400  # up to so many, other threads cost more than they save
NOTHING: frozenset[int] = frozenset()


@dataclass(frozen=True)
class Neighbor:
    """A trained candidate near a suggested one: its distance on the map or in the space, and its score (None:
    diverged)."""

    candidate: int
    distance: float
    score: float | None


@dataclass(frozen=True)
class Suggestion:
    """A candidate to train, and the reasons for it.

    Args:
        candidate: the index of the candidate.
        predicted_score: the score that the regressor, fitted on results only, expects; None where nothing can be
            predicted (no finite score yet, or the candidate is not placed in the embedding).
        rank: the rank of the predicted score among the open candidates, 1 = best; ties share the best rank. It is above
            1 where the candidates before this one lie too near to one that is running now.
        neighbors: the nearest trained candidates, nearest first, at most three; in a batch, of those that its process
            learned from. Empty where the candidate is not placed.
        embedding_version: the version of the embedding or metric space that was used; empty where the policy uses none.
    """

    candidate: int
    predicted_score: float | None = None
    rank: int = 1
    neighbors: tuple[Neighbor, ...] = ()
    embedding_version: str = ""


class Policy(Protocol):
    """A search algorithm. Implement `observe` and `suggest`; `suggest_batch` is inherited."""

    def observe(self, candidate: int, score: float | None) -> None:
        """Record a result; None for a diverged training. A later result of the same candidate replaces it."""

    def suggest(self, pending: Iterable[int] = NOTHING, allowed: Mask | None = None) -> Suggestion | None:
        """Return the candidate to train next while `pending` are running; None when none is left."""

    def suggest_batch(self, n: int, pending: Iterable[int] = NOTHING, allowed: Mask | None = None) -> list[Suggestion]:
        """Return up to n suggestions to train in parallel, each made as if those before it were running already."""
        taken, batch = set(pending), list[Suggestion]()
        while len(batch) < n and (suggestion := self.suggest(taken, allowed)) is not None:
            batch.append(suggestion)
            taken.add(suggestion.candidate)
        return batch


class PredictorPolicy(Policy):
    """Suggest the candidate that a predictor gives the greatest merit.

    Before the first finite score, suggestions are spread out: the first is random, each further one is the farthest
    from all taken candidates. While others run, the predictor is given the pending candidates as if they had results
    already: middling results, where candidates crowded round a pending one wait while others are open ("liar",
    Ginsbourger et al. 2010); or their predicted scores, without waiting ("believer"), for predictors that take their
    uncertainty into account; or it is given the results alone ("ignore"). Candidates that are not placed come last, in
    a random order. The seed decides every random choice, ties included.

    Args:
        predictor: predicts the scores of the candidates.
        seed: the random seed of ties and of the first suggestion.
        diverged: the target of a diverged training: "worst", the worst finite score seen; "ignore", none.
        targets: the targets of the predictor: "scores", or "ranks", the normal quantiles of their ranks, which separate
            the best from the good where most are bad. Predictions are scores in both cases.
        pending: "liar", "believer" or "ignore", as above.

    Raises:
        SurrogateError: a setting has an unknown value.
    """

    def __init__(
        self,
        predictor: Predictor,
        seed: int = 0,
        *,
        diverged: Diverged = "worst",
        targets: Targets = "scores",
        pending: Pending = "liar",
    ) -> None:
        for name, value, kind in (("diverged", diverged, Diverged), ("targets", targets, Targets)):
            check_choice(name, value, get_args(kind))
        check_choice("pending", pending, get_args(Pending))
        self._predictor, self._seed = predictor, seed
        self._diverged, self._targets, self._pending = diverged, targets, pending
        self._observations: dict[int, float | None] = {}
        self._counts: dict[int, int] = {}  # of trainings, where there are several
        self._prediction: Prediction | None = None  # from the results so far; computed at first use
        self._turn = _turns(len(predictor.placed), seed)

    @property
    def observations(self) -> Mapping[int, float | None]:
        """The observed scores by candidate; None for a diverged training."""
        return MappingProxyType(self._observations)

    def observe(self, candidate: int, score: float | None, count: int = 1) -> None:
        """Record a result.

        Args:
            candidate: the index of the candidate; one beyond the predictor's is kept for a predictor that has it.
            score: the higher the better, finite; None for a diverged training.
            count: the number of trainings that the score is the mean of.

        Raises:
            SurrogateError: the index is negative, the score is NaN or infinite, or the count is below 1.
        """
        if count < 1:
            raise SurrogateError(f"count of candidate {candidate} is {count}; a score is of at least one training")
        if candidate < 0:
            raise SurrogateError(f"candidate is {candidate}; indices begin at 0")
        if score is not None and not math.isfinite(score):
            raise SurrogateError(f"score of candidate {candidate} is {score}; pass None for a diverged training")
        self._observations[int(candidate)] = None if score is None else float(score)
        self._counts[int(candidate)] = count
        self._prediction = None

    def suggest(self, pending: Iterable[int] = NOTHING, allowed: Mask | None = None) -> Suggestion | None:
        """Return the next candidate to train, or None when none is open.

        Args:
            pending: candidates that are being trained now.
            allowed: bool [n], False for candidates to leave out; all are allowed by default.

        Raises:
            SurrogateError: the mask has another shape.
        """
        running = np.array(sorted(set(pending) - self._observations.keys()), dtype=np.int64)
        open_ = open_mask(len(self._turn), [*self._observations, *running], allowed)
        if not open_.any():
            return None
        placed = open_ & self._predictor.placed
        if not placed.any():
            return self._explain(self._first(open_), open_)
        running = self._placed(running)
        with one_thread() if len(self._observations) <= FEW_RESULTS else nullcontext():
            return self._explain(self._choose(placed, running), open_)

    def suggest_batch(self, n: int, pending: Iterable[int] = NOTHING, allowed: Mask | None = None) -> list[Suggestion]:
        """Return up to n suggestions to train in parallel, each made as if those before it were running already.

        If the predictor is a Gaussian process with an acquisition function, and `pending` is "believer", one fit makes
        all of them (`surrogate.batches`). Unlike in `suggest`, believed results then have no part in the choice of the
        process's length and noise.
        """
        batch = list[Suggestion]()
        if n > 1:
            with one_thread():  # hundreds of small products, however many results there are
                batch = self._believed_batch(n, frozenset(pending), allowed)
        taken = {*pending, *(suggestion.candidate for suggestion in batch)}
        return batch + super().suggest_batch(n - len(batch), taken, allowed)

    def _believed_batch(self, n: int, pending: frozenset[int], allowed: Mask | None) -> list[Suggestion]:
        """Return the suggestions that one fit can make; none for other predictors, or before the first finite score."""
        known, scores = self._training_set()
        if not len(scores) or self._pending != "believer" or not isinstance(self._predictor, MetricPredictor):
            return []
        targets = normal_ranks(scores) if self._targets == "ranks" else scores
        process = self._predictor.believer(known, targets, self._counts_of(known))
        if process is None:
            return []
        # The process works on ranks; suggestions report scores, interpolated between the results.
        ascending = np.argsort(targets, kind="stable")
        expected: Scores = np.interp(process.mean, targets[ascending], scores[ascending])
        running = np.array(sorted(pending - self._observations.keys()), dtype=np.int64)
        open_ = open_mask(len(self._turn), [*self._observations, *running], allowed)
        placed = open_ & self._predictor.placed
        process.believe(self._placed(running))
        batch = list[tuple[int, Mask]]()
        while len(batch) < n and placed.any():
            chosen = process.best_of(placed, self._turn)
            batch.append((chosen, open_.copy()))
            placed[chosen] = open_[chosen] = False
            process.believe(np.array([chosen]))
        neighbors = self._nearest_of(process.known, [chosen for chosen, _ in batch])
        return [
            self._explained(chosen, expected, then_open, nearest)
            for (chosen, then_open), nearest in zip(batch, neighbors, strict=True)
        ]

    def _choose(self, placed: Mask, running: Indices) -> int:
        prediction = self._predict()
        if prediction is None:
            # Nothing can be predicted yet: take the candidate that is farthest from all trained and pending ones.
            taken = np.union1d(self._placed(self._observations), running)
            return self._first(placed, self._predictor.nearest(taken))
        if not len(running) or self._pending == "ignore":
            return self._first(placed, prediction.merits)
        merits = self._with_lies(running, prediction).merits
        if self._pending == "believer":
            return self._first(placed, merits)
        # The result of a running candidate says most about its neighbours, so they wait while others are open.
        free = placed & (self._predictor.nearest(running) > CROWDED * self._predictor.gap)
        return self._first(free if free.any() else placed, merits)

    def _first(self, mask: Mask, values: Scores | None = None) -> int:
        """Return the candidate of the highest value within the mask; among equals, the one whose turn comes first."""
        candidates = np.flatnonzero(mask)
        if values is not None:
            candidates = candidates[values[candidates] == values[candidates].max()]
        return int(candidates[np.argmin(self._turn[candidates])])

    def _predict(self) -> Prediction | None:
        """Predict from results alone; None without a finite score of a placed candidate."""
        if self._prediction is None:
            known, scores = self._training_set()
            self._prediction = self._ask(known, scores) if len(scores) else None
        return self._prediction

    def _with_lies(self, running: Indices, prediction: Prediction) -> Prediction:
        """Predict as if the running candidates had results already."""
        known, scores = self._training_set()
        predicted = prediction.scores[running]
        lies = predicted if self._pending == "believer" else _lies(scores, predicted)
        return self._ask(np.concatenate([known, running]), np.concatenate([scores, lies]))

    def _ask(self, known: Indices, scores: Scores) -> Prediction:
        counts = self._counts_of(known)
        if self._targets == "scores":
            return self._predictor.predict(known, scores, counts)
        targets = normal_ranks(scores)
        prediction = self._predictor.predict(known, targets, counts)
        ascending = np.argsort(scores, kind="stable")
        return Prediction(np.interp(prediction.scores, targets[ascending], scores[ascending]), prediction.merits)

    def _training_set(self) -> tuple[Indices, Scores]:
        """Candidates [m] in ascending order and their scores [m]; empty when no score is finite."""
        known = self._placed(self._observations)
        scores = np.array([np.nan if (s := self._observations[i]) is None else s for i in known.tolist()])
        finite = np.isfinite(scores)
        if not finite.any():
            return known[:0], np.empty(0)
        if self._diverged == "ignore":
            return known[finite], scores[finite]
        return known, np.where(finite, scores, np.nanmin(scores))

    def _counts_of(self, known: Indices) -> Indices | None:
        """Return how many trainings each score is the mean of; None if of one each. A pending candidate counts once."""
        counts = np.array([self._counts.get(candidate, 1) for candidate in known.tolist()], dtype=np.int64)
        return counts if (counts > 1).any() else None

    def _placed(self, candidates: Iterable[int]) -> Indices:
        """Return the candidates that the predictor places, ascending."""
        indices = np.unique(np.fromiter(candidates, dtype=np.int64))
        indices = indices[indices < len(self._turn)]
        return indices[self._predictor.placed[indices]]

    def _explain(self, candidate: int, open_: Mask) -> Suggestion:
        prediction = self._predict()
        scores = None if prediction is None else prediction.scores
        nearest = self._nearest_of(self._placed(self._observations), [candidate])
        return self._explained(candidate, scores, open_, nearest[0])

    def _explained(
        self, candidate: int, scores: Scores | None, open_: Mask, neighbors: tuple[Neighbor, ...]
    ) -> Suggestion:
        predicted = None if scores is None or np.isnan(scores[candidate]) else float(scores[candidate])
        return Suggestion(
            candidate=candidate,
            predicted_score=predicted,
            rank=_rank(scores, predicted, open_),
            neighbors=neighbors,
            embedding_version=self._predictor.version,
        )

    def _nearest_of(self, trained: Indices, candidates: Sequence[int]) -> list[tuple[Neighbor, ...]]:
        """Return the nearest of some trained candidates for each of these."""
        placed = self._placed(candidates)
        # Rows of trained candidates are known from the prediction.
        distances = dict(zip(placed.tolist(), self._predictor.distances(trained, placed).T, strict=True))
        return [self._nearest(trained, distances[c]) if c in distances else () for c in candidates]

    def _nearest(self, trained: Indices, distances: Scores) -> tuple[Neighbor, ...]:
        nearest = np.lexsort((trained, distances))[:N_REASONS]
        return tuple(
            Neighbor(i, float(d), self._observations[i])
            for i, d in zip(trained[nearest].tolist(), distances[nearest], strict=True)
        )


class RandomPolicy(Policy):
    """Suggest candidates in a random order: the baseline of every search."""

    def __init__(self, n_candidates: int, seed: int = 0) -> None:
        self._turn = _turns(n_candidates, seed)
        self._observed: set[int] = set()

    def observe(self, candidate: int, score: float | None, count: int = 1) -> None:
        """Record that the candidate is done."""
        self._observed.add(candidate)

    def suggest(self, pending: Iterable[int] = NOTHING, allowed: Mask | None = None) -> Suggestion | None:
        """Return the open candidate whose turn comes first, or None when none is open."""
        open_ = np.flatnonzero(open_mask(len(self._turn), [*self._observed, *pending], allowed))
        if not len(open_):
            return None
        return Suggestion(int(open_[np.argmin(self._turn[open_])]))


def _turns(n: int, seed: int) -> Indices:
    """Return the turn of each candidate in a seeded random order."""
    return np.random.default_rng(seed).permutation(n)


def open_mask(n: int, taken: Iterable[int], allowed: Mask | None) -> Mask:
    """Return bool [n], True for the allowed candidates that are not taken.

    Raises:
        SurrogateError: the mask has another shape.
    """
    open_ = np.ones(n, dtype=np.bool_) if allowed is None else np.array(allowed, dtype=np.bool_)
    if open_.shape != (n,):
        raise SurrogateError(f"allowed has shape {open_.shape}; expected one flag for each of {n} candidates")
    # Numbers beyond n are results of candidates that only a later, larger map will have.
    open_[[i for i in taken if i < n]] = False
    return open_


def normal_ranks(scores: Scores) -> Scores:
    """Return the normal quantiles of the ranks of scores [m]; equal scores share the mean of their ranks.

    >>> normal_ranks(np.array([0.1, 0.9, 0.1])).round(3).tolist()
    [-0.431, 0.967, -0.431]
    """
    from scipy.stats import rankdata  # loading it takes most of a second; the first trainings start meanwhile

    quantiles: Scores = ndtri((rankdata(scores) - 0.5) / len(scores))
    return quantiles


def _lies(scores: Scores, predicted: Scores) -> Scores:
    """Return the assumed scores of pending candidates [m]: the predicted ones, but at most the median result."""
    return np.minimum(predicted, np.median(scores))


def _rank(predictions: Scores | None, predicted: float | None, open_: Mask) -> int:
    if predictions is None:
        return 1
    known: Any = predictions[open_ & ~np.isnan(predictions)]
    return 1 + (len(known) if predicted is None else int((known > predicted).sum()))
