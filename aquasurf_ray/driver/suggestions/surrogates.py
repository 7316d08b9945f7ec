"""The two surrogates that a run can have: one on a map of the candidates, one on the distances between features.

Each makes a policy for the first n candidates once their spectra are known. A map is looked up in the store by the
digest of its inputs before the embedder's process computes it. Distances need no other process: only the distances to
trained functions are computed, when they are first needed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Protocol, cast

import numpy as np
from numpy.typing import NDArray

from aquasurf_ray.driver.settings.models import SearchConfig
from aquasurf_ray.driver.state.context import RunContext
from aquasurf_ray.driver.suggestions.embedder import Embedder
from aquasurf_ray.driver.suggestions.features import CandidateFeatures, spectrum_rows
from aquasurf_ray.driver.suggestions.prefixes import prefix_length
from aquasurf_ray.store import EmbeddingRecord
from aquasurf_ray.surrogate.distances import LayerWeighting
from aquasurf_ray.surrogate.embedding import Embedding, EmbeddingConfig, embedding_version
from aquasurf_ray.surrogate.metric_space import FeatureDistances
from aquasurf_ray.surrogate.neighbors import Metric
from aquasurf_ray.surrogate.policy import PredictorPolicy
from aquasurf_ray.surrogate.settings import SURROGATES, SurrogateSettings, policy_of


@dataclass(frozen=True, eq=False)
class PolicyData:
    """The data from which a policy is made, ready to be sent to another process; unused features are None.

    Attributes:
        outputs: float32 [n, 1000]; with r roles, [n, 1000 r].
        spectra: the spectra of the n candidates in their stored form.
        n_for_median: see `FeatureDistances`.
        values: the numbers of the changes of the recipe, if candidates are pairs; see `surrogate.pairs`.
    """

    settings: SurrogateSettings
    seed: int
    embedding: Embedding | None = None
    outputs: NDArray[np.float32] | None = None
    spectra: tuple[bytes | None, ...] | None = None
    n_for_median: int | None = None
    values: tuple[float, ...] = ()

    def policy(self) -> PredictorPolicy:
        """Return a policy that has observed nothing."""
        return policy_of(self.settings, self.seed, embedding=self._map, features=self._distances, values=self.values)

    def _map(self) -> Embedding:
        assert self.embedding is not None  # noqa: S101 - only the settings of `MapSurrogate` need a map
        return self.embedding

    def _distances(self) -> list[FeatureDistances]:
        distances = []
        if self.outputs is not None:
            distances.append(FeatureDistances(self.outputs, "euclidean", self.n_for_median))
        if self.spectra is not None:
            rows = spectrum_rows(self.spectra, cast(LayerWeighting, self.settings.weighting))
            distances.append(FeatureDistances(rows, "manhattan", self.n_for_median))
        return distances


class PolicySource(Protocol):
    """The parts from which this process, or another, makes a policy."""

    def policy(self) -> PredictorPolicy:
        """Return a policy that has observed nothing."""


class Surrogate(Protocol):
    """The provider of the data from which a run's policies are made."""

    def prepare(self, n: int) -> None:
        """Begin or continue the work for a policy for the first `n` candidates; called at each step of the loop."""

    def policy_source(self, n: int) -> PolicySource | None:
        """Return what makes a policy for the first `n` candidates; None while their features are not ready."""

    def close(self) -> None:
        """End the processes that were started."""


def settings_of(config: SearchConfig) -> SurrogateSettings:
    """Return the settings of the run's surrogate; a regressor without uncertainty uses the predicted mean and equal
    shares of outputs and spectra."""
    settings = replace(
        SURROGATES[config.surrogate],
        regressor=config.regressor,
        features=config.features,
        weighting=config.layer_weighting,
    )
    if config.regressor == "gp":
        return settings
    return replace(settings, acquisition="mean", balance="equal", pending="liar")


def surrogate_of(
    context: RunContext, n_start: int | None = None, *, in_process: bool = True, values: tuple[float, ...] = ()
) -> Surrogate:
    """Return the surrogate that the run is configured with.

    Args:
        n_start: the number of candidates with which a run of the open space began.
        in_process: whether policies are made in this process.
        values: the numbers of the changes of the recipe (`recipe_change.input_values`) in a search that tries several;
            the surrogate must be metric.
    """
    if context.config.surrogate != "metric":
        return MapSurrogate(context, Embedder())
    if n_start is None:
        return MetricSurrogate(context, values=values)
    n_for_median = prefix_length(0, n_start, context.config.first_candidates)
    kind = GrowingSurrogate if in_process else MetricSurrogate
    return kind(context, n_for_median, values)


