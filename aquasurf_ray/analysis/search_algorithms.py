"""Search algorithms by name, ready to search a benchmark.

A name is one of `ALGORITHMS`, or says how a surrogate is made: REGRESSOR/FEATURES/SPACE, such as "knr/both/umap", and
any settings that differ from the defaults of `SurrogateSettings`, such as "knr/both/umap:k=5:weighting=uniform".
"aquasurf" is the seed's own configuration, whatever the defaults are. A new algorithm is a factory and one line in
`ALGORITHMS`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, cast

from aquasurf_ray.analysis.benchmark import Benchmark
from aquasurf_ray.analysis.errors import AnalysisError
from aquasurf_ray.analysis.maps import embedding_of
from surrogate.distances import LayerWeighting
from surrogate.embedding import EmbeddingConfig, Features
from surrogate.errors import SurrogateError
from surrogate.layout import Combination
from surrogate.policy import Policy, RandomPolicy, SurrogatePolicy

Factory = Callable[[Benchmark, int], Policy]


@dataclass(frozen=True)
class SurrogateSettings:
    """How a surrogate is made.

    Args:
        regressor: what predicts scores.
        features: "both", "spectrum" or "outputs".
        space: where the regressor works: "umap", on the map in two dimensions.
        weighting: of layers in the spectrum distance: "inverse", "uniform" or "size".
        fisher: which spectra: "sampled" or "empirical".
        n_neighbors_outputs, n_neighbors_spectrum, min_dist, combine, layout_seed: of the map; see `EmbeddingConfig`.
    """

    regressor: str = "knr"
    features: str = "both"
    space: str = "umap"
    weighting: str = "inverse"
    fisher: str = "sampled"
    n_neighbors_outputs: int = 15
    n_neighbors_spectrum: int = 3
    min_dist: float = 0.1
    combine: str = "union"
    layout_seed: int = 42

    @classmethod
    def parse(cls, name: str) -> SurrogateSettings:
        """The settings that a name says.

        Raises:
            AnalysisError: not such a name, or an unknown setting.

        >>> SurrogateSettings.parse("svr/outputs/umap:n_neighbors_outputs=5").n_neighbors_outputs
        5
        """
        parts, *options = name.split(":")
        if parts.count("/") != 2:
            raise AnalysisError(f"unknown search algorithm '{name}'; give {_choices()}")
        regressor, features, space = parts.split("/")
        values: dict[str, Any] = {"regressor": regressor, "features": features, "space": space}
        kinds: dict[str, Any] = {field.name: type(field.default) for field in fields(cls)}
        for option in options:
            key, equals, text = option.partition("=")
            if key not in kinds or not equals or key in values:
                raise AnalysisError(f"'{option}' in '{name}' is no setting; there are: {', '.join(list(kinds)[3:])}")
            try:
                values[key] = kinds[key](text)
            except ValueError:
                raise AnalysisError(f"'{option}' in '{name}' must be {kinds[key].__name__}") from None
        return cls(**values)


SEED = SurrogateSettings()
"""The configuration of the AQuaSurF authors."""


def make_policy(name: str, benchmark: Benchmark, seed: int) -> Policy:
    """A fresh search algorithm, whose candidates are the benchmark's functions.

    Raises:
        AnalysisError: no algorithm has that name.
        SurrogateError: a setting is out of its range.
    """
    if name in ALGORITHMS:
        return ALGORITHMS[name](benchmark, seed)
    return surrogate_policy(SurrogateSettings.parse(name), benchmark, seed)


def surrogate_policy(settings: SurrogateSettings, benchmark: Benchmark, seed: int) -> Policy:
    """The policy of these settings; its own chance comes from `seed`, the map's from `layout_seed`."""
    if settings.space != "umap":
        raise SurrogateError(f"space is {settings.space!r}; choose umap")
    config = EmbeddingConfig(  # which checks what is cast here
        features=cast(Features, settings.features),
        n_neighbors_outputs=settings.n_neighbors_outputs,
        n_neighbors_spectrum=settings.n_neighbors_spectrum,
        min_dist=settings.min_dist,
        combine=cast(Combination, settings.combine),
        seed=settings.layout_seed,
    )
    embedding = embedding_of(benchmark, config, settings.fisher, cast(LayerWeighting, settings.weighting))
    return SurrogatePolicy(embedding, settings.regressor, seed)


def _random(benchmark: Benchmark, seed: int) -> Policy:
    return RandomPolicy(len(benchmark), seed)


def _aquasurf(benchmark: Benchmark, seed: int) -> Policy:
    return surrogate_policy(SEED, benchmark, seed)


ALGORITHMS: dict[str, Factory] = {
    "random": _random,
    "aquasurf": _aquasurf,
}


def _choices() -> str:
    return f"{', '.join(ALGORITHMS)} or REGRESSOR/FEATURES/SPACE, such as knr/both/umap"
