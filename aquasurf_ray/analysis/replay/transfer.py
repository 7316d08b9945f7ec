"""Searches that have the results of other benchmarks from the start: "transfer:SOURCE" and settings.

    transfer:act-bench-digits                    the results of all its functions
    transfer:others                              those of all installed benchmarks of other tasks
    transfer:act-bench-digits:search=100         only the functions that a search of 100 evaluations on it has trained
    transfer:act-bench-digits:scores=negated     misleading results: the scores negated, or "shuffled"
    transfer:act-bench-digits:fisher=empirical   the kind of spectra, where the benchmark has both; sampled by default
    transfer:act-bench-digits:features=outputs   other features than "both"

The search is the default surrogate of a run, with equal shares of outputs and spectra, and with a prior. The results
of a source that is searched or shuffled depend on the seed, by one of five draws, because results differ from search
to search.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from functools import cache
from typing import Literal, get_args

import numpy as np

from aquasurf_ray.analysis.benchmarks.benchmark import Benchmark, Indices, Scores
from aquasurf_ray.analysis.benchmarks.parquet import installed_benchmarks, load_benchmark
from aquasurf_ray.analysis.errors import AnalysisError
from aquasurf_ray.analysis.replay.comparable_spectra import Rows, comparable_rows
from aquasurf_ray.analysis.replay.features import made_once
from aquasurf_ray.analysis.replay.prior_process import transferred_policy
from aquasurf_ray.analysis.replay.prior_task import Source
from aquasurf_ray.analysis.replay.simulation import simulate
from aquasurf_ray.analysis.replay.surrogate_policies import (
    DRAWS,
    ReplaySettings,
    fitting,
    settings_in,
    surrogate_features,
    surrogate_policy,
)
from aquasurf_ray.surrogate.embedding import Features
from aquasurf_ray.surrogate.policy import Policy
from aquasurf_ray.surrogate.settings import METRIC

TRANSFER = "transfer:"
OTHERS = "others"

ScoresAs = Literal["true", "negated", "shuffled"]
FisherAs = Literal["", "sampled", "empirical"]


@dataclass(frozen=True)
class TransferSettings:
    """The settings of a search with results of another benchmark.

    Args:
        source: the name of the other benchmark, or its path; `OTHERS` for all installed ones of other tasks.
        search: the number of evaluations of a search on a source, which chose the functions that it has results of;
            0 for all functions.
        scores: "true", or "negated" or "shuffled" to mislead.
        features: "both", "spectrum" or "outputs".
        fisher: the kind of spectra, "sampled" or "empirical"; empty for the only kind that a benchmark has, else
            sampled.

    Raises:
        AnalysisError: a setting is out of its range.
    """

    source: str
    search: int = 0
    scores: str = "true"
    features: str = "both"
    fisher: str = ""

    def __post_init__(self) -> None:
        if self.search < 0:
            raise AnalysisError(f"search must be a number of evaluations, or 0 for all functions, got {self.search}")
        for name, kind in (("scores", ScoresAs), ("features", Features), ("fisher", FisherAs)):
            value, allowed = getattr(self, name), [choice for choice in get_args(kind) if choice]
            if value not in get_args(kind):
                raise AnalysisError(f"{name} must be one of {', '.join(allowed)}, got {value!r}")

    def surrogate(self, benchmark: Benchmark, preferred: str = "") -> ReplaySettings:
        """Return the settings of the surrogate on a benchmark, with spectra of the preferred kind where it has them."""
        settings = replace(fitting(METRIC, benchmark), features=self.features)
        fisher = self.fisher or (preferred if preferred in benchmark.spectra else settings.fisher)
        return replace(settings, fisher=fisher)


def parse_transfer(name: str) -> TransferSettings:
    """Return the settings that a name gives.

    Raises:
        AnalysisError: there is no source, or a setting is unknown or has a wrong value.

    >>> parse_transfer("transfer:act-bench-digits:search=100").search
    100
    """
    source, *options = name.removeprefix(TRANSFER).split(":")
    values = settings_in(name, options, [field.name for field in fields(TransferSettings)][1:])
    search = values.pop("search", "0")
    if not source or not search.isdecimal():
        raise AnalysisError(f"'{name}' must be {TRANSFER}BENCHMARK, and search a number")
    return TransferSettings(source, int(search), **values)


def transfer_policy(settings: TransferSettings, benchmark: Benchmark, seed: int) -> Policy:
    """Return the policy of these settings; `seed` is its random seed.

    Raises:
        AnalysisError: the source has results of the benchmark's own task, or no other one is installed.
        BenchmarkError: there is no such source, or one of the two lacks the spectra.
    """
    # All results in their true form do not depend on chance, so one prior serves all seeds.
    draw = seed % DRAWS if settings.search or settings.scores == "shuffled" else 0
    priors = made_once(benchmark, ("priors", settings, draw), lambda: _priors(settings, benchmark, draw))
    surrogate = settings.surrogate(benchmark)
    return transferred_policy(surrogate, seed, lambda: surrogate_features(surrogate, benchmark, seed), priors)


def _priors(settings: TransferSettings, benchmark: Benchmark, draw: int) -> Scores:
    """Return the priors of the benchmark's functions by each source, float64 [s, n]."""
    sources = _sources(settings.source, benchmark)
    return np.stack([_prior(replace(settings, source=name), benchmark, draw, i) for i, name in enumerate(sources)])


