"""The value of winners on seeds that they were not selected on. The best of a hundred noisy trainings is partly luck.

Scores are floats, higher is better; rows are functions, columns are training seeds, NaN is a training that diverged.
They are lists, because a confirmation has few, and `top` and `show` start sooner without NumPy.
Seeds are paired: column j of every row has the same seed of initial weights and data order. The seed that functions
were selected on is never among the columns, because selection biases its score upwards.

The mean over seeds has Student's t interval. A function is compared with a reference by the paired t-test, and the
p-values of all compared functions are corrected together by Holm's method (Holm 1979). How much a selected score should
shrink comes from a normal empirical-Bayes model (Efron and Morris 1973; for selection, Efron 2011): score = value +
noise, so that the expected value of a score y is center + (1 - B) (y - center), where B is the noise's share of the
variance of scores. The noise is the residual of the confirming trainings after the means of rows and columns. Center
and variance are those of the better half of the scores that were selected from, mirrored at their median: the worse
half has a long tail of functions that hardly train, which says nothing about winners.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean, median, stdev

from aquasurf_ray.analysis.studies.correction import holm
from aquasurf_ray.analysis.studies.student_t import critical_value, two_sided_p

Scores = Sequence[float]

LEVEL = 0.95
LAST_BITS = 1e-12  # relative to the largest score: rounding changes differences of equal fractions by less


@dataclass(frozen=True)
class SeedMean:
    """A mean over seeds, with the interval that holds the true one 95 times in a hundred.

    The mean is None if one of the trainings diverged; the interval is None for a single seed too.
    """

    n: int
    n_diverged: int
    mean: float | None
    low: float | None
    high: float | None

    @property
    def merit(self) -> float:
        """The mean where functions are put in order: without one, a function comes last."""
        return -math.inf if self.mean is None else self.mean


@dataclass(frozen=True)
class PairedDifference:
    """The mean paired difference to the reference, positive where better, with its 95% interval and two-sided p-values.

    All are None with fewer than two pairs; the p-values and the interval also if the difference is the same with every
    seed and not zero, because then the test has no variance to compare with.
    """

    gain: float | None
    p_value: float | None
    p_holm: float | None = None
    low: float | None = None
    high: float | None = None

    @property
    def is_better(self) -> bool:
        """True if the gain is positive and significant, with the correction."""
        return self.gain is not None and self.gain > 0 and self.p_holm is not None and self.p_holm < 1 - LEVEL


@dataclass(frozen=True)
class Shrinkage:
    """The loss of a selected function's score: observed with the confirming seeds, and expected by the model."""

    observed: float | None
    expected: float | None


@dataclass(frozen=True)
class ShrinkageModel:
    """`noise_share` is B in [0, 1]; scores are expected to lose B times their distance from `center`.

    >>> ShrinkageModel(center=0.5, noise_share=0.25).expected(0.9)
    0.1
    """

    center: float
    noise_share: float

    def expected(self, score: float, n_seeds: int = 1) -> float:
        """Return the expected loss of a selected score, the mean of so many seeds; negative below the center.

        >>> round(ShrinkageModel(center=0.5, noise_share=0.25).expected(0.9, n_seeds=2), 4)  # 0.4 · 0.125 / 0.875
        0.0571
        """
        # The noise of a mean is B / n of the variance of scores, and its share of the variance of means is larger.
        share = self.noise_share / (n_seeds - (n_seeds - 1) * self.noise_share)
        return share * (score - self.center)


def seed_mean(scores: Scores) -> SeedMean:
    """Return the mean of one function's scores [s], with Student's t interval.

    >>> found = seed_mean([0.5, 0.75, 1.0])
    >>> found.mean, round(found.low, 4), round(found.high, 4)
    (0.75, 0.129, 1.371)
    """
    n, n_diverged = len(scores), sum(map(math.isnan, scores))
    if n == 0 or n_diverged:
        return SeedMean(n, n_diverged, None, None, None)
    # A loss on the test split may be infinite where that on the validation split is not.
    finite = all(map(math.isfinite, scores))
    mean = fmean(scores) if finite else sum(scores) / n
    if n == 1 or not finite:
        return SeedMean(n, 0, mean, None, None)
    half = critical_value(LEVEL, n - 1) * stdev(scores) / math.sqrt(n)
    return SeedMean(n, 0, mean, mean - half, mean + half)


