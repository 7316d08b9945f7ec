"""The two surrogates that a run can have, by what they stand on: a map of the candidates, or their own metric space.

Either makes a policy for the first n candidates once their spectra are known. The map of so many is looked up in the
store by the digest of its content before it is computed, and is computed in the embedder's process. The metric space
needs no other process: distances are computed to the functions that were trained, when they are first asked for.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol, cast

import numpy as np
from numpy.typing import NDArray

from aquasurf_ray.driver.config import SearchConfig
from aquasurf_ray.driver.state.history import History
from aquasurf_ray.driver.suggestions.embedder import Embedder
from aquasurf_ray.driver.suggestions.features import CandidateFeatures, spectrum_rows
from aquasurf_ray.store import EmbeddingRecord, Lease, Store
from aquasurf_ray.surrogate.distances import LayerWeighting
from aquasurf_ray.surrogate.embedding import Embedding, EmbeddingConfig, embedding_version
from aquasurf_ray.surrogate.metric_space import FeatureDistances
from aquasurf_ray.surrogate.policy import PredictorPolicy
from aquasurf_ray.surrogate.settings import SURROGATES, SurrogateSettings, policy_of


@dataclass(frozen=True, eq=False)
class Makings:
    """Of a policy: data that can be sent to another process; what the settings do not ask for is None.

    Attributes:
        outputs: float32 [n, 1000].
        spectra: of n candidates, as they are stored.
    """

    settings: SurrogateSettings
    seed: int
    embedding: Embedding | None = None
    outputs: NDArray[np.float32] | None = None
    spectra: tuple[bytes | None, ...] | None = None

    def policy(self) -> PredictorPolicy:
        """A policy that has observed nothing."""
        return policy_of(self.settings, self.seed, embedding=self._map, features=self._distances)

    def _map(self) -> Embedding:
        assert self.embedding is not None  # noqa: S101 - the settings ask for a map only where there is one
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
    """What a run's suggestions stand on."""

    def prepare(self, n: int) -> None:
        """Called again and again: does, or has done, what a policy for the first `n` candidates takes."""

    def makings(self, n: int) -> Makings | None:
        """What a policy for the first `n` candidates is made of; None while it cannot be had."""

    def close(self) -> None:
        """Ends what was started."""


def settings_of(config: SearchConfig) -> SurrogateSettings:
    """The settings of the run's surrogate; a regressor that knows no uncertainty goes by what it expects."""
    own = replace(
        SURROGATES[config.surrogate],
        regressor=config.regressor,
        features=config.features,
        weighting=config.layer_weighting,
    )
    return own if config.regressor == "gp" else replace(own, acquisition="mean", pending="liar")


class MapSurrogate:
    """A regressor on a map of the candidates, one map a prefix."""

    def __init__(
        self, config: SearchConfig, task_id: int, store: Store, lease: Lease, history: History, embedder: Embedder
    ) -> None:
        self._config = config
        self._task_id = task_id
        self._store = store
        self._lease = lease
        self._candidates = history.candidates
        self._embedder = embedder
        self._features = CandidateFeatures(config, history)
        self._embedding_config = EmbeddingConfig(features=config.features, seed=config.seed)
        self._embeddings: dict[int, Embedding] = {}
        self._awaited: int | None = None

    def prepare(self, n: int) -> None:
        """Takes up a finished embedding, and begins the one that is needed next, if it can."""
        done = self._embedder.poll()
        if done is not None and self._awaited is not None:
            self._embeddings = {self._awaited: done}
            self._save(self._awaited, done)
            self._awaited = None
        if n in self._embeddings or self._awaited is not None:
            return
        self._features.advance(n)
        n_missing = self._features.n_missing(n)
        if n_missing == 0:
            self._begin(n)
        elif n_missing <= n / 2:
            self._embedder.warm_up()

    def makings(self, n: int) -> Makings | None:
        """See `Surrogate`."""
        embedding = self._embeddings.get(n)
        return None if embedding is None else Makings(settings_of(self._config), self._config.seed, embedding)

    def close(self) -> None:
        """Ends the embedder's process."""
        self._embedder.close()

    def _begin(self, n: int) -> None:
        features = self._features.outputs(n), self._features.spectra(n)
        version = embedding_version(*features, self._embedding_config)
        known = self._store.embedding(version)
        if known is None:
            self._awaited = n
            self._embedder.start(*features, self._embedding_config)
        else:
            coordinates = known.coordinates
            placed = np.asarray(np.isfinite(coordinates).all(axis=1))
            self._embeddings = {n: Embedding(coordinates=coordinates, version=version, placed=placed)}

    def _save(self, n: int, embedding: Embedding) -> None:
        ids = [function.id for function in self._candidates[:n]]
        record = EmbeddingRecord(
            version=embedding.version,
            task_id=self._task_id,
            config={"features": self._config.features, "seed": self._config.seed},
            function_ids=np.array(ids, dtype=np.int64),
            coordinates=embedding.coordinates,
        )
        self._store.save_embedding(self._lease, record)


class MetricSurrogate:
    """A regressor on the distances of the features themselves."""

    def __init__(self, config: SearchConfig, history: History) -> None:
        self._config = config
        self._features = CandidateFeatures(config, history)

    def prepare(self, n: int) -> None:
        """Makes some outputs ready, so that they need not all be made at once when they are asked for."""
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
        """Nothing was started."""
