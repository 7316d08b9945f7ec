"""What numba compiles for UMAP is compiled once a machine, and the map is the same either way."""

from __future__ import annotations

import logging
import subprocess
import sys

import pytest
from numba.core.registry import CPUDispatcher

from aquasurf_ray.surrogate.compilation import keep_umap_compiled

WITHOUT_CACHE = """
from aquasurf_ray.surrogate import umap_layout
umap_layout.keep_umap_compiled = lambda: 0
"""
PRINT_HITS_AND_MAP = """
import numpy as np
from aquasurf_ray.surrogate.embedding import embed
points = np.random.default_rng(0).normal(size=(20, 3)).astype(np.float32)
coordinates = embed(points, points).coordinates
from umap.umap_ import smooth_knn_dist
print(sum(smooth_knn_dist.stats.cache_hits.values()), coordinates.tobytes().hex())
"""


@pytest.mark.slow  # three processes compile UMAP
def test_a_second_process_compiles_nothing_again_and_gives_the_same_map():
    def run(script: str) -> tuple[int, str]:
        command = [sys.executable, "-c", script]
        hits, coordinates = subprocess.run(command, capture_output=True, check=True).stdout.split()
        return int(hits), coordinates.decode()

    run(PRINT_HITS_AND_MAP)
    kept, compiled = run(PRINT_HITS_AND_MAP), run(WITHOUT_CACHE + PRINT_HITS_AND_MAP)
    assert (kept[0], compiled[0]) == (1, 0)
    assert kept[1] == compiled[1]


@pytest.mark.filterwarnings("ignore:Tensorflow not installed")
def test_where_nothing_can_be_written_umap_is_compiled_as_before(monkeypatch, caplog):
    def refuses(self):
        raise RuntimeError("no locator available")

    keep_umap_compiled()  # umap-learn's import has caches of its own to switch on
    monkeypatch.setattr(CPUDispatcher, "enable_caching", refuses)
    keep_umap_compiled.cache_clear()
    try:
        with caplog.at_level(logging.INFO):
            assert keep_umap_compiled() == 0
    finally:
        keep_umap_compiled.cache_clear()
    assert "no locator available" in caplog.text
