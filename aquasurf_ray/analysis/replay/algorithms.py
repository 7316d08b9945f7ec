"""Search algorithms by name, ready to search a benchmark.

A name is one of `ALGORITHMS`, or says how a surrogate is made: REGRESSOR/FEATURES/SPACE, such as "knr/both/umap", and
any settings that differ from the defaults of `SurrogateSettings`, such as "knr/both/umap:k=5:weighting=uniform".
"aquasurf" and "metric" are the two that a run can have, see `surrogate.settings`; "transfer:act-bench-digits" is
"metric" with another benchmark's results, see `analysis.transfer`. A new algorithm is a factory and one line in
`ALGORITHMS`.
"""

from __future__ import annotations

from collections.abc import Callable

from aquasurf_ray.analysis.benchmarks.benchmark import Benchmark
from aquasurf_ray.analysis.errors import AnalysisError
from aquasurf_ray.analysis.replay.evolution import EvolutionPolicy
from aquasurf_ray.analysis.replay.spellings import spellings_of
from aquasurf_ray.analysis.replay.surrogate_policies import fitting, parse_settings, surrogate_policy
from aquasurf_ray.analysis.replay.tpe import TpePolicy
from aquasurf_ray.analysis.replay.transfer import TRANSFER, parse_transfer, transfer_policy
from aquasurf_ray.surrogate.policy import Policy, RandomPolicy
from aquasurf_ray.surrogate.settings import AQUASURF, METRIC

Factory = Callable[[Benchmark, int], Policy]


def make_policy(name: str, benchmark: Benchmark, seed: int) -> Policy:
    """A fresh search algorithm, whose candidates are the benchmark's functions.

    Raises:
        AnalysisError: no algorithm has that name.
        SurrogateError: a setting is out of its range.
    """
    if name in ALGORITHMS:
        return ALGORITHMS[name](benchmark, seed)
    if name.startswith(TRANSFER):
        return transfer_policy(parse_transfer(name), benchmark, seed)
    if name.partition(":")[0].count("/") != 2:
        raise AnalysisError(f"unknown search algorithm '{name}'; give {_choices()}")
    return surrogate_policy(parse_settings(name, fitting(AQUASURF, benchmark)), benchmark, seed)


def _random(benchmark: Benchmark, seed: int) -> Policy:
    return RandomPolicy(len(benchmark), seed)


def _aquasurf(benchmark: Benchmark, seed: int) -> Policy:
    return surrogate_policy(fitting(AQUASURF, benchmark), benchmark, seed)


def _metric(benchmark: Benchmark, seed: int) -> Policy:
    return surrogate_policy(fitting(METRIC, benchmark), benchmark, seed)


def _evolution(benchmark: Benchmark, seed: int) -> Policy:
    return EvolutionPolicy(spellings_of(benchmark), seed)


def _tpe(benchmark: Benchmark, seed: int) -> Policy:
    return TpePolicy(spellings_of(benchmark), seed)


ALGORITHMS: dict[str, Factory] = {
    "random": _random,
    "aquasurf": _aquasurf,
    "metric": _metric,
    "evolution": _evolution,
    "tpe": _tpe,
}


def _choices() -> str:
    return f"{', '.join(ALGORITHMS)} or REGRESSOR/FEATURES/SPACE, such as knr/both/umap"
