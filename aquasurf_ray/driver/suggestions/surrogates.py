"""The two surrogates that a run can have: one on a map of the candidates, one on the distances between features.

Each makes a policy for the first n candidates once their spectra are known. A map is looked up in the store by the
digest of its inputs before the embedder's process computes it. Distances need no other process: only the distances to
trained functions are computed, when they are first needed.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol, cast

import numpy as np
from numpy.typing import NDArray

from aquasurf_ray.driver.config import SearchConfig
from aquasurf_ray.driver.state.context import RunContext
from aquasurf_ray.driver.suggestions.embedder import Embedder
from aquasurf_ray.driver.suggestions.features import CandidateFeatures, spectrum_rows
from aquasurf_ray.store import EmbeddingRecord
from aquasurf_ray.surrogate.distances import LayerWeighting
from aquasurf_ray.surrogate.embedding import Embedding, EmbeddingConfig, embedding_version
from aquasurf_ray.surrogate.metric_space import FeatureDistances
from aquasurf_ray.surrogate.policy import PredictorPolicy
from aquasurf_ray.surrogate.settings import SURROGATES, SurrogateSettings, policy_of


@dataclass(frozen=True, eq=False)
class Makings:
    """The data from which a policy is made, ready to be sent to another process; unused features are None.

    Attributes:
        outputs: float32 [n, 1000].
        spectra: the spectra of the n candidates in their stored form.
    """

    settings: SurrogateSettings
    seed: int
    embedding: Embedding | None = None
    outputs: NDArray[np.float32] | None = None
    spectra: tuple[bytes | None, ...] | None = None

    def policy(self) -> PredictorPolicy:
        """Return a policy that has observed nothing."""
        return policy_of(self.settings, self.seed, embedding=self._map, features=self._distances)

    def _map(self) -> Embedding:
        assert self.embedding is not None  # noqa: S101 - only the settings of `MapSurrogate` need a map
        return self.embedding

    def _distances(self) -> list[FeatureDistances]:
        distances = []
        if self.outputs is not None:
            distances.append(FeatureDistances(self.outputs, "euclidean"))
        if self.spectra is not None:
            weighting = cast(LayerWeighting, self.settings.weighting)
            distances.append(FeatureDistances(spectrum_rows(self.spectra, weighting), "manhattan"))
        return distances


class Surrogate(Protocol):
    """The provider of the data from which a run's policies are made."""

    def prepare(self, n: int) -> None:
        """Begin or continue the work for a policy for the first `n` candidates; called at each step of the loop."""

    def makings(self, n: int) -> Makings | None:
        """Return the data of a policy for the first `n` candidates; None while they are not ready."""

    def close(self) -> None:
        """End the processes that were started."""


def settings_of(config: SearchConfig) -> SurrogateSettings:
    """Return the settings of the run's surrogate; a regressor without uncertainty uses the predicted mean."""
    settings = replace(
        SURROGATES[config.surrogate],
        regressor=config.regressor,
        features=config.features,
        weighting=config.layer_weighting,
    )
    return settings if config.regressor == "gp" else replace(settings, acquisition="mean", pending="liar")


def surrogate_of(context: RunContext) -> Surrogate:
    """Return the surrogate that the run is configured with."""
    return MetricSurrogate(context) if context.config.surrogate == "metric" else MapSurrogate(context, Embedder())


class MapSurrogate:
    """A regressor on a map of the candidates, with one map per prefix."""

    def __init__(self, context: RunContext, embedder: Embedder) -> None:
        config = context.config
        self._context, self._config, self._embedder = context, config, embedder
        self._features = CandidateFeatures(config, context.history)
        self._embedding_config = EmbeddingConfig(features=config.features, seed=config.seed)
        self._embeddings: dict[int, Embedding] = {}
        self._awaited: int | None = None

    def prepare(self, n: int) -> None:
        """Store a finished embedding, and begin the next one if its spectra are known."""
        done = self._embedder.poll()
        if done is not None and self._awaited is not None:
            self._embeddings = {self._awaited: done}  # the maps of smaller prefixes are never used again
            self._save(self._awaited, done)
            self._awaited = None
        if n in self._embeddings or self._awaited is not None:
            return
        self._features.advance(n)
        n_missing = self._features.n_missing(n)
        if n_missing == 0:
            self._begin(n)
        elif n_missing <= n / 2:  # UMAP takes seconds to load, which the other half of the spectra hides
            self._embedder.warm_up()

    def makings(self, n: int) -> Makings | None:
        """See `Surrogate`."""
        embedding = self._embeddings.get(n)
        return None if embedding is None else Makings(settings_of(self._config), self._config.seed, embedding)

    def close(self) -> None:
        """End the embedder's process."""
        self._embedder.close()

    def _begin(self, n: int) -> None:
        features = self._features.outputs(n), self._features.spectra(n)
        version = embedding_version(*features, self._embedding_config)
        known = self._context.store.embedding(version)
        if known is None:
            self._awaited = n
            self._embedder.start(*features, self._embedding_config)
        else:
            coordinates = known.coordinates
            placed = np.asarray(np.isfinite(coordinates).all(axis=1))
            self._embeddings = {n: Embedding(coordinates=coordinates, version=version, placed=placed)}

    def _save(self, n: int, embedding: Embedding) -> None:
        ids = [function.id for function in self._context.history.candidates[:n]]
        record = EmbeddingRecord(
            version=embedding.version,
            task_id=self._context.run.task_id,
            config={"features": self._config.features, "seed": self._config.seed},
            function_ids=np.array(ids, dtype=np.int64),
            coordinates=embedding.coordinates,
        )
        self._context.store.save_embedding(self._context.lease, record)


class MetricSurrogate:
    """A regressor on the distances of the features themselves."""

    def __init__(self, context: RunContext) -> None:
        self._config = context.config
        self._features = CandidateFeatures(context.config, context.history)

    def prepare(self, n: int) -> None:
        """Compute the outputs of a few candidates, so that the first suggestion need not compute all of them."""
        self._features.advance(n)

    def makings(self, n: int) -> Makings | None:
        """See `Surrogate`."""
        if self._features.n_missing(n):
            return None
        features = self._config.features
        return Makings(
            settings_of(self._config),
            self._config.seed,
            outputs=None if features == "spectrum" else self._features.outputs(n),
            spectra=None if features == "outputs" else self._features.packed_spectra(n),
        )

    def close(self) -> None:
        """Do nothing: no process was started."""
