"""What people see of a run in progress, and how they stop it from another shell."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from dataclasses import replace
from datetime import datetime

import pytest

from aquasurf_ray.cli.main import main
from aquasurf_ray.store import EvaluationResult, FunctionRow, LiveRun, LiveWorker, NewRun, Store, this_process
from aquasurf_ray.store.records.runs import N_BASELINES

BUSY = LiveWorker("worker-1", "busy", 12.5, "node-a", "NVIDIA H100", "trains relu(x)", 3, 87.0, 1200.0, 80_000.0)
LIVE = LiveRun((BUSY, LiveWorker("worker-2", "idle", 0.0, "node-b", "cpu")), 30.0, 7200.0)


@pytest.fixture
def held(tmp_path, monkeypatch):
    """A store with the run 'one' in this process's hands."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("AQUASURF_STORE", raising=False)
    with Store.open(f"sqlite:///{tmp_path}/aquasurf.db") as store:
        task = store.add_task("digits", "1", "digest", {})
        ids = store.add_functions([FunctionRow("f", "relu(x)", 1)])
        store.create_run(NewRun("one", "search", task, {}, "d", 0, 4, None, "0.1.0"), ids)
        yield store, store.acquire_lease(store.run("one").id, this_process(), lease_seconds=30)


def run(capsys, *arguments):
    code = main(list(arguments))
    out, err = capsys.readouterr()
    return code, out, err


def test_the_results_are_those_of_baselines_and_those_of_the_budget(capsys, held):
    store, _ = held
    config = {"task": "digits", N_BASELINES: 9}
    searched = store.create_run(NewRun("two", "search", store.run("one").task_id, config, "e", 0, 6, None, "0.1.0"))
    assert "two  digits  new      0/15" in run(capsys, "status")[1]
    assert "evaluations    0 (0 baselines and 0 of 6)\n" in run(capsys, "status", "two")[1]
    other = store.acquire_lease(searched.id, this_process(), lease_seconds=30)
    claim = store.claim(other, 1, 0, "baseline")
    store.record_result(other, claim.evaluation_id, EvaluationResult("done", score=0.5))
    out = run(capsys, "status", "two")[1]
    assert "evaluations    1 (1 baseline and 0 of 6)\n" in out
    assert not [line for line in out.splitlines() if line.startswith(("budget", "baselines", "wanted"))]
    document = json.loads(run(capsys, "status", "two", "--json")[1])
    assert [document[key] for key in ("evaluations", "wanted", "finished_baselines", "budget")] == [1, 15, 1, 6]
    assert "evaluations    0/4\n" in run(capsys, "status", "one")[1]


def test_status_prints_the_driver_its_workers_and_why_tries_failed(capsys, held):
    store, lease = held
    store.report(lease, LIVE)
    claim = store.claim(lease, 1, 0, "baseline")
    store.start(lease, claim.evaluation_id, "worker-1")
    store.record_failure(lease, claim.evaluation_id, "ActorDiedError: the node is gone", final=False)
    store.request_stop(lease.run_id, this_process())
    document = json.loads(run(capsys, "status", "one", "--json")[1])
    driver, live = document["driver"], document["live"]
    assert (driver["host"], driver["pid"], driver["state"]) == (platform.node(), os.getpid(), "alive")
    assert driver["stop_asked_by"] == platform.node()
    assert (live["per_hour"], live["seconds_left"], live["ending"]) == (30.0, 7200.0, None)
    assert live["workers"][0] == {
        "worker": "worker-1",
        "node": "node-a",
        "device": "NVIDIA H100",
        "state": "busy",
        "seconds": 12.5,
        "job": "trains relu(x)",
        "epoch": 3,
        "gpu_percent": 87.0,
        "gpu_gb": "1.2 of 80.0",
    }
    assert document["failure_causes"] == [{"tries": 1, "cause": "ActorDiedError: the node is gone"}]
    _, out, _ = run(capsys, "status", "one")
    since = datetime.fromisoformat(driver["since"]).isoformat(timespec="seconds")
    assert f"driven by {platform.node()} pid {os.getpid()} since {since}: heartbeat" in out
    assert since.endswith("+00:00"), "as the other times of the table"
    assert "30.0 evaluations per hour, about 2 h left" in out
    (row,) = [line for line in out.splitlines() if line.startswith("worker-1")]
    assert row.split() == [
        "worker-1",
        "node-a",
        "NVIDIA",
        "H100",
        "busy",
        "12",
        "trains",
        "relu(x)",
        "3",
        "87",
        "1.2",
        "of",
        "80.0",
    ]
    (row,) = [line for line in out.splitlines() if line.startswith("worker-2")]
    assert " ".join(row.split()) == "worker-2 node-b cpu idle 0 - - - -"


