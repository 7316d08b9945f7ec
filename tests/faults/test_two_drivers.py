"""Two drivers and one run: exactly one has it, also after the other has slept through its lease."""

from __future__ import annotations

import signal

import pytest
from live_search import SEARCH, assert_budget_met, n_finished, stop_between_writes, wait_for

pytestmark = [pytest.mark.faults, pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.mark.reliability("two-drivers")
def test_of_two_drivers_started_together_exactly_one_runs(folder, start, ray_cluster):
    first, second = (start(*SEARCH, "--address", ray_cluster) for _ in range(2))
    codes = {}
    for name, driver in (("first", first), ("second", second)):
        _, err = driver.communicate(timeout=250)
        codes[name] = (driver.returncode, err)
    assert sorted(code for code, _ in codes.values()) == [0, 2], codes
    (refusal,) = [err for code, err in codes.values() if code == 2]
    assert "run 'one'" in refusal.splitlines()[-1]
    assert "pid" in refusal.splitlines()[-1]
    assert_budget_met(folder)


@pytest.mark.reliability("driver-suspended")
def test_a_driver_that_slept_through_its_lease_writes_nothing_more(folder, start, ray_cluster):
    first = start(*SEARCH, "--config", "short.yaml", "--address", ray_cluster)
    wait_for(lambda: n_finished(folder) >= 2)
    stop_between_writes(first, folder)
    second = start("resume", "one", "--address", ray_cluster)
    _, err = second.communicate(timeout=250)
    assert second.returncode == 0, err
    assert_budget_met(folder)
    first.send_signal(signal.SIGCONT)
    _, err = first.communicate(timeout=60)
    assert first.returncode == 1
    assert err.splitlines()[-1].startswith("aquasurf: run 'one'")
    assert "Traceback" not in err
    assert_budget_met(folder)
