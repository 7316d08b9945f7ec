"""What a driver reports for readers of the store: soon after a change, and otherwise every few seconds."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from run_context import ScriptedPool, add_functions, open_context

from aquasurf_ray.driver.callbacks.live_status import ASKED_AT_ONCE, REPORT_SECONDS, LiveStatus
from aquasurf_ray.driver.events import EvaluationStarted, RunEnding, RunPace, RunProgress, RunView, WorkerWarning
from aquasurf_ray.store import Store
from aquasurf_ray.workers.messages import TrainingJob

STARTED = EvaluationStarted(1, "relu(x)", 0, "baseline", "worker-1", "here")


class Reports:
    """The reports of a driver, on a clock of the test."""

    def __init__(self, store, n_workers=1):
        pool = ScriptedPool(None, *["here"] * n_workers)
        self.store, self.context = store, open_context(store, "one", add_functions(store, 1), pool=pool)
        self.status = LiveStatus(self.context)

    def after(self, seconds, pace=RunPace(2.0, per_hour=1800.0, seconds_left=40.0)):  # noqa: B008 - frozen
        self.context.clock.now += seconds
        view = RunView(0, 0, 0, 1, None, (), 0, pace=pace)
        self.status.on_event(RunProgress(view))
        return self.store.activity(self.context.run.id).live

    def begin(self, function):
        (slot, *_) = self.context.pool.idle()
        self.context.pool.submit(slot, TrainingJob(function, "f", 0), None)
        self.status.on_event(STARTED)

    def jobs_after(self, seconds):
        return [worker.job for worker in self.after(seconds).workers]


@pytest.fixture
def store(tmp_path):
    with Store.open(f"sqlite:///{tmp_path}/s.db") as opened:
        yield opened


def test_what_a_worker_has_begun_is_reported_within_a_second(store):
    reports = Reports(store)
    assert reports.jobs_after(0.0) == [None]
    reports.begin("relu(x)")
    assert reports.jobs_after(0.5) == [None]
    assert reports.jobs_after(0.5) == ["trains relu(x)"]
    reports.context.pool.end(reports.context.pool.slots[0])
    assert reports.jobs_after(REPORT_SECONDS - 0.1) == ["trains relu(x)"], "nothing has been said to have changed"
    assert reports.jobs_after(0.1) == [None]


def test_a_large_pool_in_which_something_changes_all_the_time_is_reported_every_few_seconds(store):
    reports = Reports(store, ASKED_AT_ONCE + 1)
    reports.after(0.0)
    reports.begin("relu(x)")
    assert reports.jobs_after(REPORT_SECONDS - 0.1)[0] is None
    assert reports.jobs_after(0.1)[0] == "trains relu(x)"


def test_the_rate_and_the_time_left_are_those_of_the_view_until_the_run_ends(store):
    reports = Reports(store)
    live = reports.after(0.0)
    assert (live.per_hour, live.seconds_left) == (1800.0, 40.0)
    reports.status.on_event(RunEnding("stopped"))
    live = reports.after(0.1)
    assert (live.ending, live.per_hour, live.seconds_left) == ("stopped", None, None), "the rest is not trained"


def test_a_warning_of_a_worker_is_said_once_however_many_reports_follow(store, monkeypatch):
    reports = Reports(store)
    pool = reports.context.pool
    pool.worker = SimpleNamespace(warnings=None)
    pool.slots[0].actor = SimpleNamespace(warnings=SimpleNamespace(remote=object))
    monkeypatch.setattr(pool, "answers", lambda futures: {future: ["slow disk"] for future in futures})
    said = []
    monkeypatch.setattr(reports.context.events, "emit", said.append)
    for _ in range(3):
        reports.status.on_event(STARTED)
        reports.after(1.0)
    assert said == [WorkerWarning("worker-1", "slow disk")]
