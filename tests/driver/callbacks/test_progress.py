"""Progress goes to standard error, says rate, time left, best so far and what runs now, and blocks nobody."""

from __future__ import annotations

import sys
from dataclasses import replace
from types import SimpleNamespace

import pytest

from aquasurf_ray import driver
from aquasurf_ray.driver.callbacks.progress import Bars, Lines, line_of, pace_of, sentence
from aquasurf_ray.driver.errors import BadUse
from aquasurf_ray.driver.events import Note, RunPace, RunProgress, RunView

VIEW = RunView(
    spectra=50,
    spectra_wanted=208,
    evaluations=3,
    evaluations_wanted=48,
    best=("swish(x)", 0.9312),
    running=("worker-1 trains elu(x)", "worker-2 spectra"),
    failed=1,
)


def test_the_sentence_tells_best_failures_and_what_runs():
    assert sentence(VIEW) == "best so far 0.9312 swish(x)  1 failed  now: worker-1 trains elu(x) | worker-2 spectra"


def test_a_metric_is_named_with_its_own_sign_and_early_stops_are_counted():
    view = replace(VIEW, best=("swish(x)", 0.25), metric="rmse", stopped_early=3, running=(), failed=0)
    assert sentence(view) == "best so far rmse 0.2500 swish(x)  3 stopped early"


def test_the_best_function_is_named_with_the_rate_that_it_was_trained_at():
    view = replace(VIEW, best_change="learning_rate*2", running=(), failed=0)
    assert sentence(view) == "best so far 0.9312 swish(x) with learning_rate*2"


def test_slow_work_is_reported_in_seconds_each_and_hours_and_fast_work_per_second():
    assert pace_of(RunPace(360.0, per_hour=10.0, seconds_left=35_640.0)) == "360.0 s each, 9:54:00 left"
    assert pace_of(RunPace(0.5, per_hour=14_400.0, seconds_left=41.0)) == "4.0/s, 0:41 left"


@pytest.mark.parametrize("pace", [RunPace(), RunPace(5.0), RunPace(spectrum_seconds=1.0, seconds_left=None)])
def test_what_is_not_known_is_not_said(pace):
    assert pace_of(pace) == ""
    assert "(" not in line_of(replace(VIEW, pace=pace, best=None, running=()))


def test_lines_come_at_intervals_on_standard_error(capsys):
    now = [0.0]
    lines = Lines(interval=10.0, clock=lambda: now[0])
    for now[0] in (1.0, 9.0, 11.0, 12.0, 22.0):
        lines.on_event(RunProgress(VIEW))
    captured = capsys.readouterr()
    assert captured.out == ""
    now = "now: worker-1 trains elu(x) | worker-2 spectra"
    assert captured.err == f"spectra 50/208, evaluations 3/48, best 0.9312 swish(x); {now}\n" * 2


def test_a_run_without_spectra_has_no_count_of_them(capsys):
    view = replace(VIEW, spectra=0, spectra_wanted=0)
    assert line_of(view).startswith("evaluations 3/48, best")
    bars = Bars()
    bars.on_event(RunProgress(view))
    bars.close()
    shown = capsys.readouterr().err
    assert "3/48" in shown
    assert "0/0" not in shown


def test_lines_have_the_rate_the_time_left_and_some_of_the_running_work(capsys):
    lines = Lines(interval=0.0)
    pace = RunPace(2.0, per_hour=1800.0, seconds_left=80.0)
    running = tuple(f"worker-{i} starts" for i in range(1, 8))
    lines.on_event(RunProgress(replace(VIEW, best=None, evaluations=8, running=running, pace=pace)))
    assert capsys.readouterr().err == (
        "spectra 50/208, evaluations 8/48 (2.0 s each, 1:20 left); "
        "now: worker-1 starts | worker-2 starts | worker-3 starts | worker-4 starts | 3 more\n"
    )


def test_bars_have_the_seconds_of_each_kind_of_work_and_the_time_left(capsys):
    bars = Bars()
    pace = RunPace(12.34, spectrum_seconds=0.123, cost_seconds=30.0, per_hour=292.0, seconds_left=80.0)
    bars.on_event(RunProgress(replace(VIEW, costs=20, costs_wanted=208, pace=pace)))
    bars.close()
    shown = capsys.readouterr().err
    assert all(text in shown for text in ("0.12 s each", "30 s each", "12.3 s each, 1:20 left"))


def test_costs_are_shown_where_they_are_wanted(capsys):
    lines, bars = Lines(interval=0.0), Bars()
    for view in (VIEW, replace(VIEW, costs=20, costs_wanted=208, stopped_early=1)):
        lines.on_event(RunProgress(view))
        bars.on_event(RunProgress(view))
    bars.close()
    shown = capsys.readouterr().err
    assert "spectra 50/208, evaluations 3/48, best" in shown
    assert "spectra 50/208, costs 20/208, evaluations 3/48, 1 stopped early, best" in shown
    assert "20/208" in shown.rpartition("stopped early, best")[2]


def test_bars_show_both_phases_and_leave_standard_output_alone(capsys):
    bars = Bars()
    bars.on_event(RunProgress(VIEW))
    bars.on_event(Note("a note [with brackets]"))
    bars.close()
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "spectra" in captured.err
    assert "50/208" in captured.err
    assert "evaluations" in captured.err
    assert "3/48" in captured.err
    assert "a note [with brackets]" in captured.err


@pytest.mark.parametrize(("verb", "carries_out"), [("search", "start_search"), ("build_benchmark", "start_build")])
def test_verbs_show_progress_in_python_unless_they_are_told_not_to(monkeypatch, capsys, verb, carries_out):
    given = []

    def carry_out(*arguments, callbacks, **options):
        for callback in callbacks:
            callback.on_event(Note("a spectrum takes 2 s"))
        given.append(callbacks)

    function = getattr(driver, verb)
    monkeypatch.setattr(sys.modules[function.__module__], carries_out, carry_out)
    seen, own = [], SimpleNamespace(on_event=lambda event: seen.append(event.text))
    function("digits", callbacks=[own])
    assert capsys.readouterr().err == "a spectrum takes 2 s\n"
    function("digits", callbacks=[own], progress=False)
    assert capsys.readouterr().err == ""
    assert seen == ["a spectrum takes 2 s"] * 2
    assert [len(callbacks) for callbacks in given] == [2, 1]


class Listener:
    """A callback, to be created before it is given."""

    def on_event(self, event):
        raise AssertionError("nothing was begun")


@pytest.mark.parametrize("verb", ["search", "evaluate"])
@pytest.mark.parametrize(
    ("given", "problem"),
    [
        (Listener(), r"callbacks must be a list, got <.*Listener.*; write callbacks=\[MyCallback\(\)\]"),
        ("progress", "callbacks must be a list, got 'progress'"),
        ([Listener], r"a callback must be an object with a method on_event\(event\), got .*; create one: Listener\(\)"),
        ([print], "got <built-in function print>; put a function into a class, as docs/callbacks.md shows"),
        ([SimpleNamespace(on_event=1)], "got namespace"),
    ],
    ids=["no list", "text", "class", "function", "no method"],
)
def test_what_is_no_list_of_callbacks_is_refused_before_anything_begins(verb, given, problem):
    function = getattr(driver, verb)
    arguments = ("digits",) if verb == "search" else (["relu(x)"], "digits")
    with pytest.raises(BadUse, match=problem):
        function(*arguments, callbacks=given)
