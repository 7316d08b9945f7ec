"""One evaluation on two processes, through Ray Train and the pool: the same result, and a lost rank is a fault."""

from __future__ import annotations

import asyncio
import inspect
import os
import signal
import time

import psutil
import pytest
import ray

from aquasurf_ray.activations import fingerprint
from aquasurf_ray.driver.cluster.pool import Resources, WorkerPool
from aquasurf_ray.driver.cluster.slot import CostsJob, SpectraJob
from aquasurf_ray.workers.actor import Worker
from aquasurf_ray.workers.group import NOT_NEEDED, SWITCHES, GroupFailed, GroupSettings, GroupWorker, _why
from aquasurf_ray.workers.messages import TrainingJob, WorkerSettings

TRAINED = "mul(sigmoid(x),elu(x))"


def job(function):
    return TrainingJob(function, fingerprint(function), 0)


def until(pool, condition, seconds=240.0):
    """Polls until the condition holds of the outcomes so far."""
    outcomes, end = [], time.monotonic() + seconds
    while not condition(outcomes):
        assert time.monotonic() < end, f"nothing happened in {seconds} s; outcomes: {outcomes}"
        outcomes += pool.poll(0.1)
    return outcomes


def give(pool, job):
    until(pool, lambda _: pool.idle())
    pool.submit(pool.idle()[0], job, None)
    return until(pool, lambda outcomes: outcomes)[0]


@pytest.fixture(scope="module")
def pool(ray_here, tmp_path_factory):
    storage = tmp_path_factory.mktemp("storage")
    settings = GroupSettings("digits", storage=str(storage), checkpoint_interval=0.0, n_ranks=2, cpus=0.5)
    made = WorkerPool(settings, 1, Resources(0, 0), worker=GroupWorker)
    yield made
    made.close()


@pytest.mark.slow
@pytest.mark.faults
@pytest.mark.timeout(600)
def test_two_processes_train_like_one_and_a_lost_one_is_replaced(pool):
    outcome = give(pool, job(TRAINED))
    assert outcome.fault is None
    together, alone = outcome.reply, Worker(WorkerSettings("digits")).train(job(TRAINED))
    assert (together.status, together.n_devices, alone.n_devices) == ("done", 2, 1)
    assert together.score == pytest.approx(alone.score, abs=0.01)
    assert [e.val_loss for e in together.epochs] == pytest.approx([e.val_loss for e in alone.epochs], rel=1e-2)
    assert [e.train_loss for e in together.epochs] == pytest.approx([e.train_loss for e in alone.epochs], rel=1e-2)
    assert_spectra_and_costs_are_those_of_one_worker(pool)
    assert_nothing_of_ray_train_is_kept(pool)
    assert_a_lost_rank_is_told_and_the_training_goes_on(pool)


def assert_spectra_and_costs_are_those_of_one_worker(pool):
    names = ("tanh(x)", "relu(x)", "exp(exp(exp(exp(x))))")
    replies = give(pool, SpectraJob(names)).reply
    alone = Worker(WorkerSettings("digits")).spectra(list(names))
    assert [(r.function, r.status, r.feature) for r in replies] == [(r.function, r.status, r.feature) for r in alone]
    (reply,) = give(pool, CostsJob(("relu(x)",))).reply
    assert reply.cost.time_ratio == 1


def assert_nothing_of_ray_train_is_kept(pool):
    ray.get(pool.slots[0].actor.forget.remote(job(TRAINED)))
    assert [path for path in os.scandir(pool.settings.storage) if path.name == "ray-train"] == []


def assert_a_lost_rank_is_told_and_the_training_goes_on(pool):
    """The second rank is killed in its third epoch or so; the new group resumes from a checkpoint."""
    slot = pool.slots[0]
    first, held = slot.info, slot.info.placement_group
    slow = job("tanh(x)")
    pool.submit(slot, slow, None)
    while not slot.work.epoch:
        pool.update_epochs(1)
        assert pool.poll(0.02) == []
    (other,) = ranks() - {first.pid}
    os.kill(other, signal.SIGKILL)
    (outcome,) = until(pool, lambda outcomes: outcomes)
    assert "rank 1: " in outcome.fault
    assert ray.util.placement_group_table()[held]["state"] == "REMOVED"
    again = give(pool, slow)
    assert again.fault is None
    assert len(again.reply.epochs) == 16
    assert first.pid not in ranks()


def ranks():
    """Ray Train's workers that live, by process id."""
    ours = psutil.Process().children(recursive=True)
    return {p.pid for p in ours if p.name().startswith("ray::RayTrainW") and p.status() != psutil.STATUS_ZOMBIE}


def test_what_is_asked_of_ray_train_by_private_names_is_still_there():
    from ray.train.v2._internal import constants
    from ray.train.v2.api.data_parallel_trainer import DataParallelTrainer

    made = inspect.getsource(DataParallelTrainer._create_default_callbacks)
    assert all(f"{name}(" in made for name in NOT_NEEDED)
    assert set(SWITCHES) <= {value for value in vars(constants).values() if isinstance(value, str)}


def test_what_a_rank_raised_is_reported_without_its_traceback():
    class Union(Exception):
        worker_failures = {  # noqa: RUF012
            1: Exception('Traceback (most recent call last):\n  File "x.py", line 1\nMemoryError: none left\n'),
            0: ConnectionError("closed by peer\nand more"),
        }

    assert _why(Union()) == "rank 0: ConnectionError: closed by peer; rank 1: MemoryError: none left"
    assert _why(RuntimeError("no room")) == "RuntimeError: no room"


def a_group():
    return GroupWorker(GroupSettings("digits", n_ranks=3))


async def served(group, rank, reply):
    order = await group.next_order(rank)
    await group.answer(rank, order.call, reply(order))


def test_spectra_are_shared_out_and_come_back_in_order():
    class Reply:
        def __init__(self, function):
            self.function = function

    async def talk():
        group = a_group()
        shares = [served(group, rank, lambda o: [Reply(f) for f in o.arguments[0]]) for rank in range(3)]
        replies, *_ = await asyncio.gather(group.spectra(list("abcdefg")), *shares)
        return [reply.function for reply in replies]

    assert asyncio.run(talk()) == list("abcdefg")


def test_a_restarted_rank_ends_the_call_and_all_later_ones():
    async def talk():
        group = a_group()
        for rank in range(3):
            await group.join(rank)
        training = asyncio.ensure_future(group.train(job("relu(x)")))
        await asyncio.sleep(0)
        await group.join(1)
        with pytest.raises(GroupFailed, match="rank 1 was lost with its node and restarted"):
            await training
        with pytest.raises(GroupFailed):
            await group.costs(["relu(x)"])

    asyncio.run(talk())
