"""Runs on one cluster: what each takes, gives back and takes again."""

from __future__ import annotations

import pytest
from recorder import Recorder
from scripted_worker import WaitingWorker

from aquasurf_ray.driver.cluster import fair_share
from aquasurf_ray.driver.cluster.capacity import Workers
from aquasurf_ray.driver.cluster.fair_share import FairShare, first_workers, n_other_runs
from aquasurf_ray.driver.cluster.pool import Resources, WorkerPool
from aquasurf_ray.driver.events import Events
from aquasurf_ray.workers.messages import TrainingJob, WorkerSettings


@pytest.fixture
def cluster(monkeypatch):
    """Says what a cluster of 8 GPUs has: how many other runs, and how many GPUs that nobody holds."""

    def has(others, free):
        monkeypatch.setattr(fair_share, "cluster_resources", lambda: {"CPU": 32.0, "GPU": 8.0})
        monkeypatch.setattr(fair_share, "available_resources", lambda: {"CPU": 32.0, "GPU": float(free)})
        monkeypatch.setattr(fair_share, "n_other_runs", lambda name: others)

    return has


GPU_WORKERS = Workers(8, 1.0, 1.0, shared=True)


@pytest.mark.parametrize(
    ("others", "free", "begins_with"), [(0, 8, 8), (0, 3, 3), (1, 8, 4), (1, 0, 1), (2, 8, 3), (20, 8, 1)]
)
def test_a_run_begins_with_what_is_free_of_its_share(cluster, others, free, begins_with):
    cluster(others, free)
    assert first_workers(GPU_WORKERS) == begins_with


class Counted:
    """A pool of which only the number of workers is known."""

    def __init__(self, n, retired=0, starting=False):
        self.n, self.retired, self.starting, self.name = n, retired, starting, "aquasurf/one"

    def live(self):
        return range(self.n)

    def n_retired(self):
        return self.retired

    def waits_for_room(self):
        return self.starting

    def grow(self):
        self.n += 1

    def release_workers(self, n):
        self.n -= n
        return n


@pytest.mark.parametrize(
    ("pool", "others", "free", "then"),
    [
        (Counted(8), 1, 0, 4),
        (Counted(8), 0, 0, 8),
        (Counted(4), 0, 4, 8),
        (Counted(4), 0, 2, 6),
        (Counted(1), 1, 8, 4),
        (Counted(4, starting=True), 0, 4, 4),
        (Counted(6, retired=2), 0, 2, 6),
    ],
)
def test_a_run_keeps_to_its_share(cluster, pool, others, free, then):
    cluster(others, free)
    now, recorder = 0.0, Recorder()
    share = FairShare(pool, GPU_WORKERS, Events([recorder]), lambda: now)
    before = pool.n
    share.update()
    assert pool.n == before, "it does not look all the time"
    now = 60.0
    share.update()
    assert pool.n == then
    assert len(recorder.notes) == (then != before)


def ready(pool, n):
    while len(pool.idle()) < n:
        assert pool.poll(0.1) == []


@pytest.mark.usefixtures("ray_here")
@pytest.mark.slow
def test_workers_are_given_back_after_their_work_and_taken_again():
    pool, other = (WorkerPool(WorkerSettings("any"), n, Resources(cpus=0.1), worker=WaitingWorker) for n in (2, 1))
    try:
        ready(pool, 2)
        assert (n_other_runs(pool.name), n_other_runs(None)) == (1, 2)
        busy, idle = pool.slots
        pool.submit(busy, TrainingJob("tanh(x)", "f", 0), None)
        assert pool.release_workers(1) == 1
        assert (idle.state, busy.state, busy.leaving) == ("left", "busy", False)
        assert pool.release_workers(1) == 0, "the last one stays"
        pool.grow()
        ready(pool, 1)
        assert [slot.number for slot in pool.live()] == [1, 2], "in the place that was left"
        pool.submit(pool.slots[1], TrainingJob("selu(x)", "g", 0), None)
        assert pool.release_workers(1) == 1
        assert (len(pool.live()), busy.leaving) == (2, True), "it has work"
        busy.actor.drain.remote()
        while not (outcomes := pool.poll(0.1)):
            pass
        assert outcomes[0].fault is None
        assert pool.idle() == [], "it gets no more"
        pool.release_workers(1)
        assert [slot.number for slot in pool.live()] == [2]
    finally:
        pool.close()
        other.close()
    while n_other_runs(None):
        pass
