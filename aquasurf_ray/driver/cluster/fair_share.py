"""Sharing of a cluster between runs: each run has at most its share of the workers that fit.

The share of a run is the number of workers of its kind that the whole cluster has room for, divided by the number of
runs on the cluster, rounded up. A run without a fixed number of workers begins with as many as fit now, at least one.
A few times a minute it counts the runs: above its share it gives workers back, each after its current job, and below
its share it starts workers as long as there is room. So a new run gets its share when the current trainings are done,
and the other runs use the room that a finished run leaves. A run with a fixed number of workers keeps that number, and
counts as one run.

Runs recognise each other by the names of their workers, which Ray lists while the driver lives, including workers that
still wait for room.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable

import ray
from ray.exceptions import GetTimeoutError
from ray.util import list_named_actors

from aquasurf_ray.driver.cluster.capacity import Workers
from aquasurf_ray.driver.cluster.pool import ACTOR_PREFIX, WorkerPool
from aquasurf_ray.driver.cluster.ray_errors import cause_of
from aquasurf_ray.driver.events import Events

UPDATE_SECONDS = 5.0

logger = logging.getLogger(__name__)


class FairShare:
    """The control of one run's number of workers on the connected cluster.

    Args:
        workers: the resources of a worker of the run.
        events: receives a note when the number of workers changes.
    """

    def __init__(
        self,
        pool: WorkerPool,
        workers: Workers,
        events: Events,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._pool, self._workers, self._events, self._clock = pool, workers, events, clock
        self._updated_at = clock()

    def update(self) -> None:
        """Give workers back or start some, every few seconds."""
        if self._clock() - self._updated_at < UPDATE_SECONDS:
            return
        self._updated_at = self._clock()
        try:
            others = n_other_runs(self._pool.name)
        except GetTimeoutError as error:  # the head of the cluster is overloaded: the number of workers can wait
            logger.warning("the runs on the cluster cannot be counted now: %s", cause_of(error))
            return
        share = fair_share(self._workers.most_in(cluster_resources()), others + 1)
        live = len(self._pool.live())
        if self._pool.release_workers(max(0, live - share)):
            self._events.note(f"{others + 1} runs share the cluster: this one goes down to {share} workers")
        # While a worker waits for room, more of them would only wait as well.
        if live < share and not self._pool.waits_for_room():
            room = self._workers.most_in(available_resources())
            more = min(share - live - self._pool.n_retired(), room)
            for _ in range(more):
                self._pool.grow()
            if more > 0:
                self._events.note(f"there is room for more: this run goes up to {len(self._pool.live())} workers")


def fair_share(most: int, n_runs: int) -> int:
    """Return the share of one run among `n_runs` in `most` workers; at least one.

    >>> fair_share(8, 3), fair_share(8, 1), fair_share(2, 5)
    (3, 8, 1)
    """
    return max(1, math.ceil(most / n_runs))


def first_workers(workers: Workers) -> int:
    """Return how many workers a run begins with: as many of its share as fit now, at least one."""
    share = fair_share(workers.most_in(cluster_resources()), n_other_runs(None) + 1)
    return max(1, min(share, workers.most_in(available_resources())))


def n_other_runs(name: str | None) -> int:
    """Return the number of runs on the cluster other than the one whose workers have this name.

    Raises:
        ray.exceptions.GetTimeoutError: the head of the cluster has not answered for a minute.
    """
    names = [actor["name"] for actor in list_named_actors(all_namespaces=True)]
    runs = {name.rpartition("/")[0] for name in names if name.startswith(ACTOR_PREFIX)}
    return len(runs - {name})


def cluster_resources() -> dict[str, float]:
    """Return all resources of the connected cluster."""
    found: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    return found


def available_resources() -> dict[str, float]:
    """Return the resources that are free now."""
    found: dict[str, float] = ray.available_resources()  # type: ignore[no-untyped-call]
    return found