def _sources(name: str, benchmark: Benchmark) -> list[str]:
    """Return the benchmarks that a name means. A policy that knows the answers transfers nothing, so none of them has
    results of the benchmark's own task.

    Raises:
        AnalysisError: none is left.
    """
    names = [name] if name != OTHERS else list(installed_benchmarks())
    sources = [each for each in names if _benchmark(each).task != benchmark.task]
    if not sources and name == OTHERS:
        raise AnalysisError(f"no benchmark of another task than {benchmark.task} is installed")
    if not sources:
        raise AnalysisError(f"'{name}' has results of {benchmark.task} itself; name another task's benchmark")
    return sources


def _prior(settings: TransferSettings, benchmark: Benchmark, draw: int, number: int) -> Scores:
    """Return the prior by the source of these settings, which is the one of this number."""
    other = _benchmark(settings.source)
    fisher = settings.surrogate(benchmark).fisher
    trained = _trained(other, settings, fisher, draw)
    scores = other.scores[trained]
    if settings.scores == "negated":
        # Negated, the worst become the best: a training that diverged must have a score for that.
        scores = -np.where(np.isnan(scores), np.nanmin(scores), scores)
    elif settings.scores == "shuffled":
        # Each source in an order of its own.
        scores = np.random.default_rng([draw, number] if number else draw).permutation(scores)
    source = Source(scores, other.outputs[trained], _comparable(other, settings, fisher)[trained])
    same = _same(settings.source, trained, benchmark)
    return source.prior(same, benchmark.outputs, _comparable(benchmark, settings, fisher))


@cache
def _benchmark(source: str) -> Benchmark:
    return load_benchmark(source)


def _trained(other: Benchmark, settings: TransferSettings, fisher: str, draw: int) -> Indices:
    """Return the functions that the source has results of, ascending."""
    if not settings.search:
        return np.flatnonzero(other.trained.any(axis=1))
    surrogate = settings.surrogate(other, fisher)
    trace = made_once(
        other,
        ("search", settings.search, surrogate, draw),
        lambda: simulate(surrogate_policy(surrogate, other, draw), other, settings.search, seed=draw),
    )
    return np.union1d(trace.order, other.baselines)


def _same(source: str, trained: Indices, benchmark: Benchmark) -> Indices:
    """Return which of the trained functions each of the benchmark's functions is, or -1 where it is none."""
    row = {position: i for i, position in enumerate(trained.tolist())}
    # By the name that it was asked for under: two files may have results of runs of one name.
    find = _benchmark(source).find
    found = made_once(benchmark, ("same", source), lambda: [find(name) for name in benchmark.functions])
    return np.array([-1 if position is None else row.get(position, -1) for position in found], dtype=np.int64)


def _comparable(benchmark: Benchmark, settings: TransferSettings, fisher: str) -> Rows:
    """Return comparable rows of the spectra of this kind, else of the other kind; NaN without spectra."""
    kind = fisher if fisher in benchmark.spectra else next(iter(benchmark.spectra), None)
    if kind is None or settings.features == "outputs":
        return np.full((len(benchmark), 1), np.nan, dtype=np.float32)
    spectra = benchmark.spectra[kind]
    return made_once(benchmark, ("comparable", kind), lambda: comparable_rows(spectra))
