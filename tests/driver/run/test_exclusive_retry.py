"""Machines are kept for evaluations that ran out of memory, and for nothing else."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from aquasurf_ray.driver.cluster.slot import Slot
from aquasurf_ray.driver.run.exclusive_retry import ExclusiveRetry
from aquasurf_ray.workers.messages import WorkerInfo


@dataclass
class Pool:
    """Three workers, of which the third is on a machine of its own."""

    slots: list[Slot]

    def busy(self):
        return [slot for slot in self.slots if slot.state == "busy"]


@dataclass
class Claimed:
    evaluation_id: int


@pytest.fixture
def pool():
    return Pool([Slot(i, None, "idle", None, 0.0, info=WorkerInfo(node, 1, "cpu")) for i, node in enumerate("aab", 1)])


def test_an_evaluation_waits_until_its_machine_is_quiet_and_the_machine_is_kept_until_it_ended(pool):
    retry, (first, second, third), claim = ExclusiveRetry(pool), pool.slots, Claimed(7)
    retry.require(7)
    second.state = third.state = "busy"
    assert retry.reserve(first, claim)
    assert [retry.is_reserved(slot) for slot in pool.slots] == [True, True, False]
    assert retry.ready() == []
    second.state = "idle"
    assert retry.ready() == [(first, claim)], "another machine's work does not disturb"
    assert retry.ready() == [], "given back once"
    assert retry.is_reserved(second), "while it trains"
    retry.release(3)
    assert retry.is_reserved(second)
    retry.release(1)
    assert not retry.is_reserved(second)


def test_on_a_quiet_machine_it_begins_at_once_and_the_machine_is_kept(pool):
    retry = ExclusiveRetry(pool)
    retry.require(7)
    assert not retry.reserve(pool.slots[0], Claimed(7))
    assert retry.is_reserved(pool.slots[1])
    retry.release(1)
    assert not retry.is_reserved(pool.slots[1])


def test_nothing_is_kept_for_others(pool):
    retry = ExclusiveRetry(pool)
    pool.slots[1].state = "busy"
    assert not retry.reserve(pool.slots[0], Claimed(8))
    assert not any(map(retry.is_reserved, pool.slots))
