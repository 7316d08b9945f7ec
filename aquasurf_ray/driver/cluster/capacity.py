"""The number of workers of a run: as configured, or as many as the connected cluster has room for.

An autoscaler adds nodes, even to an empty cluster, for requests that wait for resources. So a placement group of all
workers is requested, and removed as soon as the cluster is large enough: from then on the workers occupy the nodes.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import ray
import ray.util

from aquasurf_ray.driver.errors import BadUse
from aquasurf_ray.driver.settings.models import SearchConfig

CAPACITY_POLL_SECONDS = 1.0


@dataclass(frozen=True)
class Workers:
    """The number of workers of a run, and the resources of each: `n_ranks` processes with `cpus` and `gpus` each.

    `shared` is true if the number was not configured, on a cluster that other runs may use too.
    """

    n: int
    cpus: float
    gpus: float
    n_ranks: int = 1
    shared: bool = False

    def most_in(self, resources: dict[str, float]) -> int:
        """Return how many workers of this kind fit into Ray resources."""
        n_cpus, n_gpus = resources.get("CPU", 0.0), resources.get("GPU", 0.0)
        return _most_workers(n_cpus, n_gpus, self.cpus, self.gpus) // self.n_ranks


def fitting_workers(config: SearchConfig) -> Workers:
    """Return the configured workers, or as many as the connected cluster has room for.

    The default is one per GPU or, without GPUs, one per `cpus_per_worker` cores, divided by the processes of an
    evaluation.

    Raises:
        BadUse: the cluster cannot have room for the configured workers.
    """
    if config.gpus_per_evaluation is not None and config.gpus_per_evaluation > 1:
        return _fitting_groups(config, config.gpus_per_evaluation)
    total: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    n_gpus, n_cpus, cpus = total.get("GPU", 0.0), total.get("CPU", 0.0), config.cpus_per_worker
    gpus = config.gpus_per_worker if config.gpus_per_worker is not None else float(n_gpus > 0)
    if gpus > 1 and gpus != int(gpus):  # Ray gives a worker a share of one GPU, or whole GPUs
        raise BadUse(f"gpus-per-worker: {gpus:g} is neither a whole number nor below 1")
    most = _most_workers(n_cpus, n_gpus, cpus, gpus)
    # At least one, so that a cluster without room for any is refused below, with the reason.
    wanted = config.workers if config.workers is not None else max(1, most)
    if wanted > most:
        raise BadUse(
            f"workers: {wanted} with {cpus:g} CPUs and {gpus:g} GPUs each do not fit the cluster's {n_cpus:g} CPUs "
            f"and {n_gpus:g} GPUs; at most {most} do"
        )
    return Workers(wanted, cpus, gpus, shared=_is_shared(config))


def _fitting_groups(config: SearchConfig, n_ranks: int) -> Workers:
    total: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    n_gpus, n_cpus, cpus = total.get("GPU", 0.0), total.get("CPU", 0.0), config.cpus_per_worker
    gpus = 1.0 if config.gpus_per_worker is None else config.gpus_per_worker
    what = "GPUs" if gpus else "CPU processes"
    most = _most_workers(n_cpus, n_gpus, cpus, gpus) // n_ranks
    wanted = config.workers if config.workers is not None else max(1, most)
    if wanted > most:
        hint = "" if n_gpus or not gpus else "; with gpus-per-worker 0 it counts CPU processes"
        raise BadUse(
            f"gpus-per-evaluation: {wanted} times {n_ranks} {what} with {cpus:g} CPUs each do not fit the cluster's "
            f"{n_cpus:g} CPUs and {n_gpus:g} GPUs{hint}"
        )
    return Workers(wanted, cpus, gpus, n_ranks, shared=_is_shared(config))


def _is_shared(config: SearchConfig) -> bool:
    return config.address is not None and config.workers is None


def _most_workers(n_cpus: float, n_gpus: float, cpus: float, gpus: float) -> int:
    by_cpus = math.floor(n_cpus / cpus + 1e-9)  # 1e-9: 0.3 / 0.1 is a little less than 3 in floating point
    if gpus == 0:
        return by_cpus
    a_gpu = math.floor(1 / gpus + 1e-9) if gpus <= 1 else 1 / gpus
    return min(by_cpus, math.floor(n_gpus * a_gpu + 1e-9))


def workers_after_waiting(config: SearchConfig, stopped: Callable[[], object]) -> Workers:
    """Return the workers, after waiting at most `wait_for_nodes` seconds for the nodes that the workers need.

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
                time.sleep(CAPACITY_POLL_SECONDS)
    finally:
        ray.util.remove_placement_group(wanted)
    return fitting_workers(config)


def _bundles(config: SearchConfig, n_workers: int) -> list[dict[str, float]]:
    """Return the resources of each process of each worker, as bundles of a placement group.

    >>> from aquasurf_ray.driver.settings.reading import make_config
    >>> _bundles(make_config({"task": "digits", "gpus_per_worker": 0.5, "cpus_per_worker": 2}), 2)
    [{'CPU': 2.0, 'GPU': 0.5}, {'CPU': 2.0, 'GPU': 0.5}]
    """
    n_processes = config.gpus_per_evaluation or 1
    gpus = config.gpus_per_worker if config.gpus_per_worker is not None else float(n_processes > 1)
    bundle = {"CPU": config.cpus_per_worker} | ({"GPU": gpus} if gpus else {})
    return [bundle] * (n_workers * n_processes)
