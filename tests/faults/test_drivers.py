"""Drivers that are killed, suspended or started twice, on both databases: one writes, and nothing is lost or done
twice."""

from __future__ import annotations

import random
import signal
import time

import pytest
from light_search import SEARCH, assert_whole, n_results, results
from live_search import wait_for

from aquasurf_ray.store import Store
from aquasurf_ray.store.database.schema import Run

pytestmark = [pytest.mark.faults, pytest.mark.slow, pytest.mark.timeout(300)]


def running_and_last_lease(url):
    """How many evaluations are `running`, and what is logged of the last lease that was taken."""
    with Store.open(url, create=False) as store:
        run = store.run("one")
        taken = [event.data for event in store.events(run.id) if event.kind == "lease_taken"]
        return store.status(run.id).by_status.get("running", 0), taken[-1]


def killed_at_dispatch(light, url):
    driver = light(*SEARCH, "--store", url, "--lease-seconds", "2", LIGHT_KILL="13")
    driver.communicate(timeout=100)
    assert driver.returncode == -signal.SIGKILL
    assert running_and_last_lease(url)[0] >= 1, "it was claimed and is in nobody's hands"
    return results(url)


def assert_goes_on(light, url, kept):
    resumed = light("resume", "one", "--store", url)
    _, err = resumed.communicate(timeout=200)
    assert resumed.returncode == 0, err
    assert_whole(url, kept=kept)


@pytest.mark.reliability("killed-between-claim-and-dispatch")
def test_a_claim_that_was_never_given_out_is_released_at_once_on_the_same_host(light, store_url):
    kept = killed_at_dispatch(light, store_url)
    assert_goes_on(light, store_url, kept)
    assert running_and_last_lease(store_url)[1]["holder_was"] == "dead"


@pytest.mark.reliability("killed-between-claim-and-dispatch")
def test_a_claim_that_was_never_given_out_is_released_after_the_lease_on_another_host(light, store_url):
    kept = killed_at_dispatch(light, store_url)
    with Store.open(store_url) as store:
        owner = store.run("one").lease_owner
        moved = {**vars(owner), "host": "far-away", "nonce": "n"}
        store._write(lambda connection: connection.execute(Run.__table__.update().values(lease_owner=moved)))
    assert_goes_on(light, store_url, kept)
    assert running_and_last_lease(store_url)[1]["holder_was"] == "silent"


@pytest.mark.reliability("two-drivers")
def test_of_two_drivers_started_together_one_runs_and_the_other_says_who(light, store_url):
    command = (*SEARCH, "--store", store_url, "--lease-seconds", "3")
    both = [light(*command, LIGHT_SECONDS="1.0") for _ in range(2)]
    said = {driver: driver.communicate(timeout=200)[1] for driver in both}
    assert sorted(driver.returncode for driver in both) == [0, 2], said
    (refusal,) = [said[driver] for driver in both if driver.returncode == 2]
    assert "run 'one' is held by" in refusal.splitlines()[-1]
    assert "Traceback" not in refusal
    assert_whole(store_url)


@pytest.mark.reliability("driver-suspended")
def test_a_driver_suspended_at_any_moment_is_succeeded_and_writes_nothing_more(light, postgres_url):
    """On PostgreSQL it may sleep inside a transaction; the server ends that after thirty seconds."""
    chance = random.Random(1)
    first = light(*SEARCH, "--store", postgres_url, "--lease-seconds", "2", LIGHT_SECONDS="0.5")
    wait_for(lambda: n_results(postgres_url) >= 4)
    time.sleep(chance.uniform(0, 0.5))
    first.send_signal(signal.SIGSTOP)
    kept = results(postgres_url)
    with Store.open(postgres_url, is_dead=lambda owner: False) as store:
        before = store.events(store.run("one").id)[-1].seq
    assert_goes_on(light, postgres_url, kept)
    with Store.open(postgres_url) as store:
        last = store.events(store.run("one").id)[-1].seq
        first.send_signal(signal.SIGCONT)
        out, err = first.communicate(timeout=100)
        assert (first.returncode, out) == (1, "")
        assert store.events(store.run("one").id)[-1].seq == last > before
    assert err.splitlines()[-1].startswith("aquasurf: run 'one'")
    assert "Traceback" not in err
    assert_whole(postgres_url, kept=kept)
