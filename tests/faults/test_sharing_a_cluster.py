"""Two runs on one cluster, neither with a fixed number of workers: both get on, and one takes what the other leaves."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from live_search import wait_for

from aquasurf_ray.store import Store, StoreError

pytestmark = [pytest.mark.faults, pytest.mark.slow, pytest.mark.timeout(400)]
SCRIPT = Path(__file__).parents[1] / "programs/scripted_search.py"


def started(folder, address, name, evaluations, candidates):
    environment = {**os.environ, "AQUASURF_STORE": f"sqlite:///{folder}/{name}.db"}
    options = [f"--name={name}", f"--address={address}", f"--candidates={candidates}", f"--evaluations={evaluations}"]
    options += ["--features=outputs", f"--log={folder}/{name}.jsonl"]
    return subprocess.Popen([sys.executable, str(SCRIPT), "search", "digits", *options], cwd=folder, env=environment)


def finished_at(folder, name):
    try:
        with Store.open(f"sqlite:///{folder}/{name}.db", create=False) as store:
            found = [request.evaluation.finished_at for request in store.snapshot(store.run(name).id).evaluations]
    except StoreError:
        return []
    return sorted(moment for moment in found if moment is not None)


def events(folder, name):
    return [json.loads(line) for line in (folder / f"{name}.jsonl").read_text().splitlines()]


def test_two_runs_share_a_cluster_and_both_make_progress(folder, ray_cluster):
    first = started(folder, ray_cluster, "one", evaluations=100, candidates=110)
    second = None
    try:
        wait_for(lambda: len(finished_at(folder, "one")) >= 2)
        second = started(folder, ray_cluster, "two", evaluations=16, candidates=24)
        wait_for(lambda: len(finished_at(folder, "two")) >= 2)
        before = len(finished_at(folder, "one"))
        wait_for(lambda: len(finished_at(folder, "one")) > before)
        assert (first.poll(), second.poll()) == (None, None), "neither waits for the other's end"
        first.terminate()
        assert first.wait(timeout=100) == 1
        assert second.wait(timeout=200) == 0
    finally:
        for driver in filter(None, (first, second)):
            driver.kill()
            driver.wait()
    assert len(finished_at(folder, "two")) == 24
    log_of_one, log_of_two = events(folder, "one"), events(folder, "two")
    assert (log_of_one[0]["workers"], log_of_two[0]["workers"]) == (2, 1)
    assert "given back" in [event.get("why") for event in log_of_one]
    assert {event["worker"] for event in log_of_two if event["event"] == "started"} == {"worker-1", "worker-2"}
