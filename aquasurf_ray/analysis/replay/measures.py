"""Measures of simulated searches: how soon they find the best functions, how well they predict, how fast they are.

Format: `runs` searches of `evaluations` trainings each; the truth is a function's median score over seeds, whatever
score the search observed. Goals are among the functions that the run could choose from. The baselines, which every
search knows from the start, do not count. Evaluations are counted from 1 in the order of completion; a goal that is
never reached has the value evaluations + 1, or infinite seconds.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from aquasurf_ray.analysis.errors import AnalysisError

if TYPE_CHECKING:
    from aquasurf_ray.analysis.replay.simulation import Trace

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]

TOP_FRACTIONS: Mapping[str, float] = {"top_1": 0.01, "top_01": 0.001}
MIN_FOR_CORRELATION = 3


@dataclass(frozen=True)
class Goals:
    """The goals among the functions that a search can choose from.

    Args:
        top: the score of the ceil(fraction * n)-th best of n functions, by the names of `TOP_FRACTIONS`.
        best: the best score.
        worst: the worst finite score.
    """

    top: Mapping[str, float]
    best: float
    worst: float


@dataclass(frozen=True, eq=False)
class Measures:
    """The measures of one policy's runs; all but `best_so_far` have one value a run.

    Args:
        best_so_far: the truth of the best function so far, float64 [runs, evaluations]; the worst score of the
            benchmark as long as all trainings have diverged.
        to_top: evaluations until a function of the top was trained, by the names of `TOP_FRACTIONS`.
        seconds_to_top: simulated seconds until a function of the top was trained.
        regret: the difference between the best score of all and the truth of the best function found.
        regret_of_choice: the difference between the best score of all and the truth of the function with the best
            observed score.
        rank_correlation: Spearman's correlation of predicted score and truth of the suggested functions; NaN without
            predictions.
        suggest_ms: the measured median processor time of a suggestion.
        distinct: the number of runs that differ in the functions that they trained. It is below the number of runs for
            policies with little randomness, whose p-values are then too small.
        seconds: simulated time from the first start to the last end.
    """

    best_so_far: Floats
    to_top: Mapping[str, Indices]
    seconds_to_top: Mapping[str, Floats]
    regret: Floats
    regret_of_choice: Floats
    rank_correlation: Floats
    suggest_ms: Floats
    seconds: Floats
    distinct: int


def goals_of(scores: Floats) -> Goals:
    """Return the goals among functions with these scores [n], NaN where they diverged.

    Raises:
        AnalysisError: no function has a score.
    """
    descending = -np.sort(-scores[np.isfinite(scores)])
    if not len(descending):
        raise AnalysisError(f"none of {len(scores)} functions has a score")
    # Less a rounding error, as in `Benchmark.top`. Functions that diverged count in n, but have no place.
    places = {name: math.ceil(share * len(scores) - 1e-9) for name, share in TOP_FRACTIONS.items()}
    top = {name: float(descending[min(place, len(descending)) - 1]) for name, place in places.items()}
    return Goals(top, float(descending[0]), float(descending[-1]))


def measure(traces: Sequence[Trace], goals: Sequence[Goals]) -> Measures:
    """Return the measures of one policy's runs, each against its own goals, in the order of the traces.

    Raises:
        AnalysisError: there is no trace, or the traces have different lengths.
    """
    lengths = {len(trace.truth) for trace in traces}
    if len(lengths) != 1 or lengths == {0}:
        raise AnalysisError(f"traces have {sorted(lengths)} evaluations; expected runs of one length, at least 1")
    truth = np.stack([trace.truth for trace in traces])
    finished = np.stack([trace.finished_at for trace in traces])
    started = np.array([trace.started_at.min() for trace in traces])
    worst, highest = (np.array([getattr(goal, name) for goal in goals]) for name in ("worst", "best"))
    best = np.maximum.accumulate(np.where(np.isnan(truth), worst[:, None], truth), axis=1)
    to_top = {name: _first_reaching(truth, np.array([goal.top[name] for goal in goals])) for name in TOP_FRACTIONS}
    return Measures(
        best_so_far=best,
        to_top=to_top,
        seconds_to_top={name: _time_of(first, finished) - started for name, first in to_top.items()},
        regret=highest - best[:, -1],
        regret_of_choice=highest - np.array(list(map(_truth_of_choice, traces, worst.tolist()))),
        rank_correlation=np.array([spearman(trace.predicted, trace.truth) for trace in traces]),
        suggest_ms=np.array([1e3 * float(np.median(trace.suggest_seconds)) for trace in traces]),
        distinct=len({trace.order.tobytes() for trace in traces}),
        seconds=finished.max(axis=1) - started,
    )


def spearman(a: Floats, b: Floats) -> float:
    """Return the rank correlation of the pairs [n] with two finite values; NaN for fewer than three or a constant side.

    >>> spearman(np.array([1.0, 2.0, 3.0, np.nan]), np.array([10.0, 30.0, 20.0, 0.0]))
    0.5
    """
    known = np.isfinite(a) & np.isfinite(b)
    if known.sum() < MIN_FOR_CORRELATION:
        return float("nan")
    x, y = rankdata(a[known]), rankdata(b[known])
    if np.ptp(x) == 0 or np.ptp(y) == 0:
        return float("nan")
    return float(np.corrcoef(x, y)[0, 1])


def _truth_of_choice(trace: Trace, worst: float) -> float:
    """Return the truth of the first function with the best observed score; the worst score if its median diverged."""
    chosen = trace.truth[int(np.argmax(np.where(np.isnan(trace.observed), -np.inf, trace.observed)))]
    return worst if np.isnan(chosen) else float(chosen)


def _first_reaching(truth: Floats, score: Floats) -> Indices:
    reached = truth >= score[:, None]  # false for NaN
    first = np.argmax(reached, axis=1) + 1
    return np.asarray(np.where(reached.any(axis=1), first, truth.shape[1] + 1), dtype=np.int64)


def _time_of(evaluation: Indices, finished: Floats) -> Floats:
    """Return the end times of the evaluations with these numbers, one a run; infinity for one past the last."""
    padded = np.concatenate([finished, np.full((len(finished), 1), np.inf)], axis=1)
    return padded[np.arange(len(finished)), evaluation - 1]
