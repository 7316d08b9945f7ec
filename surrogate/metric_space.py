"""Distances between candidates by their features directly, without a map.

    d(a, b) = sum over features f of  balance_f d_f(a, b) / m_f          m_f: the median of d_f

where d_f is Manhattan between rows of spectra (their distance, see `surrogate.spectra.feature_matrix`) and Euclidean
between outputs. A candidate that lacks a feature is at the median distance from all others there: neither near nor far.
Such distances are not of negative type, so the matrix of a kernel need not be positive definite. Two alternatives are,
and were tried in replays on five networks, where searches found the best functions no sooner: a candidate that lacks a
feature is as far from each other one as that one is on average, with or without a distance between two that lack it.

Rows of distances are computed at first use and kept, so that a space of many candidates costs little, and one that
serves many searches is soon complete.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aquasurf_ray.surrogate.errors import SurrogateError
from aquasurf_ray.surrogate.neighbors import Metric
from aquasurf_ray.surrogate.row_distances import row_distances

Array = NDArray[np.floating[Any]]
Floats = NDArray[np.float32]
Indices = NDArray[np.int64]
Mask = NDArray[np.bool_]

ROWS_AT_ONCE = 64  # rows of distances that are computed together
_KEPT_BYTES = 2**29  # memory for the rows of a feature: all of them for up to eleven thousand candidates
_ALGORITHM = 2  # raise it when the same features would give other distances
_N_FOR_MEDIAN = 100  # rows, spread evenly over the candidates; the median is exact up to this number


class PairwiseDistances(ABC):
    """The distances between candidates by one feature, relative to their typical distance. Implement `of`.

    Attributes:
        known: bool [n], True for the candidates that have the feature.
    """

    known: Mask

    @property
    @abstractmethod
    def version(self) -> str:
        """What identifies the distances by their content."""

    def __len__(self) -> int:
        return len(self.known)

    @abstractmethod
    def of(self, candidate: int) -> Floats:
        """Return the distances of one candidate to all, float32 [n]: 1 where either lacks the feature, 0 to itself."""

    def between(self, candidates: Indices, others: Indices) -> Floats:
        """Return the distances of some candidates [m] to others [k], float32 [m, k]: those of `of`."""
        rows = [self.of(candidate)[others] for candidate in candidates.tolist()]
        return np.array(rows, dtype=np.float32).reshape(len(candidates), len(others))

    def prepare(self, candidates: Indices) -> None:  # noqa: B027 - most have nothing to prepare
        """Compute what `of` will be asked for, where that costs less for several candidates at once."""


class FeatureDistances(PairwiseDistances):
    """The distances by one feature, relative to their median.

    Candidates may be added later. Then the median stays that of the first ones, so that no distance changes.

    Args:
        rows: float32 [n, d], one row a candidate; a row that is not finite is a missing feature.
        metric: "euclidean" or "manhattan".
        n_for_median: the number of candidates, from the first one, whose distances give the median; by default all.
    """

    def __init__(self, rows: Array, metric: Metric, n_for_median: int | None = None) -> None:
        self._rows = np.ascontiguousarray(rows, dtype=np.float32)
        self._room = self._rows  # perhaps the caller's; `extend` writes behind the rows of its own array only
        if self._rows.ndim != 2:
            raise SurrogateError(f"features have shape {self._rows.shape}; expected one row a candidate")
        self._metric = metric
        self._n_for_median = n_for_median
        self._n_digested, self._digests = 0, (hashlib.sha256(), hashlib.sha256())
        self.known: Mask = np.asarray(np.isfinite(self._rows).all(axis=1))
        self._kept: dict[int, Floats] = {}
        self.median = self._median()

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def n_columns(self) -> int:
        """The number of values in a row."""
        return int(self._rows.shape[1])

    def extend(self, rows: Array) -> None:
        """Add candidates after the others; `n_for_median` must have been given.

        Raises:
            SurrogateError: the rows have another width, or the median would change.
        """
        if self._n_for_median is None or rows.ndim != 2 or rows.shape[1] != self._rows.shape[1]:
            raise SurrogateError(f"cannot add rows {rows.shape} to {self._rows.shape}, median of {self._n_for_median}")
        n, d = self._rows.shape
        if len(self._room) < n + len(rows):
            # Doubled, so that copies cost little in all.
            self._room = np.empty((2 * (n + len(rows)), d), dtype=np.float32)
            self._room[:n] = self._rows
        self._room[n : n + len(rows)] = rows
        self._rows = self._room[: n + len(rows)]
        self.known = np.concatenate([self.known, np.isfinite(self._rows[n:]).all(axis=1)])

    def of(self, candidate: int) -> Floats:
        """See `PairwiseDistances.of`; the caller must not change the row."""
        if len(self._kept.get(candidate, ())) < len(self):
            self.prepare(np.array([candidate]))
        return self._kept[candidate]

    def between(self, candidates: Indices, others: Indices) -> Floats:
        """See `PairwiseDistances.between`; rows that are not kept are not computed as a whole."""
        n = len(self)
        kept = np.array([len(self._kept.get(candidate, ())) == n for candidate in candidates.tolist()], np.bool_)
        rows = np.empty((len(candidates), len(others)), dtype=np.float32)
        rows[kept] = super().between(candidates[kept], others)
        rows[~kept] = self._relative(candidates[~kept], others)
        return rows

    def prepare(self, candidates: Indices) -> None:
        """See `PairwiseDistances.prepare`. At least the last `ROWS_AT_ONCE` rows are kept, and as many as have room."""
        n_computed = np.array([len(self._kept.get(candidate, ())) for candidate in candidates.tolist()])
        for start in np.unique(n_computed[n_computed < len(self)]).tolist():
            missing = candidates[n_computed == start]
            new = self._relative(missing, slice(start, None))
            for candidate, row in zip(missing.tolist(), new, strict=True):
                # Taken out first, so that it is among the last ones, which stay.
                self._kept[candidate] = np.concatenate([self._kept.pop(candidate, row[:0]), row])
        while len(self._kept) > max(ROWS_AT_ONCE, _KEPT_BYTES // (4 * len(self))):
            del self._kept[next(iter(self._kept))]  # the one that was computed first

    @property
    def version(self) -> str:
        """The digest of the content that decides the distances."""
        if self._n_for_median is None:
            return self._version_of_all
        # The same whether candidates came at once or one after the other, and each is digested once.
        flags, rows = self._digests
        new = slice(self._n_digested, len(self))
        flags.update(self.known[new].tobytes())
        rows.update(self._rows[new][self.known[new]].data)
        self._n_digested = len(self)
        return content_digest(f"{self._metric} {self.median} {self._rows.shape} {flags.digest()!r} {rows.digest()!r}")

    @cached_property
    def _version_of_all(self) -> str:
        return content_digest(f"{self._metric} {self._rows.shape}", np.packbits(self.known), self._rows[self.known])

    def _relative(self, candidates: Indices, others: Indices | slice) -> Floats:
        """Return the distances of candidates to others, [m, k]."""
        picked = np.arange(len(self))[others]
        relative = self._distances(candidates, picked)
        relative /= np.float32(self.median)
        relative[~self.known[candidates]] = 1.0
        relative[:, ~self.known[picked]] = 1.0
        relative[candidates[:, None] == picked] = 0.0
        return relative

    def _distances(self, some: Indices, others: Indices) -> Floats:
        return row_distances(self._rows, some, others, self._metric)

    def _median(self) -> float:
        known = np.flatnonzero(self.known[: self._n_for_median])
        asked = known[np.linspace(0, len(known) - 1, min(len(known), _N_FOR_MEDIAN)).astype(np.int64)]
        # Zeros are distances to oneself and to duplicates, which would pull the median of a small space down.
        found = self._distances(asked, known)
        found = found[found > 0]
        return float(np.median(found)) if len(found) else 1.0


class MetricSpace:
    """The distances between candidates by one or more features.

    Args:
        features: the distances by each feature.
        balances: the factor of each feature; 1 by default.
    """

    def __init__(self, features: Sequence[PairwiseDistances], balances: Sequence[float] | None = None) -> None:
        if not features or len({len(feature) for feature in features}) != 1:
            raise SurrogateError(f"a metric space needs features of the same candidates, got {[*map(len, features)]}")
        self.features = tuple(features)
        self.balances = tuple(balances or (1.0,) * len(features))
        if len(self.balances) != len(self.features) or min(self.balances) < 0:
            raise SurrogateError(f"{len(self.features)} features need as many balances, got {self.balances}")
        self.known: Mask = np.logical_or.reduce([feature.known for feature in self.features])

    def __len__(self) -> int:
        return len(self.known)

    @property
    def version(self) -> str:
        """The digest of the features, their balances, and the algorithm that combines them."""
        return content_digest(f"{_ALGORITHM} {self.balances} {[feature.version for feature in self.features]}")

    def distances(self, candidates: Sequence[int] | Indices, balances: Sequence[float] | None = None) -> Floats:
        """Return the distances from these candidates to all, float32 [m, n]; `balances` replaces the space's own."""
        asked = np.asarray(candidates, dtype=np.int64)
        total = np.zeros((len(asked), len(self)), dtype=np.float32)
        for feature, balance in zip(self.features, balances or self.balances, strict=True):
            if balance:  # a share of 0 must not cost the rows of its feature
                for start in range(0, len(asked), ROWS_AT_ONCE):
                    some = asked[start : start + ROWS_AT_ONCE]
                    feature.prepare(some)
                    for i, candidate in enumerate(some.tolist(), start):  # row by row, which stays in the cache
                        total[i] += np.float32(balance) * feature.of(candidate)
        return total

    def between(self, candidates: Indices, others: Indices, balances: Sequence[float] | None = None) -> Floats:
        """Return the distances from some candidates [m] to others [k], float32 [m, k], the same that `distances` has,
        without those to all.
        """
        return self.mixed(candidates, others, [balances or self.balances])[0]

    def mixed(self, candidates: Indices, others: Indices, mixtures: Sequence[Sequence[float]]) -> list[Floats]:
        """Return the same with several balances in place of the space's own."""
        totals = [np.zeros((len(candidates), len(others)), dtype=np.float32) for _ in mixtures]
        for feature, balances in zip(self.features, zip(*mixtures, strict=True), strict=True):
            if any(balances):
                distances = feature.between(candidates, others)
                for total, balance in zip(totals, balances, strict=True):
                    total += np.float32(balance) * distances
        return totals


def content_digest(text: str, *arrays: NDArray[Any]) -> str:
    """Return 32 hexadecimal digits that change with the text and with any value."""
    digest = hashlib.sha256(text.encode())
    for array in arrays:
        digest.update(array.data)
    return digest.hexdigest()[:32]
