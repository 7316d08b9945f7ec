"""What a session says at its beginning and at its end, and when a run has nothing left to do."""

from __future__ import annotations

from dataclasses import replace
from importlib.metadata import version
from types import SimpleNamespace

import pytest
from recorder import Recorder
from run_context import add_functions, open_context

from aquasurf_ray.driver.events import Events
from aquasurf_ray.driver.run.spec import RunResult, RunSpec
from aquasurf_ray.driver.run.summary import (
    end_notes,
    finished,
    missing,
    note_conditions,
    result_of,
    resume_command,
)
from aquasurf_ray.driver.state.history import History
from aquasurf_ray.store import EvaluationResult, Store

RESULT = RunResult("one", 3, 7, ("f0(x)", 0.5), 12.4, False, 0, 0)


@pytest.fixture
def store(tmp_path):
    with Store.open(f"sqlite:///{tmp_path}/s.db") as opened:
        yield opened


def run_of(store, *, kind="confirm", n=2, trained=2, message=None, status="finished", scores=None, **settings):
    """A run whose first functions are trained, and the specification of its next session."""
    ids = add_functions(store, n)
    context = open_context(store, "one", ids, kind=kind, **settings)
    for number, function in enumerate(ids[:trained]):
        claim = store.claim(context.lease, function, 0, "proposal")
        score = scores[number] if scores else number / 10
        store.record_result(context.lease, claim.evaluation_id, EvaluationResult("done", score=score))
    store.release_lease(context.lease, status, message)
    return RunSpec(store.run("one"), context.config, SimpleNamespace(reference="f0(x)"), True, n)


def found(store, spec):
    recorder = Recorder()
    return finished(store, spec, Events([recorder])), recorder.notes


def test_a_finished_run_has_its_result_at_once(store):
    result, notes = found(store, run_of(store))
    assert (result.evaluations, result.best, result.ended) == (2, ("f1(x)", 0.1), None)
    assert notes == ["run 'one' is finished: 2 evaluations"]


@pytest.mark.parametrize(("scores", "tied"), [((0.5,) * 3, 3), ((0.5,) * 2, 0), ((0.5, 0.5, 0.25), 0)])
def test_functions_that_all_have_one_score_are_counted(store, scores, tied):
    spec = run_of(store, n=len(scores), trained=len(scores), scores=scores)
    assert found(store, spec)[0].tied == tied


@pytest.mark.parametrize("status", ["interrupted", "failed"])
def test_a_run_that_is_not_finished_has_something_left(store, status):
    assert found(store, run_of(store, status=status)) == (None, [])


def test_a_finished_run_with_a_larger_budget_or_with_new_requests_has_something_left(store):
    spec = run_of(store)
    assert found(store, replace(spec, budget=5)) == (None, [])
    (late,) = add_functions(store, 1, kind="late")
    store.propose(spec.run.id, [late], 0)
    assert found(store, spec) == (None, [])


def test_a_run_that_ended_at_its_goal_is_finished_as_long_as_the_goal_is_the_same(store):
    spec = run_of(store, kind="search", n=4, until="val_accuracy>=0.1", message="val_accuracy>=0.1 is reached by f1(x)")
    result, notes = found(store, spec)
    assert result.ended == "val_accuracy>=0.1 is reached by f1(x)"
    assert notes == ["run 'one' is finished: val_accuracy>=0.1 is reached by f1(x)"]
    for until in (None, "val_accuracy>=0.9"):
        changed = replace(spec, config=spec.config.model_copy(update={"until": until}))
        assert found(store, changed) == (None, [])


