"""One Ray for all driver tests: starting it takes seconds."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import ray

from aquasurf_ray.driver import embedder, execution
from aquasurf_ray.driver.cluster import connected


@pytest.fixture(scope="session")
def ray_here():
    """Ray with workers that can import this folder's modules."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(Path(__file__).parent), prepend=os.pathsep)
        with connected(None):
            process = embedder.start_process()  # loading UMAP takes seconds; one serves all tests
            patch.setattr(execution, "Embedder", lambda: embedder.Embedder(process))
            yield
    assert not ray.is_initialized()
