"""Joins a run's history with the surrogate: features of a prefix of the candidates, its embedding, the next suggestion.

The embedding of a prefix is looked up in the store by the digest of its content before it is computed, and is computed
in the embedder's process. Suggestions are then a matter of milliseconds in the driver.
"""

from __future__ import annotations

from collections.abc import Set

import numpy as np

from aquasurf_ray.activations import outputs
from aquasurf_ray.driver.config import SearchConfig
from aquasurf_ray.driver.embedder import Embedder
from aquasurf_ray.driver.evaluations import FINAL
from aquasurf_ray.driver.history import History
from aquasurf_ray.driver.plan import prefix_length
from store import EmbeddingRecord, Lease, Store
from surrogate.embedding import Embedding, EmbeddingConfig, embedding_version
from surrogate.policy import Suggestion, SurrogatePolicy
from surrogate.spectra import SpectrumFeature, feature_matrix


class Suggester:
    """The surrogate of one run: asked for a suggestion, it answers or says that it is not ready."""

    def __init__(
        self, config: SearchConfig, task_id: int, store: Store, lease: Lease, history: History, embedder: Embedder
    ) -> None:
        self._config = config
        self._task_id = task_id
        self._store = store
        self._lease = lease
        self._history = history
        self._embedder = embedder
        self._embedding_config = EmbeddingConfig(features=config.features, seed=config.seed)
        self._outputs = np.empty((0, 0), dtype=np.float32)
        self._embeddings: dict[int, Embedding] = {}
        self._awaited: int | None = None
        self._policy: SurrogatePolicy | None = None
        self._policy_n = 0
        self._n_observed = 0

    @property
    def needs_spectra(self) -> bool:
        """Whether spectra are among the features."""
        return self._config.features != "outputs"

    def prefix(self) -> int:
        """How many candidates the next suggestion chooses from: what the plan says, or more where those are used up."""
        candidates, taken = self._history.candidates, self._not_to_be_had()
        n = prefix_length(self._history.evaluations.n_of("suggestion"), len(candidates), self._config.first_candidates)
        while n < len(candidates) and all(function.id in taken for function in candidates[:n]):
            n = min(2 * n, len(candidates))
        return n

    def prepare(self) -> None:
        """Takes up a finished embedding, and begins the one that the next suggestion needs, if it can."""
        done = self._embedder.poll()
        if done is not None and self._awaited is not None:
            self._embeddings = {self._awaited: done}
            self._save(self._awaited, done)
            self._awaited = None
        n = self.prefix()
        if n in self._embeddings or self._awaited is not None:
            return
        n_missing = len(self._history.without_spectrum(n)) if self.needs_spectra else 0
        if n_missing == 0:
            self._begin(n)
        elif n_missing <= n / 2:
            self._embedder.warm_up()

    def suggest(self) -> Suggestion | None:
        """The next suggestion, or None while the embedding is not there or when all candidates are used up.

        In a run that minds the price it waits for the costs of all candidates that it chooses from: none is trained
        unseen, and what is suggested does not depend on which costs happen to be known.
        """
        n = self.prefix()
        embedding = self._embeddings.get(n)
        if embedding is None or (self._config.max_cost is not None and self._history.without_cost(n)):
            return None
        policy = self._up_to_date_policy(n, embedding)
        taken = self._not_to_be_had()
        allowed = np.array([function.id not in taken for function in self._history.candidates[:n]], dtype=bool)
        return policy.suggest(pending=self._pending(n), allowed=allowed)

    def _not_to_be_had(self) -> Set[int]:
        """Functions that were asked for, and those that cost too much."""
        return self._history.evaluations.asked_for | self._history.ruled_out(self._config.max_cost)

    def _up_to_date_policy(self, n: int, embedding: Embedding) -> SurrogatePolicy:
        if self._policy is None or self._policy_n != n:
            self._policy = SurrogatePolicy(embedding, regressor=self._config.regressor, seed=self._config.seed)
            self._policy_n, self._n_observed = n, 0
        new = self._history.evaluations.ended(after=self._n_observed)
        self._n_observed += len(new)
        for evaluation in new:
            position = self._history.position.get(evaluation.function_id)
            if position is not None and position < n and evaluation.status in FINAL:  # not what is trained anew
                self._policy.observe(position, evaluation.score)
        return self._policy

    def _pending(self, n: int) -> frozenset[int]:
        positions = (self._history.position.get(e.function_id) for e in self._history.evaluations.open)
        return frozenset(p for p in positions if p is not None and p < n)

    def _begin(self, n: int) -> None:
        features = self._output_features(n), self._spectrum_features(n)
        version = embedding_version(*features, self._embedding_config)
        known = self._store.embedding(version)
        if known is None:
            self._awaited = n
            self._embedder.start(*features, self._embedding_config)
        else:
            coordinates = known.coordinates
            placed = np.asarray(np.isfinite(coordinates).all(axis=1))
            self._embeddings = {n: Embedding(coordinates=coordinates, version=version, placed=placed)}

    def _output_features(self, n: int) -> np.ndarray:
        have = len(self._outputs)
        if have < n:
            new = [outputs(function.name) for function in self._history.candidates[have:n]]
            self._outputs = np.concatenate([self._outputs.reshape(have, -1), new]) if have else np.stack(new)
        return self._outputs[:n]

    def _spectrum_features(self, n: int) -> np.ndarray:
        if not self.needs_spectra:
            return np.full((n, 1), np.nan, dtype=np.float32)
        records = (self._history.spectra.get(function.id) for function in self._history.candidates[:n])
        features = [SpectrumFeature.from_bytes(r.feature) if r is not None and r.feature else None for r in records]
        if not any(features):
            return np.full((n, 1), np.nan, dtype=np.float32)
        return feature_matrix(features, self._config.layer_weighting)

    def _save(self, n: int, embedding: Embedding) -> None:
        ids = [function.id for function in self._history.candidates[:n]]
        record = EmbeddingRecord(
            version=embedding.version,
            task_id=self._task_id,
            config={"features": self._config.features, "seed": self._config.seed},
            function_ids=np.array(ids, dtype=np.int64),
            coordinates=embedding.coordinates,
        )
        self._store.save_embedding(self._lease, record)
