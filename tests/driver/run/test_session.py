"""One session of a run with scripted workers: the lease, the events from start to end, and the run's new status."""

from __future__ import annotations

from contextlib import contextmanager
from types import SimpleNamespace

import pytest
from recorder import Recorder
from run_context import Fault, ScriptedPool, diverged, trained

from aquasurf_ray.baselines import BASELINES
from aquasurf_ray.driver.candidates import unique_rows
from aquasurf_ray.driver.cluster.capacity import Workers
from aquasurf_ray.driver.cluster.slot import CostsJob
from aquasurf_ray.driver.errors import Interrupted, RunFailed, TaskAtFault
from aquasurf_ray.driver.events import Events, RunBegan, RunEnded, StoreWritten
from aquasurf_ray.driver.run import session
from aquasurf_ray.driver.run.lease_keeper import LeaseKeeper
from aquasurf_ray.driver.run.spec import RunSpec
from aquasurf_ray.driver.settings.reading import make_config
from aquasurf_ray.store import NewRun, RunHeld, Store, StoreError, this_process
from aquasurf_ray.tasks.objective import classification

TASK = SimpleNamespace(
    reference=None,
    digests={"data": "d"},
    name="t",
    objective=classification(),
    recipe=SimpleNamespace(epochs=8),
    time_limit=60.0,
    digest="d",
    baselines=(),
)


@pytest.fixture
def store(tmp_path):
    with Store.open(f"sqlite:///{tmp_path}/s.db") as opened:
        yield opened


@pytest.fixture(autouse=True)
def no_ray(monkeypatch):
    @contextmanager
    def watched(resume):
        yield SimpleNamespace(check=lambda: None)

    monkeypatch.setattr(session, "RayWatch", watched)


class Session:
    """A run of two functions with two seeds each, and everything that one session of it needs."""

    def __init__(self, store, answer=lambda job: trained(0.5), tuning=None, kind="confirm", ids=None, **settings):
        ids = ids or store.add_functions(unique_rows(["elu(x)", "tanh(x)"]))
        task = store.add_task("t", "1", "d", {})
        config = make_config({"task": "t", "health_gate": "off", **settings})
        stored = {"seeds": 2, "health_gate": "off", **(tuning or {})}
        new = NewRun("one", kind, task, stored, "digest", 0, 4, "storage", "0", identity_keys=("seeds",))
        self.store, self.recorder, self.stop = store, Recorder(), SimpleNamespace(received=None)
        self.pools, self.answer = [], answer
        self.spec = RunSpec(store.create_run(new, ids), config, TASK, True, 4, make_pool=self.make_pool)

    def make_pool(self, settings, n, resources, worker, events):
        self.pools.append(ScriptedPool(self.answer, *["here"] * n))
        self.settings, self.resources = settings, resources
        return self.pools[-1]

    def execute(self):
        workers = Workers(2, 1.0, 0.0)
        return session.execute(self.store, self.spec, workers, Events([self.recorder]), self.stop)

    @property
    def run(self):
        return self.store.run("one")


def test_a_session_requests_every_function_with_every_seed_and_finishes_the_run(store):
    one = Session(store, cpus_per_worker=2.5)
    result = one.execute()
    assert (result.evaluations, result.failed, result.ended, result.kind) == (4, 0, None, "confirm")
    (pool,) = one.pools
    assert sorted((job.function, job.seed) for _, job in pool.jobs) == [
        ("elu(x)", 0), ("elu(x)", 1), ("tanh(x)", 0), ("tanh(x)", 1),
    ]  # fmt: skip
    assert pool.closed
    assert (one.run.status, one.run.lease_owner) == ("finished", None)
    assert (one.settings.task, one.settings.threads, one.settings.storage, one.resources.cpus) == ("t", 2, "storage", 1)
    kinds = [type(event) for event in one.recorder.events]
    assert (kinds[0], one.recorder.of(RunEnded)[0].status) == (RunBegan, "finished")
    assert one.recorder.notes[-1].startswith("run 'one' is finished: 4 evaluations")


def test_the_choice_and_the_judgement_of_a_confirmation_have_the_same_workers(store):
    one = Session(store, tuning={"recipe_changes": ["", "learning_rate*2"], "rate_seeds": 1})
    one.execute()
    (pool,) = one.pools
    assert [job.seed for _, job in pool.jobs] == [2] * 4 + [0, 0, 1, 1], "the choosing seed, then the judging ones"
    assert pool.closed


