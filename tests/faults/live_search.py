"""A search by the real command in a folder, as the tests of this room see it: its database and its processes."""

from __future__ import annotations

import signal
import sqlite3
import time
from collections import Counter
from contextlib import closing
from pathlib import Path

import psutil
import pytest

from aquasurf_ray.store import Store, StoreError

BASELINES = 8
BUDGET = 4
CANDIDATES = 16
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


def wait_for(condition, seconds=120.0):
    """Waits until the condition gives something true, and returns that."""
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
    """Evaluations of the run that are done or diverged."""
    now = counts(folder)
    return now["done"] + now["diverged"]


def assert_budget_met(folder):
    """The run has finished exactly what it was to do, and left nothing open."""
    assert n_finished(folder) == BUDGET + BASELINES
    assert counts(folder).keys() <= {"done", "diverged"}


def ray_processes_of(driver):
    """The driver's descendants, all of which belong to Ray."""
    return [p for p in psutil.Process(driver.pid).children(recursive=True) if p.is_running()]


def workers_of(driver, doing=""):
    """The driver's worker processes. Ray shows one by its class, and by the method that it last began: a question about
    its progress hides a training, until the next one."""
    title = f"ray::Worker.{doing}" if doing else "ray::Worker"
    return [p for p in ray_processes_of(driver) if _command_line(p).startswith(title)]


def _command_line(process):
    try:
        return " ".join(process.cmdline())
    except psutil.Error:  # it has ended meanwhile
        return ""


def stop_between_writes(driver, folder):
    """Stops the process; SQLite's lock, which one stopped inside a write would keep, is not what is tested."""
    for _ in range(100):
        driver.send_signal(signal.SIGSTOP)
        wait_for(lambda: _is_stopped(driver.pid))
        with closing(sqlite3.connect(folder / "aquasurf.db", timeout=1.0)) as database:
            try:
                database.execute("BEGIN IMMEDIATE")
                return
            except sqlite3.OperationalError:
                driver.send_signal(signal.SIGCONT)
    pytest.fail("the database was locked each time")


def _is_stopped(pid):
    """Whether each thread is, which takes a while after the signal: one that still ran could take the lock."""
    threads = Path(f"/proc/{pid}/task").iterdir()
    return all((thread / "stat").read_text().rpartition(")")[2].split()[0] == "T" for thread in threads)
