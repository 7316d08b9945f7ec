"""A run that is asked to stop: within seconds, with nothing left behind, and with the command that resumes it."""

from __future__ import annotations

import signal
import time

import psutil
import pytest
from live_search import SEARCH, assert_budget_met, counts, n_finished, ray_processes_of, wait_for

pytestmark = [pytest.mark.faults, pytest.mark.slow, pytest.mark.timeout(300)]


def listening():
    """Addresses that some process listens on."""
    return {c.laddr for c in psutil.net_connections("inet") if c.status == psutil.CONN_LISTEN}


@pytest.fixture
def running(folder, start):
    """A search in the midst of its evaluations, and the addresses that its processes listen on."""
    before = {address.port for address in listening()}
    driver = start(*SEARCH)
    wait_for(lambda: n_finished(folder) >= 2)
    return driver, [address for address in listening() if address.port not in before]


def assert_stops_cleanly(driver, folder, number):
    processes = ray_processes_of(driver)
    assert processes
    asked = time.monotonic()
    driver.send_signal(number)
    out, err = driver.communicate(timeout=30)
    assert time.monotonic() - asked < 15
    assert driver.returncode == 1
    assert out == ""
    assert err.splitlines()[-1] == f"aquasurf: stopped by {number.name}; to continue: aquasurf resume one"
    assert "Traceback" not in err
    assert counts(folder)["running"] == 0
    _, alive = psutil.wait_procs(processes, timeout=10)
    assert alive == []


@pytest.mark.reliability("clean-stop")
def test_a_run_listens_on_loopback_only_and_sigterm_stops_it_cleanly_within_seconds(folder, running):
    driver, addresses = running
    assert addresses, "Ray's own ports at least"
    assert [a for a in addresses if a.ip.removeprefix("::ffff:") not in ("127.0.0.1", "::1")] == []
    assert_stops_cleanly(driver, folder, signal.SIGTERM)


@pytest.mark.reliability("clean-stop")
def test_ctrl_c_stops_cleanly_within_seconds_and_the_printed_command_resumes(folder, start, running):
    assert_stops_cleanly(running[0], folder, signal.SIGINT)
    resumed = start("resume", "one")
    _, err = resumed.communicate(timeout=200)
    assert resumed.returncode == 0, err
    assert_budget_met(folder)