def test_a_second_session_of_a_finished_run_trains_nothing(store):
    one = Session(store)
    one.execute()
    again = one.execute()
    assert (again.evaluations, one.pools[1].jobs) == (4, [])


def test_a_stop_interrupts_the_run_and_says_how_to_continue_it(store):
    one = Session(store)

    def answer(job):
        one.stop.received = "SIGTERM"
        return trained(0.5)

    one.answer = answer
    with pytest.raises(Interrupted, match="stopped by SIGTERM; to continue: aquasurf resume one"):
        one.execute()
    assert (one.run.status, one.run.lease_owner) == ("interrupted", None)
    assert one.pools[0].closed
    ended = one.recorder.of(RunEnded)[0]
    assert (ended.status, ended.message.partition(";")[0]) == ("interrupted", "stopped by SIGTERM")
    one.answer, one.stop.received = (lambda job: trained(0.5)), None
    assert one.execute().evaluations == 4


def test_a_run_that_must_train_everything_fails_when_something_failed_and_retries_it_when_resumed(store):
    def answer(job):
        if job.function == "tanh(x)":
            raise Fault("the worker died")
        return trained(0.5)

    one = Session(store, answer, max_attempts=1)
    with pytest.raises(RunFailed, match=r"2 of 4 evaluations failed .* the first tanh\(x\); once that is repaired: "):
        one.execute()
    assert one.run.status == "failed"
    one.answer = lambda job: trained(0.5)
    assert one.execute().failed == 0
    assert one.run.status == "finished"


def of_functions(store, functions, answer):
    """A session that evaluates functions whose costs are not to be had."""

    def costless(job):
        if isinstance(job, CostsJob):
            raise Fault("no cost")
        return answer(job)

    return Session(store, costless, kind="evaluate", ids=store.add_functions(unique_rows(functions)))


def test_an_evaluation_of_all_baselines_none_of_which_trains_blames_the_task(store):
    one = of_functions(store, ["erf(x)", *BASELINES], lambda job: diverged("loss is nan"))
    with pytest.raises(
        TaskAtFault, match=r"no baseline trains \(8 diverged; 8 of 8: loss is nan\).* aquasurf resume one"
    ):
        one.execute()
    assert one.run.status == "failed"
    assert {each.evaluation.status for each in store.snapshot(one.run.id).evaluations} == {"queued"}
    working = of_functions(store, ["erf(x)", *BASELINES], lambda job: trained(0.5))
    assert working.execute().evaluations == 2 * 9


def test_an_evaluation_of_a_few_functions_reports_that_they_diverge(store):
    one = of_functions(store, ["erf(x)", "relu(x)"], lambda job: diverged("loss is nan"))
    one.execute()
    assert {each.evaluation.status for each in store.snapshot(one.run.id).evaluations} == {"diverged"}


def test_a_database_that_goes_away_fails_the_run_with_the_command_that_continues_it(store, monkeypatch):
    one = Session(store)

    def broken(*arguments):
        raise StoreError("the disk is full")

    monkeypatch.setattr(store, "record_results", broken)
    with pytest.raises(RunFailed, match="the disk is full; everything finished is stored, to continue: aquasurf"):
        one.execute()
    monkeypatch.undo()
    assert (one.run.status, one.run.lease_owner) == ("failed", None)


def test_a_run_that_another_driver_has_is_refused(store):
    one = Session(store)
    lease = store.acquire_lease(one.spec.run.id, this_process(), lease_seconds=1)
    with LeaseKeeper(store, lease, 1.0), pytest.raises(RunHeld):
        one.execute()
    assert one.pools == []
    assert one.recorder.of(RunEnded)[0].status == "failed"


def test_the_callbacks_of_one_session_are_gone_after_it(store, tmp_path):
    one = Session(store, log=str(tmp_path / "log.jsonl"))
    one.execute()
    n_writes = len(one.recorder.of(StoreWritten))
    assert n_writes > 0
    store.add_task("later", "1", "later", {})
    assert len(one.recorder.of(StoreWritten)) == n_writes
    n_lines = len((tmp_path / "log.jsonl").read_text().splitlines())
    assert n_lines > 4, "each training begins and ends"
