"""Searches that have another benchmark's results from the start: "transfer:SOURCE" and settings.

    transfer:act-bench-digits                    the results of all its functions
    transfer:act-bench-digits:search=100         only what a search of so many evaluations on it has trained
    transfer:act-bench-digits:scores=negated     a source that misleads: its scores negated, or "shuffled"

The search is "metric", the default one of a run, with a prior. What a source that is searched or shuffled has follows
the seed, by one of five draws, as results differ from search to search.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, get_args

import numpy as np

from aquasurf_ray.analysis.benchmarks.benchmark import Benchmark, Indices, Scores
from aquasurf_ray.analysis.benchmarks.parquet import load_benchmark
from aquasurf_ray.analysis.errors import AnalysisError
from aquasurf_ray.analysis.replay.comparable_spectra import Rows, comparable_rows
from aquasurf_ray.analysis.replay.features import made_once
from aquasurf_ray.analysis.replay.prior_task import Source
from aquasurf_ray.analysis.replay.simulation import simulate
from aquasurf_ray.analysis.replay.surrogate_policies import DRAWS, surrogate_features, surrogate_policy
from aquasurf_ray.surrogate.policy import Policy
from aquasurf_ray.surrogate.settings import METRIC, policy_of

TRANSFER = "transfer:"

Misled = Literal["true", "negated", "shuffled"]


@dataclass(frozen=True)
class TransferSettings:
    """What a search has from elsewhere.

    Args:
        source: the name of a benchmark, or its path.
        search: how many evaluations the source has, as a search of it chose them; 0 for all functions.
        scores: "true", or what is made of them to mislead.

    Raises:
        AnalysisError: a setting out of its range.
    """

    source: str
    search: int = 0
    scores: str = "true"

    def __post_init__(self) -> None:
        if self.search < 0:
            raise AnalysisError(f"search is {self.search}; give how many evaluations, or 0 for all functions")
        if self.scores not in get_args(Misled):
            raise AnalysisError(f"scores is {self.scores!r}; choose one of {', '.join(get_args(Misled))}")


def parse_transfer(name: str) -> TransferSettings:
    """The settings that a name says.

    Raises:
        AnalysisError: no source, an unknown setting, or a wrong value.

    >>> parse_transfer("transfer:act-bench-digits:search=100").search
    100
    """
    source, *options = name.removeprefix(TRANSFER).split(":")
    values: dict[str, str] = {}
    for option in options:
        key, equals, text = option.partition("=")
        if key not in ("search", "scores") or not equals or key in values:
            raise AnalysisError(f"'{option}' in '{name}' is no setting; there are: search, scores")
        values[key] = text
    if not source or not values.get("search", "0").isdecimal():
        raise AnalysisError(f"'{name}' must be {TRANSFER}BENCHMARK, and search a number")
    return TransferSettings(source, int(values.get("search", "0")), values.get("scores", "true"))


def transfer_policy(settings: TransferSettings, benchmark: Benchmark, seed: int) -> Policy:
    """The policy of these settings; its own chance comes from `seed`.

    Raises:
        AnalysisError: the source is of the benchmark's own task.
        BenchmarkError: there is no such source, or it lacks spectra.
    """
    draw = seed % DRAWS if settings.search or settings.scores == "shuffled" else 0
    prior = made_once(benchmark, ("prior", settings, draw), lambda: _prior(settings, benchmark, draw))
    return policy_of(METRIC, seed, features=lambda: surrogate_features(METRIC, benchmark, seed), prior=lambda: prior)


def _prior(settings: TransferSettings, benchmark: Benchmark, draw: int) -> Scores:
    other = _benchmark(settings.source)
    if other.task == benchmark.task:
        raise AnalysisError(f"'{settings.source}' has results of {benchmark.task} itself; give another task's")
    trained = _trained(other, settings.search, draw)
    scores = other.scores[trained]
    if settings.scores == "negated":
        scores = -np.where(np.isnan(scores), np.nanmin(scores), scores)
    elif settings.scores == "shuffled":
        scores = np.random.default_rng(draw).permutation(scores)
    source = Source(scores, other.outputs[trained], _comparable(other)[trained])
    return source.prior(_same(other, trained, benchmark), benchmark.outputs, _comparable(benchmark))


@lru_cache(maxsize=2)
def _benchmark(source: str) -> Benchmark:
    return load_benchmark(source)


def _trained(other: Benchmark, search: int, draw: int) -> Indices:
    """Which functions the source has results of, ascending."""
    if not search:
        return np.flatnonzero(other.trained.any(axis=1))
    trace = made_once(
        other,
        ("search", search, draw),
        lambda: simulate(surrogate_policy(METRIC, other, draw), other, search, seed=draw),
    )
    return np.union1d(trace.order, other.baselines)


def _same(other: Benchmark, trained: Indices, benchmark: Benchmark) -> Indices:
    """Of each of the benchmark's functions, which of those trained it is; -1 where it is none."""
    row = {position: i for i, position in enumerate(trained.tolist())}
    found = made_once(benchmark, ("same", other.name), lambda: [other.find(name) for name in benchmark.functions])
    return np.array([-1 if position is None else row.get(position, -1) for position in found], dtype=np.int64)


def _comparable(benchmark: Benchmark) -> Rows:
    """Those of the sampled spectra, or of what there is; NaN without any."""
    kind = METRIC.fisher if METRIC.fisher in benchmark.spectra else next(iter(benchmark.spectra), None)
    if kind is None:
        return np.full((len(benchmark), 1), np.nan, dtype=np.float32)
    spectra = benchmark.spectra[kind]
    return made_once(benchmark, ("comparable", kind), lambda: comparable_rows(spectra))