class MapSurrogate:
    """A regressor on a map of the candidates, with one map per prefix."""

    def __init__(self, context: RunContext, embedder: Embedder) -> None:
        config = context.config
        self._context, self._config, self._embedder = context, config, embedder
        self._features = CandidateFeatures(context)
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

    def policy_source(self, n: int) -> PolicyData | None:
        """See `Surrogate`."""
        embedding = self._embeddings.get(n)
        return None if embedding is None else PolicyData(settings_of(self._config), self._config.seed, embedding)

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
    """A regressor on the distances of the features themselves.

    Args:
        n_for_median: the number of first candidates whose median distances are the units; by default all.
        values: see `PolicyData`.
    """

    def __init__(self, context: RunContext, n_for_median: int | None = None, values: tuple[float, ...] = ()) -> None:
        self._config, self._n_for_median, self._values = context.config, n_for_median, values
        self._features = CandidateFeatures(context)

    def prepare(self, n: int) -> None:
        """Compute the outputs of a few candidates, so that the first suggestion need not compute all of them."""
        self._features.advance(n)

    def policy_source(self, n: int) -> PolicySource | None:
        """See `Surrogate`."""
        if self._features.n_missing(n):
            return None
        features = self._config.features
        return PolicyData(
            settings_of(self._config),
            self._config.seed,
            outputs=None if features == "spectrum" else self._features.outputs(n),
            spectra=None if features == "outputs" else self._features.packed_spectra(n),
            n_for_median=self._n_for_median,
            values=self._values,
        )

    def close(self) -> None:
        """Do nothing: no process was started."""


class GrowingSurrogate(MetricSurrogate):
    """A `MetricSurrogate` for an open space: what it knows of its candidates stays when others are added to them.

    The units of distances are those of the first candidates, so that no distance changes either.
    """

    def __init__(self, context: RunContext, n_for_median: int | None, values: tuple[float, ...] = ()) -> None:
        super().__init__(context, n_for_median, values)
        self._distances: list[FeatureDistances] = []
        self._example: bytes | None = None  # a spectrum that has all layers

    def policy_source(self, n: int) -> PolicySource | None:
        """See `Surrogate`."""
        if self._features.n_missing(n):
            return None
        if not self._distances or len(self._distances[0]) < n:
            self._extend(n)
        return _Distances(settings_of(self._config), self._config.seed, self._distances, self._values)

    def _extend(self, n: int) -> None:
        have = len(self._distances[0]) if self._distances else 0
        rows = self._rows(have, n)
        if self._distances and any(new.shape[1] != old.n_columns for (new, _), old in self._pairs(rows)):
            have, self._distances, self._example = 0, [], None  # only now is there a spectrum that has all layers
            rows = self._rows(have, n)
        if not self._distances:
            self._distances = [FeatureDistances(new, metric, self._n_for_median) for new, metric in rows]
            return
        for (new, _), distances in self._pairs(rows):
            distances.extend(new)

    def _pairs(
        self, rows: list[tuple[NDArray[np.float32], Metric]]
    ) -> Iterator[tuple[tuple[NDArray[np.float32], Metric], FeatureDistances]]:
        return zip(rows, self._distances, strict=True)

    def _rows(self, have: int, n: int) -> list[tuple[NDArray[np.float32], Metric]]:
        """Return the rows of the candidates from `have` to `n` by each feature, and its metric."""
        features, rows = self._config.features, list[tuple[NDArray[np.float32], Metric]]()
        if features != "spectrum":
            rows.append((self._features.outputs(n, have), "euclidean"))
        if features != "outputs":
            spectra = self._features.spectra_after(have, n, self._example)
            whole = np.flatnonzero(np.isfinite(spectra).all(axis=1))
            if self._example is None and len(whole):
                self._example = self._features.packed_spectra(n, have)[int(whole[0])]
            rows.append((spectra, "manhattan"))
        return rows


@dataclass(frozen=True, eq=False)
class _Distances:
    """Distances that are ready, for a policy in this process."""

    settings: SurrogateSettings
    seed: int
    distances: list[FeatureDistances]
    values: tuple[float, ...]

    def policy(self) -> PredictorPolicy:
        """Return a policy that has observed nothing."""
        return policy_of(self.settings, self.seed, features=lambda: self.distances, values=self.values)
