"""Which candidate to train next: two verbs, `observe` what came out and `suggest` what comes next.

Format: candidates are the indices 0..n-1 of the embedding's rows; higher scores are better; a score of None is a
training that diverged, which is evidence: it counts as the worst finite score seen, whatever that is by then.
Invariants: nothing observed, pending or not allowed is ever suggested, and a suggestion depends on the embedding, the
seed, the observations and the arguments alone, not on the order of observations or on earlier calls, so that a resumed
run goes on as it would have.

A search by hand, on 30 candidates in a line of which number 20 is best:

>>> line = np.stack([np.arange(30.0), np.zeros(30)], axis=1).astype(np.float32)
>>> policy = SurrogatePolicy(Embedding(line, version="line", placed=np.ones(30, dtype=bool)), seed=1)
>>> policy.observe(0, -20.0)
>>> for _ in range(12):
...     suggestion = policy.suggest()
...     policy.observe(suggestion.candidate, -abs(suggestion.candidate - 20.0))
>>> max(policy.observations, key=policy.observations.get)
20
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal, Protocol, get_args

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri
from scipy.stats import rankdata

from aquasurf_ray.surrogate.embedding import Embedding
from aquasurf_ray.surrogate.errors import SurrogateError
from aquasurf_ray.surrogate.predictors import MapPredictor, MetricPredictor, Prediction, Predictor, merit
from aquasurf_ray.surrogate.regressors import make_regressor

Indices = NDArray[np.int64]
Mask = NDArray[np.bool_]
Scores = NDArray[np.float64]
Diverged = Literal["worst", "ignore"]
Targets = Literal["scores", "ranks"]
Pending = Literal["liar", "believer", "ignore"]

N_REASONS = 3  # nearest trained candidates that a suggestion names
CROWDED = 2.0  # a candidate nearer to a pending one than this many typical gaps waits for its result
NOTHING: frozenset[int] = frozenset()


@dataclass(frozen=True)
class Neighbor:
    """A trained candidate near a suggested one: its distance where it was chosen and its score (None: it diverged)."""

    candidate: int
    distance: float
    score: float | None


@dataclass(frozen=True)
class Suggestion:
    """A candidate to train, and why.

    Args:
        candidate: its index.
        predicted_score: what the regressor, fitted on results only, expects of it; None where nothing can be predicted
            (no finite score yet, or the candidate is not placed in the embedding).
        rank: of its predicted score among the open candidates, 1 = best, ties sharing the best rank. Above 1 where
            the candidates before it lie too near to one that is running now.
        neighbors: the nearest trained candidates, nearest first, at most three; empty where not placed.
        embedding_version: of the embedding or the metric space it was chosen on; empty where the policy uses none.
    """

    candidate: int
    predicted_score: float | None = None
    rank: int = 1
    neighbors: tuple[Neighbor, ...] = ()
    embedding_version: str = ""


class Policy(Protocol):
    """A search algorithm; write `observe` and `suggest`, inherit `suggest_batch`."""

    def observe(self, candidate: int, score: float | None) -> None:
        """Takes a result in; None for a diverged training. A later one of the same candidate takes its place."""

    def suggest(self, pending: Iterable[int] = NOTHING, allowed: Mask | None = None) -> Suggestion | None:
        """What to train next while `pending` are running; None when nothing is left."""

    def suggest_batch(self, n: int, pending: Iterable[int] = NOTHING, allowed: Mask | None = None) -> list[Suggestion]:
        """Up to n suggestions to train side by side: each is made as if those before it were running already."""
        taken, batch = set(pending), list[Suggestion]()
        while len(batch) < n and (suggestion := self.suggest(taken, allowed)) is not None:
            batch.append(suggestion)
            taken.add(suggestion.candidate)
        return batch


class PredictorPolicy(Policy):
    """Suggests the candidate of the greatest merit that a predictor finds.

    Before the first finite score candidates are spread (the first at random, then the farthest from all taken ones).
    While others run, the predictor is given the pending candidates as if they had come out already: as a middling
    result, and those that crowd round a pending one wait while others are open ("liar", Ginsbourger et al. 2010); or
    just as predicted, without waiting ("believer"), which is for predictors that mind their uncertainty; or it is given
    results alone ("ignore").
    Candidates that are not placed come last, in a random order. All chance, that of ties too, comes from the seed.

    Args:
        predictor: what is expected of the candidates.
        seed: of ties and of the first suggestion.
        diverged: what a diverged training teaches: "worst", the worst finite score seen; "ignore", nothing.
        targets: what the predictor is given: "scores", or "ranks", the normal quantiles of their ranks, which tell good
            from best where most are bad; what is predicted is a score all the same.
        pending: "liar", "believer" or "ignore".

    Raises:
        SurrogateError: a setting of another name.
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
            _one_of(name, value, get_args(kind))
        _one_of("pending", pending, get_args(Pending))
        self._predictor, self._seed = predictor, seed
        self._diverged, self._targets, self._pending = diverged, targets, pending
        self._observations: dict[int, float | None] = {}
        self._prediction: Prediction | None = None  # from the results so far; made when first asked for
        self._turn = _turns(len(predictor.placed), seed)

    @property
    def observations(self) -> Mapping[int, float | None]:
        """What was observed, by candidate."""
        return MappingProxyType(self._observations)

    def observe(self, candidate: int, score: float | None) -> None:
        """Takes a result in.

        Args:
            candidate: its index; one beyond the predictor's is remembered and used once a predictor has it.
            score: the higher the better, finite; None for a diverged training.

        Raises:
            SurrogateError: negative index, or a score that is NaN or infinite.
        """
        if candidate < 0:
            raise SurrogateError(f"candidate is {candidate}; indices begin at 0")
        if score is not None and not math.isfinite(score):
            raise SurrogateError(f"score of candidate {candidate} is {score}; pass None for a diverged training")
        self._observations[int(candidate)] = None if score is None else float(score)
        self._prediction = None

    def suggest(self, pending: Iterable[int] = NOTHING, allowed: Mask | None = None) -> Suggestion | None:
        """The next candidate to train, or None when none is open.

        Args:
            pending: candidates that are being trained now.
            allowed: bool [n], False for candidates to leave out; all are allowed by default.

        Raises:
            SurrogateError: the mask has another shape.
        """
        running = np.array(sorted(set(pending) - self._observations.keys()), dtype=np.int64)
        open_ = _open_mask(len(self._turn), [*self._observations, *running], allowed)
        if not open_.any():
            return None
        placed = open_ & self._predictor.placed
        if not placed.any():
            return self._explain(self._first(open_), open_)
        running = self._placed(running)
        return self._explain(self._choose(placed, running), open_)

    def suggest_batch(self, n: int, pending: Iterable[int] = NOTHING, allowed: Mask | None = None) -> list[Suggestion]:
        """Up to n suggestions to train side by side: each is made as if those before it were running already.

        Where the predictor is a Gaussian process by expected improvement, and believes, they are made from one fit
        (`surrogate.batches`): what is believed has no part in the choice of the process's length and noise, as it has
        in `suggest`.
        """
        batch = self._believed_batch(n, frozenset(pending), allowed) if n > 1 else []
        taken = {*pending, *(suggestion.candidate for suggestion in batch)}
        return batch + super().suggest_batch(n - len(batch), taken, allowed)

    def _believed_batch(self, n: int, pending: frozenset[int], allowed: Mask | None) -> list[Suggestion]:
        """As many as the predictor can make from one fit; none where it is of another kind, or nothing is known."""
        known, scores = self._training_set()
        if not len(scores) or self._pending != "believer" or not isinstance(self._predictor, MetricPredictor):
            return []
        targets = normal_ranks(scores) if self._targets == "ranks" else scores
        process = self._predictor.believer(known, targets)
        if process is None:
            return []
        ascending = np.argsort(targets, kind="stable")
        expected: Scores = np.interp(process.mean, targets[ascending], scores[ascending])
        running = np.array(sorted(pending - self._observations.keys()), dtype=np.int64)
        open_ = _open_mask(len(self._turn), [*self._observations, *running], allowed)
        placed = open_ & self._predictor.placed
        process.believe(self._placed(running))
        batch = list[Suggestion]()
        while len(batch) < n and placed.any():
            merits = merit("ei", process.mean, process.deviation, np.array([process.best]))
            chosen = self._first(placed, merits)
            batch.append(self._explained(chosen, expected, open_))
            placed[chosen] = open_[chosen] = False
            process.believe(np.array([chosen]))
        return batch

    def _choose(self, placed: Mask, running: Indices) -> int:
        prediction = self._predict()
        if prediction is None:
            taken = np.union1d(self._placed(self._observations), running)
            return self._first(placed, self._predictor.nearest(taken))
        if not len(running) or self._pending == "ignore":
            return self._first(placed, prediction.merits)
        merits = self._with_lies(running, prediction).merits
        if self._pending == "believer":
            return self._first(placed, merits)
        free = placed & (self._predictor.nearest(running) > CROWDED * self._predictor.gap)
        return self._first(free if free.any() else placed, merits)

    def _first(self, mask: Mask, values: Scores | None = None) -> int:
        """The candidate of the highest value within the mask, whose turn comes first among equals."""
        candidates = np.flatnonzero(mask)
        if values is not None:
            candidates = candidates[values[candidates] == values[candidates].max()]
        return int(candidates[np.argmin(self._turn[candidates])])

    def _predict(self) -> Prediction | None:
        """From results alone; None without a finite score of a placed candidate."""
        if self._prediction is None:
            known, scores = self._training_set()
            self._prediction = self._ask(known, scores) if len(scores) else None
        return self._prediction

    def _with_lies(self, running: Indices, prediction: Prediction) -> Prediction:
        """As if the running candidates had come out already."""
        known, scores = self._training_set()
        predicted = prediction.scores[running]
        lies = predicted if self._pending == "believer" else _lies(scores, predicted)
        return self._ask(np.concatenate([known, running]), np.concatenate([scores, lies]))

    def _ask(self, known: Indices, scores: Scores) -> Prediction:
        if self._targets == "scores":
            return self._predictor.predict(known, scores)
        targets = normal_ranks(scores)
        prediction = self._predictor.predict(known, targets)
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

    def _placed(self, candidates: Iterable[int]) -> Indices:
        """Those of the candidates that the predictor places, ascending."""
        indices = np.unique(np.fromiter(candidates, dtype=np.int64))
        indices = indices[indices < len(self._turn)]
        return indices[self._predictor.placed[indices]]

    def _explain(self, candidate: int, open_: Mask) -> Suggestion:
        prediction = self._predict()
        return self._explained(candidate, None if prediction is None else prediction.scores, open_)

    def _explained(self, candidate: int, scores: Scores | None, open_: Mask) -> Suggestion:
        predicted = None if scores is None or np.isnan(scores[candidate]) else float(scores[candidate])
        return Suggestion(
            candidate=candidate,
            predicted_score=predicted,
            rank=_rank(scores, predicted, open_),
            neighbors=self._nearest_trained(candidate),
            embedding_version=self._predictor.version,
        )

    def _nearest_trained(self, candidate: int) -> tuple[Neighbor, ...]:
        trained = self._placed(self._observations)
        if not self._predictor.placed[candidate]:
            return ()
        distances = self._predictor.distances(candidate, trained)
        nearest = np.lexsort((trained, distances))[:N_REASONS]
        return tuple(
            Neighbor(i, float(d), self._observations[i])
            for i, d in zip(trained[nearest].tolist(), distances[nearest], strict=True)
        )


