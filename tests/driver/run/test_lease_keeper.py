"""The heartbeat of a lease: several a period, through failures of the database, until another driver has the run."""

from __future__ import annotations

import logging
import threading
import time
from importlib.metadata import version

import pytest
from run_context import add_functions, open_context

from aquasurf_ray.driver.run.lease_keeper import PACKAGES, LeaseKeeper, installed_versions
from aquasurf_ray.store import LeaseLost, Store, StoreBusy, this_process

SECONDS = 0.3  # of a lease; a beat is a sixth


class ScriptedStore:
    """Answers each renewal as the script says; the last answer is repeated."""

    def __init__(self, *script):
        self.script, self.n, self.enough = list(script), 0, threading.Event()

    def renew_lease(self, lease):
        answer = self.script[min(self.n, len(self.script) - 1)]
        self.n += 1
        if self.n >= 4:
            self.enough.set()
        if answer is not None:
            raise answer


def wait_until(condition):
    end = time.monotonic() + 10
    while not condition() and time.monotonic() < end:
        time.sleep(0.01)
    assert condition()


def test_a_lease_is_renewed_six_times_a_period_and_no_more_after_the_end():
    store = ScriptedStore(None)
    began = time.monotonic()
    with LeaseKeeper(store, None, SECONDS) as keeper:
        assert store.enough.wait(10)
        keeper.check()
    assert time.monotonic() - began >= 4 * SECONDS / 6
    n = store.n
    time.sleep(SECONDS)
    assert store.n == n


def test_a_database_that_does_not_answer_is_asked_again(caplog):
    store = ScriptedStore(StoreBusy("locked"), StoreBusy("locked"), None)
    with caplog.at_level(logging.WARNING), LeaseKeeper(store, None, SECONDS) as keeper:
        assert store.enough.wait(10)
        keeper.check()
    assert caplog.messages == ["lease not renewed, trying again: locked"] * 2


@pytest.mark.parametrize("error", [LeaseLost("driver b has it"), RuntimeError("a defect")])
def test_a_lost_lease_and_a_defect_end_the_beats_and_are_raised_by_check(error):
    store = ScriptedStore(error, None)
    with LeaseKeeper(store, None, SECONDS) as keeper:
        wait_until(lambda: keeper._lost is not None)
        time.sleep(SECONDS)
        with pytest.raises(type(error), match=str(error)):
            keeper.check()
    assert store.n == 1


def test_a_store_counts_the_beats_and_refuses_them_once_another_driver_has_the_run(tmp_path):
    with Store.open(f"sqlite:///{tmp_path}/s.db") as store:
        context = open_context(store, "one", add_functions(store, 1))
        with LeaseKeeper(store, context.lease, 0.6) as keeper:
            wait_until(lambda: (store.activity(context.run.id).heartbeat_age or 1.0) < 0.1)
            store.release_lease(context.lease, "interrupted")
            store.acquire_lease(context.run.id, this_process(), lease_seconds=60)
            wait_until(lambda: keeper._lost is not None)
            with pytest.raises(LeaseLost):
                keeper.check()


def test_versions_are_those_of_the_installed_packages():
    found = installed_versions()
    assert found.keys() == {"python", *PACKAGES}
    assert found["numpy"] == version("numpy")
