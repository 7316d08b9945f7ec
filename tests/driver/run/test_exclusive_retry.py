"""Machines are kept for evaluations that ran out of memory, and for nothing else."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from aquasurf_ray.driver.cluster.pool import Slot
from aquasurf_ray.driver.run.exclusive_retry import Quiet
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
    quiet, (first, second, third), claim = Quiet(pool), pool.slots, Claimed(7)
    quiet.want(7)
    second.state = third.state = "busy"
    assert quiet.keep(first, claim)
    assert [quiet.keeps_back(slot) for slot in pool.slots] == [True, True, False]
    assert quiet.ready() == []
    second.state = "idle"
    assert quiet.ready() == [(first, claim)], "another machine's work does not disturb"
    assert quiet.ready() == [], "given back once"
    assert quiet.keeps_back(second), "while it trains"
    quiet.ended(3)
    assert quiet.keeps_back(second)
    quiet.ended(1)
    assert not quiet.keeps_back(second)


def test_on_a_quiet_machine_it_begins_at_once_and_the_machine_is_kept(pool):
    quiet = Quiet(pool)
    quiet.want(7)
    assert not quiet.keep(pool.slots[0], Claimed(7))
    assert quiet.keeps_back(pool.slots[1])
    quiet.ended(1)
    assert not quiet.keeps_back(pool.slots[1])


def test_nothing_is_kept_for_others(pool):
    quiet = Quiet(pool)
    pool.slots[1].state = "busy"
    assert not quiet.keep(pool.slots[0], Claimed(8))
    assert not any(map(quiet.keeps_back, pool.slots))
