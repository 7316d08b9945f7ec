"""A cluster for drivers in processes of their own: starting one takes seconds."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from ray.cluster_utils import Cluster

from aquasurf_ray.driver.cluster import CLUSTER_SWITCH, LOOPBACK

HERE = str(Path(__file__).parent)
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
        patch.setenv("PYTHONPATH", HERE, prepend=os.pathsep)  # for scripted workers
        head = {"num_cpus": 2, "include_dashboard": False, "node_ip_address": LOOPBACK}
        cluster = Cluster(initialize_head=True, head_node_args=head)
        yield cluster.address
        cluster.shutdown()
