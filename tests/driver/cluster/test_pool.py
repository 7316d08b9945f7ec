"""Workers are given work, watched, and replaced when they die, hang or run out of memory."""

from __future__ import annotations

import time

import pytest
from recorder import Recorder
from scripted_worker import ScriptedWorker

from aquasurf_ray.driver.cluster.pool import Resources, WorkerPool
from aquasurf_ray.driver.cluster.slot import SpectraJob
from aquasurf_ray.driver.errors import WorkersFailed
from aquasurf_ray.driver.events import Events
from aquasurf_ray.workers.messages import TrainingJob, WorkerSettings

pytestmark = pytest.mark.usefixtures("ray_here")


def make_pool(n=1, task="any", storage=None):
    return WorkerPool(WorkerSettings(task=task, storage=storage), n, Resources(cpus=0.5), worker=ScriptedWorker)


@pytest.fixture(scope="module")
def pool():
    made = make_pool()
    yield made
    made.close()


def until(pool, condition, seconds=120.0):
    """Polls until the condition holds of the outcomes so far."""
    outcomes, end = [], time.monotonic() + seconds
    while not condition(outcomes):
        assert time.monotonic() < end, f"nothing happened in {seconds} s; outcomes: {outcomes}"
        outcomes += pool.poll(0.1)
    return outcomes


def give(pool, job, limit=None):
    """Waits for an idle worker, gives it the job and returns its outcome."""
    until(pool, lambda _: pool.idle())
    pool.submit(pool.idle()[0], job, limit)
    return until(pool, lambda outcomes: outcomes)[0]


def training(function):
    return TrainingJob(function=function, fingerprint="f", seed=0)


def test_a_job_is_answered_and_frees_its_worker(pool):
    outcome = give(pool, training("relu(x)"))
    assert outcome.fault is None
    assert outcome.reply.status == "done"
    assert pool.idle()


def test_spectra_come_back_in_the_order_asked(pool):
    outcome = give(pool, SpectraJob(("relu(x)", "elu(x)")))
    assert [reply.function for reply in outcome.reply] == ["relu(x)", "elu(x)"]


@pytest.mark.parametrize(
    ("function", "limit", "cause"),
    [
        ("die(x)", None, "Actor"),
        ("hang(x)", 0.5, "time limit of 0.5 s passed"),
        ("exhaust(x)", None, "MemoryError: no memory left"),
        ("fail(x)", None, "FileNotFoundError: the data are gone"),
    ],
)
@pytest.mark.slow
def test_infrastructure_failures_are_reported_and_the_worker_is_restarted(pool, function, limit, cause):
    outcome = give(pool, training(function), limit)
    assert outcome.reply is None
    assert cause in outcome.fault
    assert "\n" not in outcome.fault
    assert give(pool, training("relu(x)")).reply.status == "done"


@pytest.mark.slow
def test_a_worker_that_fails_on_three_functions_in_a_row_is_given_up_unless_it_is_the_last():
    recorder = Recorder()
    settings = WorkerSettings(task="broken-machine")
    pool = WorkerPool(settings, 2, Resources(cpus=0.3), worker=ScriptedWorker, events=Events([recorder]))
    try:
        for function in ("relu(x)", "relu(x)", "elu(x)", "tanh(x)"):
            assert [slot.number for slot in pool.live()] == [1, 2]
            until(pool, lambda _: pool.slots[0].state == "idle")
            pool.submit(pool.slots[0], training(function), None)
            until(pool, lambda outcomes: outcomes)
        assert [slot.number for slot in pool.live()] == [2]
        assert "worker-1 is retired, 1 of 2 workers are left: it failed on 3 different functions" in recorder.notes[0]
        for function in ("relu(x)", "elu(x)", "tanh(x)", "selu(x)"):
            assert give(pool, training(function)).fault is not None
        assert len(pool.live()) == 1
    finally:
        pool.close()


def test_a_worker_that_cannot_load_its_data_ends_the_run_with_its_error():
    broken = make_pool(task="no-data")
    with pytest.raises(
        WorkersFailed, match="worker-1 cannot start: FileNotFoundError: no data in the folder"
    ) as caught:
        until(broken, lambda outcomes: outcomes)
    assert caught.value.__context__ is None, "a traceback of Ray's would come first"
    broken.close()


@pytest.mark.slow
def test_a_worker_that_dies_in_every_start_ends_the_run():
    broken = make_pool(task="dies-at-start")
    with pytest.raises(WorkersFailed, match="worker-1 cannot start: Actor"):
        until(broken, lambda outcomes: outcomes, seconds=120)
    broken.close()
