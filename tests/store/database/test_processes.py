"""Many drivers at once, and drivers killed at any moment: no result lost, none half there, none twice."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from store_reading import attempts_of

from aquasurf_ray.store import Store, this_process

SCRIPT = Path(__file__).parents[2] / "programs" / "driver_process.py"
N_EPOCHS = 20


def start(url, run, n, *options):
    command = [sys.executable, str(SCRIPT), url, run, str(n), *options]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=SCRIPT.parents[2])


def finish(process):
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    return json.loads(out.splitlines()[-1])


def check_whole(store, run_id):
    """Every evaluation is wholly there or wholly absent; returns how many are there."""
    n_done = 0
    for item in store.snapshot(run_id).evaluations:
        evaluation = item.evaluation
        done = evaluation.status == "done"
        assert len(store.curve(evaluation.id)) == (N_EPOCHS if done else 0)
        outcomes = [attempt.outcome for attempt in attempts_of(store, evaluation.id)]
        assert outcomes.count("done") == int(done)
        n_done += done
    results = [event.evaluation_id for event in store.events(run_id) if event.kind == "result"]
    assert len(results) == len(set(results)) == n_done
    return n_done


@pytest.mark.slow
def test_eight_runs_train_every_function_once(store_url):
    """They also meet in the migration, and in adding the task and the functions."""
    processes = [start(store_url, f"run{i}", 20) for i in range(8)]
    trained = [function for process in processes for function in finish(process)]
    assert len(trained) == len(set(trained)) == 20
    with Store.open(store_url) as store:
        for run in store.runs():
            status = store.status(run.id)
            assert (run.status, status.by_status, run.lease_owner) == ("finished", {"done": 20}, None)
            assert status.reused + sum(1 for event in store.events(run.id) if event.kind == "result") == 20


@pytest.mark.reliability("two-drivers")
@pytest.mark.slow
def test_of_four_drivers_of_one_run_one_gets_it(store_url):
    Store.open(store_url).close()
    processes = [start(store_url, "run", 3, "--hold", "4") for _ in range(4)]
    statuses = []
    for process in processes:
        process.communicate(timeout=60)
        statuses.append(process.returncode)
    assert sorted(statuses) == [0, 3, 3, 3]


@pytest.mark.reliability("killed-while-writing")
@pytest.mark.slow
def test_a_driver_killed_at_any_moment_leaves_whole_results(store_url, injections):
    n, rng = 250, random.Random(0)
    Store.open(store_url).close()
    progress = []
    with Store.open(store_url) as store:
        for _ in range(5):
            process = start(store_url, "run", n)
            assert process.stdout.readline() == "ready\n"
            time.sleep(rng.uniform(0.0, 0.2))
            process.kill()
            process.communicate()
            injections.add()
            progress.append(check_whole(store, store.run("run").id))
        finish(start(store_url, "run", n))
        assert check_whole(store, store.run("run").id) == n
        assert progress == sorted(progress)
        assert 0 < progress[-1] < n, "the kills came too early or too late to prove anything"
        lease = store.acquire_lease(store.run("run").id, this_process())
        assert lease.requeued == ()


@pytest.mark.reliability("driver-suspended")
@pytest.mark.slow
def test_a_suspended_driver_finds_its_run_taken_and_writes_nothing_more(store_url):
    Store.open(store_url).close()
    process = start(store_url, "run", 3, "--hold", "60")
    assert process.stdout.readline() == "ready\n"
    time.sleep(0.15)  # it renews at once, and then sleeps twice as long as this
    process.send_signal(signal.SIGSTOP)
    with Store.open(store_url, is_dead=lambda owner: False) as store:
        run = store.run("run")
        lease = store.acquire_lease(run.id, this_process(), lease_seconds=1)
        before = store.events(run.id)
        process.send_signal(signal.SIGCONT)
        _, err = process.communicate(timeout=60)
        assert process.returncode != 0
        assert "LeaseLost: run 'run' was taken over by" in err
        assert store.events(run.id) == before
        store.renew_lease(lease)
