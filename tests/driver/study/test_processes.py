"""Loops in several processes on one store, killed at random: nothing is lost, nothing is told twice."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter

import pytest
import study_loops

from aquasurf_ray.activations import BASELINES
from aquasurf_ray.store import Store

pytestmark = pytest.mark.slow


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request, tmp_path):
    return f"sqlite:///{tmp_path}/s.db" if request.param == "sqlite" else request.getfixturevalue("postgres_url")


def program(verb, url, tmp_path):
    command = [sys.executable, study_loops.__file__, verb, url, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


def stored(url):
    with Store.open(url, create=False) as store:
        run = store.run("loops")
        return run, store.snapshot(run.id).evaluations, store.events(run.id)


@pytest.mark.reliability("study-killed")
@pytest.mark.timeout(300)
def test_four_loops_that_are_killed_at_random_lose_nothing_and_tell_nothing_twice(url, tmp_path, injections):
    found = program("kill", url, tmp_path)
    injections.add(found["kills"])
    run, evaluations, events = stored(url)
    asked = Counter(line[1] for line in found["log"] if line[0] == "asked")
    told = Counter(line[1] for line in found["log"] if line[0] == "told")
    assert found["failed"] == 0, "no loop met an error"
    assert found["kills"] >= 10
    assert run.status == "finished"
    assert len(evaluations) == len(BASELINES) + study_loops.EVALUATIONS
    assert len({each.function for each in evaluations}) == len(evaluations), "no function twice"
    for each in evaluations:
        assert each.evaluation.status == "done"
        assert each.evaluation.score == pytest.approx(study_loops.merit(each.function), abs=1e-9)
    assert not any(each.reused for each in evaluations), "there is no other run"
    results = Counter(event.evaluation_id for event in events if event.kind == "result")
    assert set(results.values()) == {1}
    assert len(results) == len(evaluations)
    assert set(told.values()) == {1}, "a value is told once"
    retried = Counter(event.evaluation_id for event in events if event.kind == "retry")
    assert len(retried) >= 3, "kills hit trials"
    attempts = {each.evaluation.id: each.evaluation.attempts for each in evaluations}
    assert {number: n for number, n in attempts.items() if n} == retried, "each is an attempt"
    again = sum(n > 1 for n in asked.values())
    assert again >= 3, "the trials of killed loops were asked again"


@pytest.mark.reliability("study-killed-every-time")
def test_a_function_that_kills_its_process_every_time_is_given_up(url, tmp_path, injections):
    found = program("deadly", url, tmp_path)
    injections.add(found["kills"])
    run, evaluations, events = stored(url)
    assert (found["kills"], found["failed"]) == (3, 0)
    assert Counter(line[2] for line in found["log"] if line[0] == "asked")[study_loops.DEADLY] == 3
    assert found["log"][-1] == ["ended", 3, 3]
    assert run.status == "finished"
    (parked,) = [each for each in evaluations if each.evaluation.status == "failed"]
    assert (parked.function, parked.evaluation.attempts) == (study_loops.DEADLY, 3)
    assert parked.evaluation.error == "the process that trained it died"
    assert sum(each.evaluation.status == "done" for each in evaluations) == len(BASELINES) - 1 + study_loops.EVALUATIONS
    assert [event.kind for event in events if event.evaluation_id == parked.evaluation.id] == [
        *(("claimed", "started", "retry") * 2),
        *("claimed", "started", "failed"),
    ]
    with Store.open(url, create=False) as store:
        assert [(cause.error, cause.n) for cause in store.failure_causes(run.id)] == [(parked.evaluation.error, 3)]


@pytest.mark.reliability("study-suspended")
def test_a_loop_whose_lease_expired_is_told_so_and_asks_on(url, tmp_path):
    found = program("stop", url, tmp_path)
    assert found["asked_again"] == found["stopped"]
    taken = next(line[1] for line in found["log"] if line[0] == "taken")
    assert taken.startswith(f"trial {found['stopped']} of study 'loops' was given to ")
    assert next(line for line in found["log"] if line[0] == "asked on")[1] is not None
    _, evaluations, events = stored(url)
    again = evaluations[found["stopped"]]
    assert (again.evaluation.attempts, again.evaluation.status) == (1, "done"), "silence is an attempt, too"
    assert again.evaluation.score == pytest.approx(study_loops.merit(again.function), abs=1e-9)
    assert [event.data["score"] for event in events if event.kind == "late"] == [1000.0], "the log has the late value"
