"""The loop of a run with workers that answer at once: the budget, retries, failures in a row, the end by a stop."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest
from run_context import Fault, ScriptedPool, add_functions, diverged, events_of, open_context, trained

from aquasurf_ray.driver.cluster.slot import SpectraJob
from aquasurf_ray.driver.errors import TaskAtFault, WorkersFailed
from aquasurf_ray.driver.events import (
    EvaluationDrained,
    EvaluationEnded,
    EvaluationFailed,
    EvaluationStarted,
    RunEnding,
    RunPace,
    RunProgress,
)
from aquasurf_ray.driver.run.claims import Budget
from aquasurf_ray.driver.run.loop import FAILURES_IN_A_ROW, SearchLoop
from aquasurf_ray.driver.run.stop_conditions import StopConditions
from aquasurf_ray.store import Store
from aquasurf_ray.tasks.objective import classification
from aquasurf_ray.workers.messages import Drained, SpectrumReply

TASK = SimpleNamespace(objective=classification(), recipe=SimpleNamespace(epochs=8), time_limit=60.0, digest="d")


@pytest.fixture
def store(tmp_path):
    with Store.open(f"sqlite:///{tmp_path}/s.db") as opened:
        yield opened


def looping(store, answer, n=3, *, nodes=("a", "b"), kind="confirm", n_baselines=0, **settings):
    """A loop over the queue of a run, by default of a kind that measures no costs and suggests nothing."""
    ids = add_functions(store, n)
    pool = ScriptedPool(answer, *nodes)
    context = open_context(store, "one", ids, kind=kind, pool=pool, **settings)
    signal = SimpleNamespace(received=None)
    stop = StopConditions(context, signal, started=context.clock())
    budget = Budget(tuple(context.history.candidates[:n_baselines]), n)
    return context, signal, SearchLoop(context, TASK, budget, None, stop, lambda: None)


def statuses(store, context):
    return {entry.function: entry.evaluation.status for entry in store.snapshot(context.run.id).evaluations}


def score_of(job):
    return trained(int(job.function[1]) / 10)


def test_every_requested_evaluation_is_trained_once_stored_and_reported(store):
    context, _, loop = looping(store, score_of)
    assert loop.run() is None
    assert not loop.unmet()
    assert [(name, job.function, job.seed) for name, job in context.pool.jobs] == [
        ("worker-1", "f0(x)", 0), ("worker-2", "f1(x)", 0), ("worker-1", "f2(x)", 0),
    ]  # fmt: skip
    assert statuses(store, context) == dict.fromkeys(("f0(x)", "f1(x)", "f2(x)"), "done")
    assert context.history.best() == ("f2(x)", 0.2)
    assert context.pool.forgotten == ["f0(x)", "f1(x)", "f2(x)"], "checkpoints of what is stored"
    ended = [(event.function, event.score, event.number, event.best) for event in events_of(context, EvaluationEnded)]
    assert ended == [("f0(x)", 0.0, 1, 0.0), ("f1(x)", 0.1, 2, 0.1), ("f2(x)", 0.2, 3, 0.2)]
    last = events_of(context, RunProgress)[-1].view
    assert (last.evaluations, last.training, last.queued, last.best) == (3, 0, 0, ("f2(x)", 0.2))


def test_the_total_of_a_run_that_trains_what_it_is_given_counts_its_baselines_once(store):
    context, _, loop = looping(store, score_of, n_baselines=2)
    loop.run()
    views = [event.view for event in events_of(context, RunProgress)]
    assert [(view.evaluations, view.evaluations_wanted) for view in (views[0], views[-1])] == [(0, 3), (3, 3)]
    assert context.store.status(context.run.id).wanted == 3


def test_a_view_has_the_pace_of_the_workers_and_the_time_of_all_that_is_left(store):
    """Also of what this part of the run does not request: the judging seeds of a confirmation follow their choice."""
    context, _, loop = looping(store, score_of)
    loop.budget = Budget((), 7)
    loop.run()
    first, *_, last = [event.view.pace for event in events_of(context, RunProgress)]
    assert first == RunPace()
    assert last == RunPace(last.training_seconds, per_hour=7200 / last.training_seconds, seconds_left=last.seconds_left)
    assert last.seconds_left == pytest.approx(2 * last.training_seconds), "four more with two workers"


def test_a_function_that_diverges_has_a_result_and_is_not_tried_again(store):
    context, _, loop = looping(store, lambda job: diverged("the loss is NaN") if "1" in job.function else score_of(job))
    assert loop.run() is None
    assert statuses(store, context)["f1(x)"] == "diverged"
    assert [job.function for _, job in context.pool.jobs].count("f1(x)") == 1
    assert context.history.n_failed() == 0


def test_a_failure_of_a_worker_is_retried_on_another_one_until_it_succeeds(store):
    failed = []

    def answer(job):
        if job.function == "f0(x)" and not failed:
            failed.append(job)
            raise Fault("the worker died")
        return score_of(job)

    context, _, loop = looping(store, answer, n=1)
    assert loop.run() is None
    assert [name for name, _ in context.pool.jobs] == ["worker-1", "worker-2"]
    (event,) = events_of(context, EvaluationFailed)
    assert (event.error, event.attempts, event.final) == ("the worker died", 1, False)
    assert statuses(store, context) == {"f0(x)": "done"}


def test_a_spectrum_is_retried_on_another_worker_which_gets_it_though_the_first_has_nothing_to_do(store):
    failed = []

    def answer(job):
        if not failed:
            failed.append(job)
            raise Fault("the worker died")
        return [SpectrumReply(name, "done", None, b"packed", 1.0, "cpu") for name in job.functions]

    context, _, loop = looping(store, answer, n=1, kind="build", requested=False)
    assert loop.run() is None
    assert context.pool.jobs == [("worker-1", SpectraJob(("f0(x)",))), ("worker-2", SpectraJob(("f0(x)",)))]
    assert [record.feature for record in context.history.spectra.values()] == [b"packed"]


def test_an_evaluation_is_given_up_after_the_attempts_that_the_run_allows(store):
    def answer(job):
        if job.function == "f0(x)":
            raise Fault("the worker died")
        return score_of(job)

    context, _, loop = looping(store, answer, max_attempts=2)
    assert loop.run() is None
    assert [event.final for event in events_of(context, EvaluationFailed)] == [False, True]
    assert statuses(store, context) == {"f0(x)": "failed", "f1(x)": "done", "f2(x)": "done"}
    assert (context.history.n_failed(), loop.unmet()) == (1, True)


def test_many_functions_that_fail_in_a_row_end_the_run_and_leave_the_rest_queued(store):
    def answer(job):
        raise Fault("no space left on device")

    context, _, loop = looping(store, answer, n=FAILURES_IN_A_ROW + 2, nodes=("a",), max_attempts=1)
    with pytest.raises(WorkersFailed, match="the last 5 functions failed on their workers; the last: no space left"):
        loop.run()
    assert sorted(statuses(store, context).values()) == ["failed"] * FAILURES_IN_A_ROW + ["queued"] * 2


def test_baselines_that_fail_in_a_row_before_anything_trains_are_blamed_on_the_task_or_the_machines(store):
    def answer(job):
        raise Fault("shapes cannot be multiplied")

    context, _, loop = looping(store, answer, n=9, nodes=("a",), n_baselines=8, max_attempts=1)
    with pytest.raises(TaskAtFault) as raised:
        loop.run()
    assert str(raised.value) == (
        "no baseline trains (5 failed, 3 without a result; 5 of 5: shapes cannot be multiplied), so the fault is the "
        "task's or the machines' and not the functions': look at the task with 'aquasurf task check t', at a machine "
        "with 'aquasurf doctor'"
    )
    assert sorted(statuses(store, context).values()) == ["failed"] * 5 + ["queued"] * 4


def test_baselines_that_fail_in_a_row_after_one_has_trained_are_blamed_on_the_workers(store):
    def answer(job):
        if job.function == "f0(x)":
            return trained(0.5)
        raise Fault("no space left on device")

    _, _, loop = looping(store, answer, n=8, nodes=("a",), n_baselines=8, max_attempts=1)
    with pytest.raises(WorkersFailed, match="the last 5 functions failed on their workers"):
        loop.run()


def test_failures_with_successes_between_them_do_not_end_the_run(store):
    def answer(job):
        if int(job.function[1]) % 2:
            raise Fault("the worker died")
        return score_of(job)

    context, _, loop = looping(store, answer, n=10, nodes=("a",), max_attempts=1)
    assert loop.run() is None
    assert context.history.n_failed() == 5


def test_a_signal_gives_out_no_more_work_and_keeps_the_results_that_arrive(store):
    context, signal, loop = looping(store, score_of, n=4)

    def answer(job):
        signal.received = "SIGTERM"
        return Drained(3) if job.function == "f1(x)" else score_of(job)

    context.pool.answer = answer
    end = loop.run()
    assert (end.text, end.status, end.is_stop) == ("stopped by SIGTERM", "interrupted", True)
    assert events_of(context, RunEnding)
    assert len(events_of(context, EvaluationStarted)) == 2
    assert [(event.function, event.epochs) for event in events_of(context, EvaluationDrained)] == [("f1(x)", 3)]
    found = statuses(store, context)
    assert (found["f0(x)"], found["f2(x)"], found["f3(x)"]) == ("done", "queued", "queued")


def test_work_that_does_not_end_in_time_is_left_when_the_time_is_over(store):
    context, signal, loop = looping(store, score_of, n=1, nodes=("a",))
    polls = []

    def poll(timeout):
        polls.append(timeout)
        signal.received = "SIGINT"
        context.clock.now += 20.0
        return []

    context.pool.poll = poll
    assert loop.run().text == "stopped by SIGINT"
    assert context.pool.drained
    assert len(polls) == 1 + 3, "45 seconds of grace"
    assert statuses(store, context) == {"f0(x)": "running"}


def test_a_run_that_another_driver_has_taken_over_ends_at_the_next_step(store):
    context, _, loop = looping(store, score_of)
    loop.check = lambda: (_ for _ in ()).throw(RuntimeError("lost"))
    with pytest.raises(RuntimeError, match="lost"):
        loop.run()
    assert context.pool.jobs == []


def test_the_worker_of_a_training_and_its_epoch_are_in_the_view(store):
    context, _, loop = looping(store, score_of, n=1)
    loop._assign()
    assert loop.view().running == ("worker-1 trains f0(x)",)
    slot = context.pool.slots[0]
    slot.work = replace(slot.work, epoch=4)
    assert loop.view().running == ("worker-1 trains f0(x) (epoch 4 done)",)
    assert (loop.view().training, loop.view().workers) == (1, {"busy": 1, "idle": 1})