class SurrogatePolicy(PredictorPolicy):
    """Suggests the candidate of the best predicted score on the map: a `PredictorPolicy` of one regressor on it.

    Args:
        embedding: where the candidates lie.
        regressor: a name in `surrogate.regressors.REGRESSORS`.
        seed: of ties, of the first suggestion and of the regressor.

    Raises:
        SurrogateError: unknown regressor.
    """

    def __init__(self, embedding: Embedding, regressor: str = "knr", seed: int = 0) -> None:
        super().__init__(MapPredictor(embedding, lambda: make_regressor(regressor, seed)), seed)
        self.embedding = embedding
        self._regressor = regressor

    def with_embedding(self, embedding: Embedding) -> SurrogatePolicy:
        """A policy on another embedding (more candidates, more features) that has observed the same."""
        policy = SurrogatePolicy(embedding, self._regressor, self._seed)
        policy._observations = dict(self._observations)
        return policy


class RandomPolicy(Policy):
    """Candidates in a random order: the baseline of every search."""

    def __init__(self, n_candidates: int, seed: int = 0) -> None:
        self._turn = _turns(n_candidates, seed)
        self._observed: set[int] = set()

    def observe(self, candidate: int, score: float | None) -> None:
        """Notes that the candidate is done."""
        self._observed.add(candidate)

    def suggest(self, pending: Iterable[int] = NOTHING, allowed: Mask | None = None) -> Suggestion | None:
        """The open candidate whose turn comes first, or None when none is open."""
        open_ = np.flatnonzero(_open_mask(len(self._turn), [*self._observed, *pending], allowed))
        if not len(open_):
            return None
        return Suggestion(int(open_[np.argmin(self._turn[open_])]))


