"""Promises about interrupted, killed and competing drivers, kept by real processes of the real command."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from contextlib import closing

import psutil
import pytest

from store import Store, StoreError

BASELINES = 8
BUDGET = 6
CANDIDATES = 24
SEARCH = (
    "search",
    "digits",
    "--name",
    "one",
    "--candidates",
    str(CANDIDATES),
    "--evaluations",
    str(BUDGET),
    "--workers",
    "1",
)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "short.yaml").write_text("lease_seconds: 3\n")
    return tmp_path


@pytest.fixture
def start(folder):
    """Starts the command in the folder; whatever is left of it at the end is killed."""
    started = []

    def run(*arguments):
        environment = {key: value for key, value in os.environ.items() if key != "AQUASURF_STORE"}
        command = [sys.executable, "-m", "aquasurf_ray", *arguments]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        started.append(subprocess.Popen(command, cwd=folder, env=environment, start_new_session=True, **pipes))
        return started[-1]

    yield run
    for process in started:
        if process.poll() is None:
            process.send_signal(signal.SIGCONT)
            process.kill()
        process.communicate()


def wait_for(condition, seconds=120.0):
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.1)
    return found


def counts(folder):
    """How many evaluations of the run have which status; nothing before there is a run."""
    if not (folder / "aquasurf.db").exists():
        return Counter()
    try:
        with Store.open(f"sqlite:///{folder}/aquasurf.db", create=False) as store:
            return Counter(store.status(store.run("one").id).by_status)
    except StoreError:
        return Counter()


def n_finished(folder):
    now = counts(folder)
    return now["done"] + now["diverged"]


def ray_processes_of(driver):
    """The driver's descendants that belong to Ray."""
    return [p for p in psutil.Process(driver.pid).children(recursive=True) if p.is_running()]


def workers_of(driver):
    """Ray shows a worker by its class, and by the method it last began."""
    return [p for p in ray_processes_of(driver) if " ".join(p.cmdline()).startswith("ray::Worker")]


def stop_between_writes(driver, folder):
    """Stops the process; SQLite's lock, which one stopped inside a write would keep, is not what is tested."""
    for _ in range(100):
        driver.send_signal(signal.SIGSTOP)
        with closing(sqlite3.connect(folder / "aquasurf.db", timeout=1.0)) as database:
            try:
                database.execute("BEGIN IMMEDIATE")
                return
            except sqlite3.OperationalError:
                driver.send_signal(signal.SIGCONT)
    pytest.fail("the database was locked each time")


def assert_budget_met(folder):
    assert n_finished(folder) == BUDGET + BASELINES
    assert counts(folder).keys() <= {"done", "diverged"}


@pytest.fixture
def running(folder, start):
    """A search in the midst of its evaluations, and the addresses that its processes listen on."""
    before = {c.laddr.port for c in psutil.net_connections("inet") if c.status == psutil.CONN_LISTEN}
    driver = start(*SEARCH)
    wait_for(lambda: n_finished(folder) >= 2)
    listening = [c.laddr for c in psutil.net_connections("inet") if c.status == psutil.CONN_LISTEN]
    return driver, [address for address in listening if address.port not in before]


def assert_stops_cleanly(driver, folder, number):
    processes = ray_processes_of(driver)
    assert processes
    asked = time.monotonic()
    driver.send_signal(number)
    out, err = driver.communicate(timeout=30)
    assert time.monotonic() - asked < 15
    assert driver.returncode == 1
    assert out == ""
    assert err.splitlines()[-1] == f"aquasurf: stopped by {number.name}; go on with: aquasurf resume one"
    assert "Traceback" not in err
    assert counts(folder)["running"] == 0
    _, alive = psutil.wait_procs(processes, timeout=10)
    assert alive == []


def test_a_run_listens_on_loopback_only_and_sigterm_stops_it_cleanly_within_seconds(folder, running):
    driver, addresses = running
    assert addresses, "Ray's own ports at least"
    assert [a for a in addresses if a.ip.removeprefix("::ffff:") not in ("127.0.0.1", "::1")] == []
    assert_stops_cleanly(driver, folder, signal.SIGTERM)


def test_ctrl_c_stops_cleanly_within_seconds_and_what_it_says_goes_on(folder, start, running):
    assert_stops_cleanly(running[0], folder, signal.SIGINT)
    resumed = start("resume", "one")
    _, err = resumed.communicate(timeout=200)
    assert resumed.returncode == 0, err
    assert_budget_met(folder)


def test_a_killed_worker_costs_an_attempt_and_the_run_goes_on(folder, start):
    driver = start(*SEARCH)
    wait_for(lambda: n_finished(folder) >= 1)

    for _ in range(2):
        wait_for(lambda: workers_of(driver))[0].kill()
        time.sleep(1.0)
    _, err = driver.communicate(timeout=200)
    assert driver.returncode == 0, err
    assert "tried again" in err
    assert_budget_met(folder)
    with Store.open(f"sqlite:///{folder}/aquasurf.db", create=False) as store:
        attempts = [w.evaluation.attempts for w in store.snapshot(store.run("one").id).evaluations]
    assert 1 <= sum(attempts) <= 2, "a worker killed in a spectrum costs no evaluation an attempt"


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


LONG_TASK = """
from dataclasses import replace
from pathlib import Path
from torch.utils.data import Dataset
from aquasurf_ray.tasks import Splits, load_task

EPOCHS = 40

class Logged(Dataset):
    def __init__(self, examples, log):
        self.examples, self.log = examples, log
    def __len__(self):
        return len(self.examples)
    def __getitem__(self, i):
        if i == len(self) - 1:  # once an epoch: what comes before a training looks at the first examples only
            with self.log.open("a") as file:
                file.write("epoch\\n")
        return self.examples[i]

def data():
    splits = load_task("digits").data()
    return Splits(splits.train, Logged(splits.validation, Path(__file__).parent / "epochs.log"), splits.test)

def make():
    digits = load_task("digits")
    return replace(digits, name="long", data=data, recipe=replace(digits.recipe, epochs=EPOCHS))
"""

EVALUATE = """
import sys
from aquasurf_ray.driver import evaluate
evaluate(["tanh(x)"], "longtask:make", name="one", workers=1, checkpoint_interval=0.0)
"""


def test_a_long_training_goes_on_from_its_last_epoch_after_its_worker_was_killed(folder, start):
    (folder / "longtask.py").write_text(LONG_TASK)
    (folder / "go.py").write_text(EVALUATE)
    log = folder / "epochs.log"
    environment = {key: value for key, value in os.environ.items() if key != "AQUASURF_STORE"}
    driver = subprocess.Popen([sys.executable, "go.py"], cwd=folder, env=environment)
    try:
        wait_for(lambda: log.exists() and len(log.read_text().splitlines()) >= 10)
        (worker,) = workers_of(driver)
        worker.kill()
        assert driver.wait(timeout=200) == 0
    finally:
        driver.kill()
        driver.wait()
    assert 40 <= len(log.read_text().splitlines()) <= 41, "only the epoch that was cut off is trained again"
    with Store.open(f"sqlite:///{folder}/aquasurf.db", create=False) as store:
        (wish,) = store.snapshot(store.run("one").id).evaluations
        curve = store.curve(wish.evaluation.id)
    assert (wish.evaluation.status, wish.evaluation.attempts) == ("done", 1)
    assert [epoch.epoch for epoch in curve] == list(range(1, 41))
    assert not list((folder / "aquasurf-storage").rglob("*.ckpt")), "checkpoints go when the result is stored"