def other_seeds(by_seed: Mapping[int, float | None], selected_on: Collection[int]) -> SeedMean:
    """Return the mean over all seeds but those that a result was selected on; None is a training that diverged."""
    return all_seeds({seed: score for seed, score in by_seed.items() if seed not in selected_on})


def all_seeds(by_seed: Mapping[int, float | None]) -> SeedMean:
    """Return the mean over all seeds; None is a training that diverged."""
    return seed_mean([math.nan if score is None else score for _, score in sorted(by_seed.items())])


def paired_difference(scores: Scores, reference: Scores) -> PairedDifference:
    """Compare one function [s] with the reference [s] by the paired t-test, without seeds on which the reference
    diverged.

    A function that diverged on any seed is not compared, because the other seeds alone would favour it; nor is one with
    an infinite score.
    """
    pairs = [(ours, theirs) for ours, theirs in zip(scores, reference, strict=True) if not math.isnan(theirs)]
    n = len(pairs)
    if any(map(math.isnan, scores)) or n < 2:
        return PairedDifference(None, None)
    differences = [ours - theirs for ours, theirs in pairs]
    if not all(map(math.isfinite, differences)):
        return PairedDifference(None, None)
    gain = fmean(differences)
    last_bits = LAST_BITS * max(max(abs(ours), abs(theirs)) for ours, theirs in pairs)
    if max(differences) - min(differences) <= last_bits:  # the only variance is that of rounding
        return (
            PairedDifference(gain, 1.0, low=gain, high=gain) if abs(gain) <= last_bits else PairedDifference(gain, None)
        )
    error = stdev(differences) / math.sqrt(n)
    half = critical_value(LEVEL, n - 1) * error
    return PairedDifference(gain, two_sided_p(gain / error, n - 1), low=gain - half, high=gain + half)


def with_holm(differences: list[PairedDifference]) -> list[PairedDifference]:
    """Return the differences with p-values corrected for their number, in the same order; those without one do not
    count.

    >>> found = [PairedDifference(0.1, 0.04), PairedDifference(0.2, 0.01), PairedDifference(None, None)]
    >>> [difference.p_holm for difference in with_holm(found)]
    [0.04, 0.02, None]
    """
    known = [i for i, c in enumerate(differences) if c.p_value is not None]
    corrected = dict(zip(known, holm([p for c in differences if (p := c.p_value) is not None]), strict=True))
    return [replace(c, p_holm=corrected.get(i)) for i, c in enumerate(differences)]


def noise_variance(scores: Sequence[Scores]) -> float | None:
    """Return the variance of the effect of seeds on single functions, from scores [k, s]: the residual of a two-way
    layout.

    The common effect of a seed on all functions is not part of it, because it favours none. None with fewer than two
    whole rows or two columns.
    """
    whole = [row for row in scores if not any(map(math.isnan, row))]
    k, s = len(whole), len(whole[0]) if whole else 0
    if k < 2 or s < 2:
        return None
    of_seeds = [fmean(column) for column in zip(*whole, strict=True)]
    of_all = fmean(of_seeds)
    residuals = (
        score - of_function - of_seed + of_all
        for row, of_function in zip(whole, map(fmean, whole), strict=True)
        for score, of_seed in zip(row, of_seeds, strict=True)
    )
    return math.fsum(residual * residual for residual in residuals) / ((k - 1) * (s - 1))


def shrinkage_model(population: Scores, noise: float) -> ShrinkageModel | None:
    """Return the model of the scores [n] that winners were selected from, given the variance of the noise.

    Diverged trainings count as worse than the median. None if the median itself diverged.
    """
    scores = [-math.inf if math.isnan(score) else score for score in population]
    center = median(scores) if scores else -math.inf
    if not math.isfinite(center):
        return None
    variance = fmean((score - center) ** 2 for score in scores if score >= center)
    return ShrinkageModel(center, min(1.0, noise / variance) if variance > 0 else 1.0)


def shrinkage(
    selected: float | None, confirmed: SeedMean, model: ShrinkageModel | None, n_selecting: int = 1
) -> Shrinkage:
    """Return the shrinkage of one function, selected by the mean of so many seeds; None for unknown parts."""
    if selected is None:
        return Shrinkage(None, None)
    observed = None if confirmed.mean is None else selected - confirmed.mean
    return Shrinkage(observed, None if model is None else model.expected(selected, n_selecting))