def test_a_driver_that_is_dead_or_silent_is_not_shown_as_alive(capsys, held):
    store, lease = held
    store.report(lease, LIVE)
    store.release_lease(lease, "interrupted")
    dead = replace(this_process(), started=1)
    lease = store.acquire_lease(lease.run_id, dead, lease_seconds=30)
    store.report(lease, LIVE)
    assert json.loads(run(capsys, "status", "one", "--json")[1])["driver"]["state"] == "dead"
    shown = run(capsys, "status", "one")[1]
    assert "it has died" in shown
    assert " left" not in shown, "nothing is running"
    assert ["status", "dead"] in [line.split() for line in shown.splitlines()]
    code, out, err = run(capsys, "status")
    assert out.splitlines()[1].split()[:3] == ["one", "digits", "dead"]
    assert err == "the driver of run 'one' has died; resume with: aquasurf resume one\n"
    assert [each["status"] for each in json.loads(run(capsys, "status", "--json")[1])] == ["dead"]
    code, out, _ = run(capsys, "stop", "one", "--wait")
    assert code == 0
    assert out.splitlines() == [
        f"run 'one' is not running: the driver {platform.node()} pid {os.getpid()} has died",
        "resume it with: aquasurf resume one",
    ]
    far = store.acquire_lease(lease.run_id, replace(dead, host="far-away"), lease_seconds=0.001)
    store.report(far, LIVE)
    shown = run(capsys, "status", "one")[1]
    assert "so it has died or cannot be reached" in shown
    assert run(capsys, "status")[1].splitlines()[1].split()[:3] == ["one", "digits", "silent"]
    assert " left" not in shown
    code, out, _ = run(capsys, "stop", "one", "--wait")
    assert code == 1
    assert "the driver far-away pid" in out
    assert "has given no sign of life for" in out


@pytest.mark.parametrize("form", [[], ["--json"]])
def test_output_that_its_disk_has_no_room_for_is_reported_in_a_line(held, form):
    command = [sys.executable, "-m", "aquasurf_ray", "status", *form]
    with open("/dev/full", "w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, timeout=60)
    told = "aquasurf: the output cannot be written: No space left on device; make room there\n"
    assert (done.returncode, done.stderr) == (1, told)


def test_a_best_value_has_the_digits_that_it_has_in_tables(capsys, held):
    store, lease = held
    claim = store.claim(lease, 1, 0, "baseline")
    store.record_result(lease, claim.evaluation_id, EvaluationResult("done", score=0.9532293986636972))
    shown = run(capsys, "status", "one")[1]
    assert ["best", "accuracy", "0.9532"] in [line.split() for line in shown.splitlines()], shown


def test_stop_says_what_became_of_the_request(capsys, held):
    store, lease = held
    code, out, _ = run(capsys, "stop", "one", "--json")
    assert (code, json.loads(out)["state"]) == (0, "asked")
    assert store.stop_request(lease) is not None
    store.release_lease(lease, "interrupted", "stopped")
    code, out, _ = run(capsys, "stop", "one")
    assert (code, out) == (0, "run 'one' is not running, it is interrupted\nresume it with: aquasurf resume one\n")
    store.release_lease(store.acquire_lease(lease.run_id, this_process()), "finished")
    assert run(capsys, "stop", "one")[:2] == (0, "run 'one' is finished already\n")
    code, _, err = run(capsys, "stop", "two")
    assert code == 2
    assert "no run is named 'two'" in err


def test_a_run_is_ended_for_good_without_what_it_has_not_done(capsys, held):
    store, lease = held
    claim = store.claim(lease, 1, 0, "baseline")
    store.record_result(lease, claim.evaluation_id, EvaluationResult("done", score=0.5))
    store.add_functions([FunctionRow(name, f"{name}(x)", 1) for name in ("elu", "tanh", "erf")])
    done, under_way = (store.claim(lease, number, 0, "suggestion") for number in (2, 3))
    store.record_result(lease, done.evaluation_id, EvaluationResult("done", score=0.6))
    store.propose(lease.run_id, [4], 0)
    store.release_lease(lease, "interrupted", "stopped")
    code, out, err = run(capsys, "stop", "one", "--finish")
    assert (code, err) == (0, "")
    assert out == "run 'one' is finished: 2 evaluations, a budget of 1 instead of 4; 2 open evaluations are dropped\n"
    ended = store.run("one")
    assert (ended.status, ended.budget, ended.message) == ("finished", 1, None)
    assert [each.function for each in store.snapshot(ended.id).evaluations] == ["relu(x)", "elu(x)"]
    assert store.evaluation(under_way.evaluation_id).status == "queued", "another run may want it"


def test_stop_says_how_a_run_that_ray_tune_drives_is_stopped(capsys, held):
    store, lease = held
    store.create_run(NewRun("tuned", "search", lease.task_id, {}, "d", 0, None, None, "0.1.0"), [1])
    tuned = store.acquire_lease(store.run("tuned").id, this_process())
    code, _, err = run(capsys, "stop", "tuned", "--wait")
    assert code == 2
    assert err.startswith(
        f"aquasurf: run 'tuned' belongs to Ray Tune: stop the process of its Tuner, {platform.node()} pid "
    )
    assert store.stop_request(tuned) is None


@pytest.mark.slow
def test_stop_waits_until_the_run_has_stopped(held):
    store, lease = held
    command = [sys.executable, "-m", "aquasurf_ray", "stop", "one", "--wait"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as waiting:
        while store.stop_request(lease) is None:
            assert waiting.poll() is None
        store.release_lease(lease, "interrupted", "as it was asked to")
        out, _ = waiting.communicate(timeout=60)
    assert (waiting.returncode, out) == (0, "run 'one' has stopped, interrupted: as it was asked to\n")
