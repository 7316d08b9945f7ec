"""One Ray for all tests of this process, one cluster for drivers in others: starting either takes seconds."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import ray
from ray.cluster_utils import Cluster

from aquasurf_ray.driver import embedder, execution
from aquasurf_ray.driver.cluster import CLUSTER_SWITCH, LOOPBACK, connected


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


ON_LOOPBACK = {"RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0", CLUSTER_SWITCH: "0"}


@pytest.fixture
def ray_cluster(monkeypatch, _cluster):
    """The address of a cluster that drivers in other processes may join and be killed in."""
    for name, value in ON_LOOPBACK.items():
        monkeypatch.setenv(name, value)
    return _cluster


@pytest.fixture(scope="session")
def _cluster():
    with pytest.MonkeyPatch.context() as patch:
        for name, value in ON_LOOPBACK.items():
            patch.setenv(name, value)
        head = {"num_cpus": 2, "include_dashboard": False, "node_ip_address": LOOPBACK}
        cluster = Cluster(initialize_head=True, head_node_args=head)
        yield cluster.address
        cluster.shutdown()