def _turns(n: int, seed: int) -> Indices:
    """A seeded random order: each candidate's turn."""
    return np.random.default_rng(seed).permutation(n)


def _open_mask(n: int, taken: Iterable[int], allowed: Mask | None) -> Mask:
    open_ = np.ones(n, dtype=np.bool_) if allowed is None else np.array(allowed, dtype=np.bool_)
    if open_.shape != (n,):
        raise SurrogateError(f"allowed has shape {open_.shape}; expected one flag for each of {n} candidates")
    open_[[i for i in taken if i < n]] = False
    return open_


def normal_ranks(scores: Scores) -> Scores:
    """The normal quantiles of the scores' ranks [m], equal scores at the mean of their ranks.

    >>> normal_ranks(np.array([0.1, 0.9, 0.1])).round(3).tolist()
    [-0.431, 0.967, -0.431]
    """
    quantiles: Scores = ndtri((rankdata(scores) - 0.5) / len(scores))
    return quantiles


def _one_of(name: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise SurrogateError(f"{name} is {value!r}; choose one of {', '.join(allowed)}")


def _lies(scores: Scores, predicted: Scores) -> Scores:
    """What pending candidates [m] are taken to have scored: what is predicted, but no more than the median result."""
    return np.minimum(predicted, np.median(scores))


def _rank(predictions: Scores | None, predicted: float | None, open_: Mask) -> int:
    if predictions is None:
        return 1
    known: Any = predictions[open_ & ~np.isnan(predictions)]
    return 1 + (len(known) if predicted is None else int((known > predicted).sum()))
