"""How runs end before their budget is met: running work is drained, nothing is lost, and `resume` continues."""

from __future__ import annotations

import os
import platform
import re
import signal
from collections import Counter

import pytest
from recorder import Recorder
from scripted_worker import ScriptedWorker, WaitingWorker
from store_reading import attempts_of

from aquasurf_ray.activations import BASELINES
from aquasurf_ray.driver import resume, search
from aquasurf_ray.driver.errors import BadUse, Interrupted
from aquasurf_ray.driver.events import RunProgress
from aquasurf_ray.driver.settings.reading import make_config
from aquasurf_ray.store import Store, this_process

pytestmark = pytest.mark.usefixtures("ray_here")
FIRST = BASELINES[:3]


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("AQUASURF_STORE", raising=False)
    return f"sqlite:///{tmp_path}/runs.db"


def scripted(here, worker=ScriptedWorker, **options):
    chosen = {"name": "one", "candidates": 12, "evaluations": 4, "cpus_per_worker": 0.2, "features": "outputs"}
    return search("digits", worker=worker, **{**chosen, "store": here, **options})


def opened(here):
    return Store.open(here, create=False)


class Meanwhile(Recorder):
    """Does something once all workers train."""

    def __init__(self, act, workers):
        super().__init__()
        self.act, self.workers, self.done = act, workers, False

    def on_event(self, event):
        super().on_event(event)
        if not self.done and isinstance(event, RunProgress) and event.view.training == self.workers:
            self.done = True
            self.act()


def sigterm(here):
    os.kill(os.getpid(), signal.SIGTERM)


def stop(here):
    with opened(here) as store:
        assert store.request_stop(store.run("one").id, this_process())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("act", "said"), [(sigterm, "stopped by SIGTERM"), (stop, f"stopped by 'aquasurf stop' from {platform.node()}")]
)
def test_a_stopped_run_is_drained_and_interrupted_work_continues_at_resume(here, act, said):
    recorder = Meanwhile(lambda: act(here), len(FIRST))
    with pytest.raises(Interrupted) as stopped:
        scripted(here, WaitingWorker, workers=len(FIRST), callbacks=[recorder])
    assert str(stopped.value) == f"{said}; to continue: aquasurf resume one --store {here}"
    assert recorder.notes[-1] == f"{said}: waiting for 3 workers to finish or to reach a checkpoint"
    with opened(here) as store:
        run = store.run("one")
        assert (run.status, run.lease_owner, run.message) == ("interrupted", None, str(stopped.value))
        records = {w.function: w.evaluation for w in store.snapshot(run.id).evaluations}
        assert [records[f].status for f in FIRST] == ["queued", "done", "queued"]
        assert {record.attempts for record in records.values()} == {0}, "nothing that was drained has failed"
        outcomes = Counter(a.outcome for record in records.values() for a in attempts_of(store, record.id))
        assert outcomes == {"done": 1, "interrupted": 2}
    assert resume("one", store=here, worker=ScriptedWorker, workers=2).evaluations == 12


@pytest.mark.slow
def test_a_time_budget_ends_a_run_in_good_order_and_restarts_in_each_session(here):
    for _ in range(2):
        result = scripted(here, WaitingWorker, workers=1, time_budget="1s")
        assert result.ended == "the time budget of 1 s is spent"
        with opened(here) as store:
            run = store.run("one")
            assert (run.status, run.message) == ("interrupted", result.ended)
    assert resume("one", store=here, worker=ScriptedWorker, workers=2, time_budget="1h").evaluations == 12


@pytest.mark.slow
def test_a_run_that_reaches_its_goal_ends_and_can_continue(here):
    result = scripted(here, workers=1, until="val_accuracy >= 0.5")
    assert result.ended == f"val_accuracy>=0.5 is reached by {result.best[0]}"
    assert result.best[1] >= 0.5
    assert result.evaluations < 12
    assert not result.exhausted
    with opened(here) as store:
        run = store.run("one")
        assert (run.status, run.message) == ("finished", result.ended)
        assert not store.status(run.id).exhausted
    again = resume("one", store=here, worker=ScriptedWorker, workers=1, until="val_accuracy>=0.4")
    assert (again.evaluations, again.ended) == (result.evaluations, result.ended), "reached already"
    whole = resume("one", store=here, worker=ScriptedWorker, workers=1)
    assert (whole.evaluations, whole.ended) == (12, None)
    with opened(here) as store:
        assert (store.run("one").status, store.run("one").message) == ("finished", None)


def test_what_a_task_is_not_judged_by_is_refused(here, tmp_path):
    with pytest.raises(
        BadUse, match=r"until: the metric of the task is val_accuracy, .*; write val_accuracy>=0.9, got"
    ):
        scripted(here, until="accuracy>=0.9")
    with pytest.raises(BadUse, match="where larger is better"):
        scripted(here, until="val_accuracy<=0.9")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("until", "val_accuracy"),
        ("until", "val_accuracy>=nan"),
        *(("time_budget", wrong) for wrong in ("soon", "2h30", "30m15", "\u0663h", "-5", "0", -1.0, float("inf"))),
        ("lease_seconds", float("inf")),
    ],
)
def test_ends_that_make_no_sense_are_refused(option, value):
    with pytest.raises(BadUse, match=f"{option.replace('_', '-')} must be .*, got {re.escape(repr(value))}"):
        make_config({"task": "digits", option: value})


def test_ends_are_no_part_of_a_runs_identity():
    plain = make_config({"task": "digits"})
    assert make_config({"task": "digits", "until": "val_accuracy>=1", "time_budget": 60}).identity() == plain.identity()
    assert make_config({"task": "digits", "time_budget": 60}).time_budget == 60.0


def test_ends_are_taken_back_by_the_word_none():
    before = make_config({"task": "digits", "time_budget": "6s", "until": "val_accuracy>=0.5"}).model_dump()
    after = make_config({**before, "time_budget": "none", "until": "none"})
    assert (after.time_budget, after.until) == (None, None)


@pytest.mark.parametrize("given", ["90", "2h30m", "0.00001s", "999999999999999999d", 1e-5])
def test_a_time_budget_is_read_again_from_what_the_store_keeps_of_it(given):
    first = make_config({"task": "digits", "time_budget": given})
    assert make_config({"task": "digits", "time_budget": first.stored()["time_budget"]}) == first
