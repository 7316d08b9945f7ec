"""Search algorithms by name, ready to search a benchmark.

A name takes one of three forms, and a new algorithm is a factory and one line in `ALGORITHMS`:

    random, aquasurf, metric, ...                one of `ALGORITHMS`; a run can use aquasurf and metric itself
    knr/both/umap:k=5:weighting=uniform          REGRESSOR/FEATURES/SPACE and settings other than the defaults
                                                 (`ReplaySettings`)
    transfer:act-bench-digits                    metric with the results of another benchmark (`replay.transfer`)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import product
from typing import get_args

from aquasurf_ray.analysis.benchmarks.benchmark import Benchmark
from aquasurf_ray.analysis.errors import AnalysisError
from aquasurf_ray.analysis.replay.evolution import EvolutionPolicy
from aquasurf_ray.analysis.replay.spellings import spellings_of
from aquasurf_ray.analysis.replay.surrogate_policies import fitting, parse_settings, surrogate_policy
from aquasurf_ray.analysis.replay.tpe import TpePolicy
from aquasurf_ray.analysis.replay.transfer import TRANSFER, parse_transfer, transfer_policy
from aquasurf_ray.surrogate.embedding import Features
from aquasurf_ray.surrogate.policy import Policy, RandomPolicy
from aquasurf_ray.surrogate.regressors import REGRESSORS
from aquasurf_ray.surrogate.settings import AQUASURF, METRIC

Factory = Callable[[Benchmark, int], Policy]

SPACES = ("umap", "metric")
NO_BASELINE = "none"


def make_policy(name: str, benchmark: Benchmark, seed: int) -> Policy:
    """Return a fresh search algorithm, whose candidates are the benchmark's functions.

    Raises:
        AnalysisError: no algorithm has that name.
        SurrogateError: a setting is out of its range.
    """
    if name in ALGORITHMS:
        return ALGORITHMS[name](benchmark, seed)
    if name.startswith(TRANSFER):
        return transfer_policy(parse_transfer(name), benchmark, seed)
    _check_form(name)
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


# --- names, checked before anything is started ----------------------------------------------------------------------


def surrogate_names(regressors: Sequence[str], features: Sequence[str], spaces: Sequence[str]) -> list[str]:
    """Return every combination REGRESSOR/FEATURES/SPACE; regressors or spaces joined by "+" are an ensemble.

    Raises:
        AnalysisError: a part is unknown; the text lists the known ones.

    >>> surrogate_names(["knr"], ["both", "outputs"], ["umap"])
    ['knr/both/umap', 'knr/outputs/umap']
    """
    for option, given, known in (
        ("regressor", regressors, tuple(REGRESSORS)),
        ("features", features, get_args(Features)),
        ("space", spaces, SPACES),
    ):
        # Features have a word for their combination (both); regressors and spaces form ensembles.
        joined = option != "features"
        _check(option, [part for name in given for part in (name.split("+") if joined else [name])], known)
    return ["/".join(parts) for parts in product(regressors, features, spaces)]


def baseline_names(baselines: Sequence[str]) -> list[str]:
    """Return the names of the baseline algorithms; "none" stands for no baseline.

    Raises:
        AnalysisError: a name is unknown; the text lists the known ones.
    """
    _check("baseline", baselines, (*ALGORITHMS, NO_BASELINE))
    return [name for name in baselines if name != NO_BASELINE]


def check_policy(name: str) -> None:
    """Check the full name of a search algorithm, with or without settings.

    Raises:
        AnalysisError: no algorithm can have this name.
    """
    if name in ALGORITHMS:
        return
    if name.startswith(TRANSFER):
        parse_transfer(name)
        return
    _check_form(name)
    settings = parse_settings(name)
    surrogate_names([settings.regressor], [settings.features], [settings.space])


def chosen_reference(names: Sequence[str], reference: str | None = None) -> str:
    """Return the algorithm that the others are compared with: `reference`, else "random", else the first.

    Raises:
        AnalysisError: the reference is none of the names, or there are no names.
    """
    if not names:
        raise AnalysisError("no search algorithm is left to simulate; name one with --baseline or --policy")
    if reference is not None:
        _check("reference", [reference], names)
        return reference
    return "random" if "random" in names else names[0]


def _check_form(name: str) -> None:
    if name.partition(":")[0].count("/") != 2:
        known = ", ".join(ALGORITHMS)
        raise AnalysisError(
            f"policy must be {known}, {TRANSFER}BENCHMARK or REGRESSOR/FEATURES/SPACE (such as knr/both/umap), "
            f"got '{name}'"
        )


def _check(option: str, given: Sequence[str], known: Sequence[str]) -> None:
    for name in given:
        if name not in known:
            raise AnalysisError(f"{option} must be one of {', '.join(known)}, got '{name}'")
