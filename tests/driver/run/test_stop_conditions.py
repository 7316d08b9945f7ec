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


def test_a_signal_comes_before_a_score(store):
    context, signal, stop = conditions(store, until="val_accuracy>=0.5", time_budget=1)
    score(context, 0.9)
    context.clock.now += 10
    assert "is reached" in stop.met().text
    signal.received = "SIGINT"
    assert stop.met().is_stop