@pytest.mark.parametrize(
    ("change", "notes"),
    [
        ({}, ["run 'one' is finished: 7 evaluations, 12 s in this session"]),
        (
            {"ended": "the time budget of 1m is spent"},
            [
                "run 'one' ends, the time budget of 1m is spent: 7 evaluations, 12 s in this session; "
                "to continue: resume"
            ],
        ),
        ({"reused": 2}, [..., "2 of them were taken from other runs of the task, without training"]),
        ({"diverged": 1}, [..., "1 diverged; for the reasons: aquasurf status one"]),
        ({"failed": 1}, [..., "1 function failed on its worker; for the reasons: aquasurf status one"]),
        (
            {"diverged": 7, "diverged_reference": "relu(x)", "diverged_baselines": 5},
            [
                ...,
                "7 diverged, among them the reference relu(x) and 4 other baselines, so no gain is known, and the "
                "recipe's learning rate may be too high for the task; for the reasons: aquasurf status one",
            ],
        ),
        ({"failed": 3}, [..., "3 functions failed on their workers; for the reasons: aquasurf status one"]),
        (
            {"tied": 9},
            [
                ...,
                "all 9 functions have the same score, so the network may give one answer for every example: train it "
                "longer or at another learning rate, or choose a finer metric",
            ],
        ),
        ({"stopped_early": 4}, [..., "4 were stopped early, for low scores in their first epochs"]),
        (
            {"exhausted": True},
            [
                ...,
                "all candidates are trained before the budget of 3 is met; a run of another name can have more "
                "candidates",
            ],
        ),
    ],
)
def test_the_end_of_a_run_is_reported_with_what_was_special(change, notes):
    said = list(end_notes(replace(RESULT, **change), None, "resume"))
    assert len(said) == len(notes)
    assert [text for text, expected in zip(said, notes, strict=True) if expected not in (text, ...)] == []


@pytest.mark.parametrize(("statuses", "found"), [(["diverged"] * 2, ("f0(x)", 2)), (["done", "diverged"], (None, 1))])
def test_a_result_says_whether_the_reference_diverged_and_how_many_baselines(store, statuses, found):
    ids = add_functions(store, 2)
    context = open_context(store, "one", ids, requested=False)
    for function, status in zip(ids, statuses, strict=True):
        claim = store.claim(context.lease, function, 0, "baseline")
        ended = EvaluationResult("done", score=0.5) if status == "done" else EvaluationResult(status, reason="nan")
        store.record_result(context.lease, claim.evaluation_id, ended)
    spec = RunSpec(store.run("one"), context.config, SimpleNamespace(reference="f0(x)"), True, 2)
    result = result_of(spec, History.of(store.snapshot(spec.run.id), {}), 0.0, exhausted=False)
    assert (result.diverged_reference, result.diverged_baselines) == found


def test_candidates_that_cost_too_much_are_counted_at_the_end():
    (*_, text) = end_notes(replace(RESULT, exhausted=True, too_costly=5), 1.5, "resume")
    assert "except 5 that cost more than 1.5 times" in text


def test_the_conditions_that_a_resumed_run_has_are_noted(store):
    spec = run_of(store, trained=1, status="interrupted")
    recorder, history = Recorder(), SimpleNamespace(spectra={1: None}, n_finished=lambda baselines: 1)
    note_conditions(history, spec, Events([recorder]))
    assert recorder.notes == [
        f"run 'one' was begun by version 0 and continues under {version('aquasurf-ray')}",
        "run 'one': 1 spectrum of its candidates and 1 evaluation of its own are in the store already and are used "
        "again",
    ]


@pytest.mark.parametrize(
    ("name", "settings", "url", "command"),
    [
        ("one", {}, "sqlite:///a.db", "aquasurf resume one"),
        ("my run", {}, "sqlite:///a.db", "aquasurf resume 'my run'"),
        ("one", {"address": "auto"}, "sqlite:///a.db", "aquasurf resume one --address auto"),
        ("one", {"store": "sqlite:///a.db"}, "sqlite:///a.db", "aquasurf resume one --store sqlite:///a.db"),
        ("one", {"store": "postgresql://me:secret@db/x"}, "postgresql://me:***@db/x",
         "aquasurf resume one --store (the same URL)"),
    ],
)  # fmt: skip
def test_the_command_that_continues_a_run_has_no_password(name, settings, url, command):
    config = SimpleNamespace(address=settings.get("address"), store=settings.get("store"))
    spec = SimpleNamespace(run=SimpleNamespace(name=name), config=config)
    assert resume_command(SimpleNamespace(safe_url=url), spec) == command


def test_what_is_missing_is_named_evaluations_before_spectra():
    failed = {1: SimpleNamespace(status="failed", function="f(x)"), 2: SimpleNamespace(status="done", function="g(x)")}
    functions = [SimpleNamespace(id=1, name="f(x)"), SimpleNamespace(id=2, name="g(x)")]
    history = SimpleNamespace(evaluations=failed, candidates=functions, spectra_failed={2})
    assert missing(history) == "1 of 2 evaluations failed on their workers, the first f(x)"
    del failed[1]
    assert missing(history) == "1 of 2 spectra failed on their workers, the first g(x)"
    history.spectra_failed = set()
    assert missing(history) is None
