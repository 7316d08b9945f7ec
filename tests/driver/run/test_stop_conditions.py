"""The stop conditions of a run, without workers: a signal, a request, a score, a time budget."""

from __future__ import annotations

import platform
from types import SimpleNamespace

import pytest
from run_context import add_functions, open_context

from aquasurf_ray.driver.run.stop_conditions import GRACE_SECONDS, End, StopConditions
from aquasurf_ray.driver.state.evaluations import EvaluationState
from aquasurf_ray.store import Store, this_process


@pytest.fixture
def store(tmp_path):
    with Store.open(f"sqlite:///{tmp_path}/s.db") as opened:
        yield opened


def conditions(store, **settings):
    context = open_context(store, "one", add_functions(store, 1), requested=False, **settings)
    signal = SimpleNamespace(received=None)
    return context, signal, StopConditions(context, signal, started=context.clock())


def score(context, value):
    context.history.evaluations.put(EvaluationState(1, 1, "f0(x)", 0, "suggestion", "done", value))


def test_none_is_met_by_a_run_that_has_none(store):
    context, _, stop = conditions(store)
    score(context, 1.0)
    context.clock.now += 1e6
    assert stop.met() is None


def test_a_signal_stops_the_run_and_leaves_time_for_work_under_way(store):
    context, signal, stop = conditions(store)
    signal.received = "SIGTERM"
    assert stop.met() == End("stopped by SIGTERM", "interrupted", True, context.clock() + GRACE_SECONDS)


def test_a_request_is_read_once_a_second(store):
    context, _, stop = conditions(store)
    assert store.request_stop(context.run.id, this_process())
    assert stop.met() is None, "the store was asked less than a second ago"
    context.clock.now += 1.0
    assert stop.met().text == f"stopped by 'aquasurf stop' from {platform.node()}"


@pytest.mark.parametrize(("until", "value"), [("val_accuracy>=0.9", 0.9), ("val_rmse<=0.1", -0.1)])
def test_a_score_that_is_reached_finishes_the_run(store, until, value):
    context, _, stop = conditions(store, until=until)
    score(context, value - 0.01)
    assert stop.met() is None
    score(context, value)
    end = stop.met()
    assert (end.text, end.status, end.is_stop) == (f"{until} is reached by f0(x)", "finished", False)


def test_a_time_budget_counts_from_the_start_of_the_session(store):
    context, _, stop = conditions(store, time_budget="2m")
    context.clock.now += 119.9
    assert stop.met() is None
    context.clock.now += 0.1
    end = stop.met()
    assert (end.text, end.status, end.is_stop) == ("the time budget of 2 min is spent", "interrupted", False)


def test_a_run_is_content_with_what_it_is_to_reach_and_can_go_on(here):
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
    with pytest.raises(BadUse, match="looks for large values"):
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
    with pytest.raises(BadUse, match=f"{option.replace('_', '-')}: input should be .*, got {re.escape(repr(value))}"):
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
