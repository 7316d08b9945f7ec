"""The process that computes embeddings, so that the driver never waits for UMAP.

UMAP's imports take seconds, and its first compilation on a machine takes longer, so one process is started shortly
before the first embedding and stays. If this process dies, a new one computes the embedding again.

Ray is imported when the process is started, because most runs embed nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from aquasurf_ray.driver.errors import RunFailed
from aquasurf_ray.surrogate.embedding import Embedding, EmbeddingConfig, embed

if TYPE_CHECKING:
    from ray.exceptions import RayError

ATTEMPTS = 3


class EmbedderProcess:
    """Runs `surrogate.embedding.embed` for the driver."""

    def warm_up(self) -> None:
        """Load UMAP and let numba compile it, on twenty random points."""
        points = np.random.default_rng(0).normal(size=(20, 3)).astype(np.float32)
        embed(points, points, EmbeddingConfig())

    def embed(self, outputs: np.ndarray, spectra: np.ndarray, config: EmbeddingConfig) -> Embedding:
        """Return the embedding; see `surrogate.embedding.embed`."""
        return embed(outputs, spectra, config)


def start_process() -> Any:
    """Start a process, which begins to load UMAP."""
    import ray

    remote: Any = ray.remote(num_cpus=0)  # its own type hints are for tasks
    started = remote(EmbedderProcess).remote()
    started.warm_up.remote()
    return started


class Embedder:
    """The client of the process: starts one embedding at a time, and is polled for the result.

    Args:
        process: an `EmbedderProcess` to use and leave running; by default a private one is started when needed.
    """

    def __init__(self, process: Any = None) -> None:
        self._owns_process = process is None
        self._process = process
        self._request: tuple[np.ndarray, np.ndarray, EmbeddingConfig] | None = None
        self._future: Any = None
        self._attempts = 0

    def warm_up(self) -> None:
        """Start the process, if there is none, because an embedding will be needed soon."""
        if self._process is None:
            self._process = start_process()

    def start(self, outputs: np.ndarray, spectra: np.ndarray, config: EmbeddingConfig) -> None:
        """Begin an embedding of outputs (n, 1000) and spectra (n, d)."""
        self.warm_up()
        self._request, self._attempts = (outputs, spectra, config), 1
        self._future = self._process.embed.remote(*self._request)

    def poll(self) -> Embedding | None:
        """Return the embedding once it is finished.

        Raises:
            RunFailed: the embedding cannot be computed, or the process died in every attempt.
        """
        if self._future is None:
            return None
        import ray
        from ray.exceptions import RayError

        ready, _ = ray.wait([self._future], timeout=0)
        if not ready:
            return None
        future, self._future = self._future, None
        try:
            embedding: Embedding = ray.get(future)
        except RayError as error:
            self._retry_after(error)
            return None
        return embedding

    def close(self) -> None:
        """End the process, if this object started it."""
        if self._owns_process and self._process is not None:
            import ray

            ray.kill(self._process)

    def _retry_after(self, error: RayError) -> None:
        from ray.exceptions import RayTaskError

        from aquasurf_ray.driver.cluster.ray_errors import cause_of

        # An error that `embed` raised would be raised again; only a lost process is worth a retry.
        if isinstance(error, RayTaskError) or self._attempts >= ATTEMPTS or self._request is None:
            raise RunFailed(f"the candidates' embedding cannot be computed: {cause_of(error)}") from None
        self._attempts += 1
        self._process, self._owns_process = start_process(), True
        self._future = self._process.embed.remote(*self._request)
