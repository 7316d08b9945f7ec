"""Waiting for a cluster to grow: an autoscaler starts nodes, also from none, for what somebody waits for.

A placement group of all workers says what is wanted, as long as it waits, and is given up as soon as the cluster is
large enough: the workers themselves keep the nodes from then on.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import ray.util

from aquasurf_ray.driver.cluster.connection import Workers, fitting_workers
from aquasurf_ray.driver.config import SearchConfig
from aquasurf_ray.driver.errors import BadUse

POLL_SECONDS = 1.0


def workers_after_waiting(config: SearchConfig, stopped: Callable[[], object]) -> Workers:
    """The configured workers, after a wait of at most `wait_for_nodes` seconds for the nodes that they need.

    Raises:
        BadUse: the cluster did not become large enough, or `workers` is not given.
    """
    if not config.wait_for_nodes:
        return fitting_workers(config)
    if config.workers is None:
        raise BadUse("wait-for-nodes: for how many workers? give --workers too, and --gpus-per-worker for GPUs")
    end = time.monotonic() + config.wait_for_nodes
    wanted: Any = ray.util.placement_group(_bundles(config, config.workers))
    try:
        while time.monotonic() < end and not stopped():
            try:
                return fitting_workers(config)
            except BadUse:
                time.sleep(POLL_SECONDS)
    finally:
        ray.util.remove_placement_group(wanted)
    return fitting_workers(config)


def _bundles(config: SearchConfig, n_workers: int) -> list[dict[str, float]]:
    """What each process of each worker asks for.

    >>> from aquasurf_ray.driver.config import make_config
    >>> _bundles(make_config({"task": "digits", "gpus_per_worker": 0.5, "cpus_per_worker": 2}), 2)
    [{'CPU': 2.0, 'GPU': 0.5}, {'CPU': 2.0, 'GPU': 0.5}]
    """
    n_processes = config.gpus_per_evaluation or 1
    gpus = config.gpus_per_worker if config.gpus_per_worker is not None else float(n_processes > 1)
    bundle = {"CPU": config.cpus_per_worker} | ({"GPU": gpus} if gpus else {})
    return [bundle] * (n_workers * n_processes)
