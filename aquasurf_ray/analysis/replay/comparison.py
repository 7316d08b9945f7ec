"""Comparisons of search algorithms: spreads over runs, and paired tests against a reference.

Invariants: run i of every policy has the same seed, so that differences are taken run by run. Quantiles are values
that occur (the inverse of the empirical distribution): since every run is censored at its budget, the median is that of
Kaplan and Meier, and "never" remains "never". Intervals are percentiles of 2,000 bootstrap samples of the runs. Tests
are Wilcoxon's signed-rank tests (zeros ranked, Pratt 1959), corrected by Holm's method (1979) over the policies,
separately for each measure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from aquasurf_ray.analysis.errors import AnalysisError
from aquasurf_ray.analysis.replay.measures import TOP_FRACTIONS, Goals, Measures, goals_of, measure
from aquasurf_ray.analysis.studies.correction import holm

if TYPE_CHECKING:
    from aquasurf_ray.analysis.benchmarks.benchmark import Benchmark
    from aquasurf_ray.analysis.replay.simulation import Trace

Floats = NDArray[np.float64]

RESAMPLES = 2000
CONFIDENCE = 0.95
DIGITS = 9
TESTED = (*(f"to_{name}" for name in TOP_FRACTIONS), "regret", "regret_of_choice")  # lower is better for each


@dataclass(frozen=True)
class Spread:
    """The spread of one measure over the runs: median, quartiles, and the bootstrap interval (95%) of the median.

    All are NaN if no run has a value.
    """

    median: float
    q25: float
    q75: float
    low: float
    high: float


@dataclass(frozen=True)
class PairedTest:
    """A policy against the reference, run by run, by a measure for which lower is better.

    Args:
        p: the two-sided p-value of Wilcoxon's signed-rank test.
        p_holm: the p-value, corrected for the number of policies compared.
        wins: the share of the runs in which the policy is better.
        losses: the share of the runs in which the policy is worse.
        times_less: the reference's median over the policy's; NaN if the latter is 0.
        low, high: the bootstrap interval of `times_less`.
    """

    p: float
    p_holm: float
    wins: float
    losses: float
    times_less: float
    low: float
    high: float


@dataclass(frozen=True, eq=False)
class Comparison:
    """The runs of several policies on one benchmark.

    Args:
        goals: the goals among all functions but the baselines; a run that could choose from some only had its own
            goals.
        measures: the measures by policy.
        reference: the policy that the others are tested against.
        tests: the tests by policy (all but the reference) and measure.
    """

    goals: Goals
    measures: Mapping[str, Measures]
    reference: str
    tests: Mapping[str, Mapping[str, PairedTest]]

    @property
    def evaluations(self) -> int:
        """The budget of every run."""
        return int(self.measures[self.reference].best_so_far.shape[1])

    @property
    def runs(self) -> int:
        """The number of runs of each policy."""
        return len(self.measures[self.reference].best_so_far)

    def spread(self, policy: str, measure: str) -> Spread:
        """Return the spread of a measure, by its name in `values`."""
        return spread(values(self.measures[policy], measure))

    def document(self) -> dict[str, Any]:
        """Return all measures for JSON."""
        return {
            "runs": self.runs,
            "evaluations": self.evaluations,
            "reference": self.reference,
            "goals": asdict(self.goals),
            "policies": {policy: self._policy_document(policy) for policy in self.measures},
        }

    def _policy_document(self, policy: str) -> dict[str, Any]:
        measures = self.measures[policy]
        curve = quantiles(measures.best_so_far.T, [0.25, 0.5, 0.75])
        return {
            **{name: asdict(self.spread(policy, name)) for name in MEASURES},
            "distinct_runs": measures.distinct,
            "never": {name: share_never(measures, name) for name in TOP_FRACTIONS},
            "best_so_far": {"q25": curve[0].tolist(), "median": curve[1].tolist(), "q75": curve[2].tolist()},
            "tests": {name: asdict(test) for name, test in self.tests.get(policy, {}).items()},
        }


MEASURES = (*TESTED, "rank_correlation", "suggest_ms", "seconds", *(f"seconds_to_{name}" for name in TOP_FRACTIONS))


def values(measures: Measures, name: str) -> Floats:
    """Return one measure of every run, by its name in `MEASURES`: float64 [runs]."""
    by_name: dict[str, NDArray[Any]] = {f"to_{top}": first for top, first in measures.to_top.items()}
    by_name |= {f"seconds_to_{top}": seconds for top, seconds in measures.seconds_to_top.items()}
    found = by_name[name] if name in by_name else getattr(measures, name)
    return np.asarray(found, dtype=np.float64)


def share_never(measures: Measures, top: str) -> float:
    """Return the share of the runs that did not reach a goal, by its name in `TOP_FRACTIONS`."""
    return float(np.mean(measures.to_top[top] > measures.best_so_far.shape[1]))


def compare(traces: Mapping[str, Sequence[Trace]], benchmark: Benchmark, reference: str) -> Comparison:
    """Compare policies by their traces; traces at the same index have the same seed.

    Raises:
        AnalysisError: the reference is not among the policies, or their runs differ in number or length.
    """
    if reference not in traces:
        raise AnalysisError(f"reference must be one of {', '.join(traces)}, got '{reference}'")
    # Each run has goals of its own, because it may have been given only some of the functions.
    measures = {
        policy: measure(runs, [goals_of(benchmark.scores[run.candidates]) for run in runs])
        for policy, runs in traces.items()
    }
    shapes = {m.best_so_far.shape for m in measures.values()}
    if len(shapes) > 1:
        raise AnalysisError(f"policies have different runs and evaluations: {sorted(shapes)}")
    others = [policy for policy in measures if policy != reference]
    tests: dict[str, dict[str, PairedTest]] = {policy: {} for policy in others}
    for name in TESTED:
        ours = values(measures[reference], name)
        theirs = [values(measures[policy], name) for policy in others]
        p_values = [signed_rank_p(x, ours) for x in theirs]
        for policy, x, p, p_holm in zip(others, theirs, p_values, holm(p_values), strict=True):
            tests[policy][name] = _test(x, ours, p, p_holm)
    return Comparison(goals_of(benchmark.scores[benchmark.candidates]), measures, reference, tests)


def spread(runs: Floats) -> Spread:
    """Return median, quartiles and interval of values [runs], without NaN."""
    known = runs[~np.isnan(runs)]
    if not len(known):
        return Spread(*[float("nan")] * 5)
    q25, median, q75 = quantiles(known, [0.25, 0.5, 0.75])
    low, high = _interval(quantiles(known[_resamples(len(known))], [0.5])[0])
    return Spread(float(median), float(q25), float(q75), low, high)


def quantiles(samples: Floats, shares: Sequence[float]) -> Floats:
    """Return the smallest values that at least these shares do not exceed, along the last axis: [shares, ...].

    >>> quantiles(np.array([3.0, 1.0, 2.0, np.inf]), [0.5, 1.0]).tolist()
    [2.0, inf]
    """
    return np.asarray(np.quantile(samples, shares, axis=-1, method="inverted_cdf"), dtype=np.float64)


def signed_rank_p(a: Floats, b: Floats) -> float:
    """Return the two-sided p-value of Wilcoxon's signed-rank test of paired values [runs]; 1 if no pair differs."""
    from scipy.stats import wilcoxon

    differences = a - b
    largest = np.abs(differences).max()
    if largest == 0:
        return 1.0
    # Rounded, so that equal differences rank as ties although floats differ in the last bit.
    rounded = np.round(differences / largest, DIGITS)
    return float(wilcoxon(rounded, zero_method="pratt").pvalue)


def _test(theirs: Floats, reference: Floats, p: float, p_holm: float) -> PairedTest:
    samples = _resamples(len(theirs))
    ratios = _ratio(quantiles(reference[samples], [0.5])[0], quantiles(theirs[samples], [0.5])[0])
    ratio = float(_ratio(quantiles(reference, [0.5])[0], quantiles(theirs, [0.5])[0]))
    wins, losses = float(np.mean(theirs < reference)), float(np.mean(theirs > reference))
    return PairedTest(p, p_holm, wins, losses, ratio, *_interval(ratios))


def _ratio(above: Floats, below: Floats) -> Floats:
    ratio: Floats = np.divide(above, below, out=np.full(np.shape(below), np.nan), where=np.asarray(below) != 0)
    return ratio


def _interval(estimates: Floats) -> tuple[float, float]:
    known = estimates[~np.isnan(estimates)]
    if not len(known):
        return float("nan"), float("nan")
    low, high = quantiles(known, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return float(low), float(high)


def _resamples(n: int) -> NDArray[np.int64]:
    """Return runs drawn with replacement, the same for all policies to preserve the pairs: int64 [RESAMPLES, n]."""
    return np.random.default_rng(0).integers(n, size=(RESAMPLES, n))
