"""Runs that are stopped amid long trainings: they end within a minute and go on from a checkpoint."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from live_search import counts, wait_for
from long_task import EPOCHS, MODULE, n_trained
from store_reading import attempts_of

from aquasurf_ray.store import Store

pytestmark = [pytest.mark.faults, pytest.mark.slow, pytest.mark.timeout(300)]
FIXTURES = str(Path(__file__).parents[1] / "fixtures")


def evaluation(folder):
    with Store.open(f"sqlite:///{folder}/aquasurf.db", create=False) as store:
        run = store.run("one")
        (request,) = store.snapshot(run.id).evaluations
        return run, request.evaluation, attempts_of(store, request.evaluation.id), store.curve(request.evaluation.id)


@pytest.mark.parametrize("by", ["SIGTERM", "stop"])
def test_a_long_training_stops_after_its_epoch_and_no_epoch_is_trained_twice(folder, start, by):
    (folder / "longtask.py").write_text(MODULE)
    command = ("evaluate", "tanh(x)", "--task", "longtask:make", "--name", "one", "--workers", "1")
    driver = start(*command, "--checkpoint-interval", "3600")
    wait_for(lambda: n_trained(folder) >= 5)
    asked = time.monotonic()
    if by == "stop":
        stopping = start("stop", "one", "--wait")
        out, err = stopping.communicate(timeout=60)
        assert stopping.returncode == 0, err
        assert out.startswith("run 'one' has stopped, interrupted: stopped by 'aquasurf stop' from ")
    else:
        driver.send_signal(signal.SIGTERM)
    _, err = driver.communicate(timeout=60)
    assert time.monotonic() - asked < 60
    assert driver.returncode == 1
    assert err.splitlines()[-1].endswith("; to continue: aquasurf resume one")
    run, record, attempts, _ = evaluation(folder)
    assert (run.status, run.lease_owner, record.status, record.attempts) == ("interrupted", None, "queued", 0)
    assert [attempt.outcome for attempt in attempts] == ["interrupted"]
    before = n_trained(folder)
    assert 5 <= before < EPOCHS
    resumed = start("resume", "one")
    _, err = resumed.communicate(timeout=200)
    assert resumed.returncode == 0, err
    assert n_trained(folder) == EPOCHS, "each once"
    run, record, attempts, curve = evaluation(folder)
    assert (record.status, record.attempts, len(curve)) == ("done", 0, EPOCHS)
    assert [attempt.outcome for attempt in attempts] == ["interrupted", "done"]


@pytest.fixture
def stubborn(folder):
    """A search in a process of its own whose workers neither finish nor stop; all of them are at work."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([FIXTURES, os.environ.get("PYTHONPATH", "")])}
    options = "name='one', candidates=4, evaluations=1, workers=2, features='outputs'"
    code = "from scripted_worker import StubbornWorker; from aquasurf_ray.driver import search\n"
    code += f"search('digits', worker=StubbornWorker, {options})"
    driver = subprocess.Popen([sys.executable, "-c", code], cwd=folder, env=environment, stderr=subprocess.DEVNULL)
    try:
        wait_for(lambda: counts(folder)["running"] == 2)
        yield driver
    finally:
        driver.kill()
        driver.wait()


def test_work_that_does_not_come_to_an_end_is_given_up_after_its_grace(folder, stubborn):
    asked = time.monotonic()
    stubborn.send_signal(signal.SIGTERM)
    assert stubborn.wait(timeout=75) == 1
    assert 45 <= time.monotonic() - asked < 60
    assert_given_back(folder)


def test_a_second_ctrl_c_ends_a_run_at_once(folder, stubborn):
    stubborn.send_signal(signal.SIGINT)
    wait_for(lambda: ending(folder))
    again = time.monotonic()
    stubborn.send_signal(signal.SIGINT)
    assert stubborn.wait(timeout=30) != 0
    assert time.monotonic() - again < 20
    assert_given_back(folder)


def ending(folder):
    """Why the driver says that the run ends, while it waits for its workers."""
    with Store.open(f"sqlite:///{folder}/aquasurf.db", create=False) as store:
        live = store.activity(store.run("one").id).live
        return live and live.ending


def assert_given_back(folder):
    with Store.open(f"sqlite:///{folder}/aquasurf.db", create=False) as store:
        run = store.run("one")
        requests = store.snapshot(run.id).evaluations
    assert (run.status, run.lease_owner) == ("interrupted", None)
    assert {(request.evaluation.status, request.evaluation.attempts) for request in requests} == {("queued", 0)}
