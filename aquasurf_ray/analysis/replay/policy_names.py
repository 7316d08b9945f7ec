"""The names of search algorithms that lists of their parts stand for, checked before anything is started."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import get_args

from aquasurf_ray.analysis.errors import AnalysisError
from aquasurf_ray.analysis.replay.algorithms import ALGORITHMS
from aquasurf_ray.analysis.replay.surrogate_policies import parse_settings
from aquasurf_ray.analysis.replay.transfer import TRANSFER, parse_transfer
from aquasurf_ray.surrogate.embedding import Features
from aquasurf_ray.surrogate.regressors import REGRESSORS

SPACES = ("umap", "metric")
NO_BASELINE = "none"


def surrogate_names(regressors: Sequence[str], features: Sequence[str], spaces: Sequence[str]) -> list[str]:
    """Every combination REGRESSOR/FEATURES/SPACE; regressors or spaces joined by "+" are an ensemble.

    Raises:
        AnalysisError: an unknown part, with the list of those that there are.

    >>> surrogate_names(["knr"], ["both", "outputs"], ["umap"])
    ['knr/both/umap', 'knr/outputs/umap']
    """
    for option, given, known in (
        ("regressor", regressors, tuple(REGRESSORS)),
        ("features", features, get_args(Features)),
        ("space", spaces, SPACES),
    ):
        joined = option != "features"
        _check(option, [part for name in given for part in (name.split("+") if joined else [name])], known)
    return ["/".join(parts) for parts in product(regressors, features, spaces)]


def baseline_names(baselines: Sequence[str]) -> list[str]:
    """The rivals of this name; "none" stands for none.

    Raises:
        AnalysisError: an unknown one, with the list of those that there are.
    """
    _check("baseline", baselines, (*ALGORITHMS, NO_BASELINE))
    return [name for name in baselines if name != NO_BASELINE]


def check_policy(name: str) -> None:
    """Checks the full name of a search algorithm, with settings or without.

    Raises:
        AnalysisError: it cannot be one.
    """
    if name in ALGORITHMS:
        return
    if name.startswith(TRANSFER):
        parse_transfer(name)
        return
    if name.partition(":")[0].count("/") != 2:
        raise AnalysisError(f"policy: there are {', '.join(ALGORITHMS)} or REGRESSOR/FEATURES/SPACE, got '{name}'")
    settings = parse_settings(name)
    surrogate_names([settings.regressor], [settings.features], [settings.space])


def chosen_reference(names: Sequence[str], reference: str | None = None) -> str:
    """What the others are compared with: what is asked for, else "random", else the first.

    Raises:
        AnalysisError: it is none of the names, or there are none.
    """
    if not names:
        raise AnalysisError("no search algorithm is left to simulate")
    if reference is not None:
        _check("reference", [reference], names)
        return reference
    return "random" if "random" in names else names[0]


def _check(option: str, given: Sequence[str], known: Sequence[str]) -> None:
    for name in given:
        if name not in known:
            raise AnalysisError(f"{option}: there are {', '.join(known)}, got '{name}'")
