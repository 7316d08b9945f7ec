"""What functions cost is measured before they are trained, and a run may mind the price; trainings may end early."""

from __future__ import annotations

import shutil
from collections import Counter
from statistics import median

import pytest
from recorder import Recorder
from scripted_worker import EPOCHS, ScriptedWorker, curve_of, price_of

from aquasurf_ray.activations import BASELINES
from aquasurf_ray.driver import evaluate, propose, resume, search
from aquasurf_ray.store import Store

pytestmark = pytest.mark.usefixtures("ray_here")

DEAREST = 0.8
"""About three in ten of the scripted functions cost less."""


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return f"sqlite:///{tmp_path}/runs.db"


def scripted(here, **options):
    chosen = {"candidates": 40, "evaluations": 12, "cpus_per_worker": 0.4, "workers": 1, "store": here, **options}
    return search("digits", worker=ScriptedWorker, **chosen)


def requests(here, name):
    with Store.open(here, create=False) as store:
        return store.snapshot(store.run(name).id).evaluations


def candidates_and_costs(here, name):
    with Store.open(here, create=False) as store:
        run = store.run(name)
        names = {function.id: function.name for function in store.candidates(run.id)}
        return names, {names[i]: cost for i, cost in store.costs(run.task_id, names, device="cpu").items()}


def cost_events(here, name):
    with Store.open(here, create=False) as store:
        return [event for event in store.events(store.run(name).id) if event.kind == "costs"]


@pytest.fixture(scope="module")
def hasty(tmp_path_factory):
    """A run that stops trainings early: what it returned, its recorder, and its database, which is not to change."""
    folder, recorder = tmp_path_factory.mktemp("hasty"), Recorder()
    url = f"sqlite:///{folder}/runs.db"
    result = scripted(url, name="hasty", early_stop="median", storage=str(folder), callbacks=[recorder])
    return result, recorder, url


@pytest.mark.slow
def test_every_trained_function_has_its_cost_measured_once(hasty):
    _, _, url = hasty
    _, costs = candidates_and_costs(url, "hasty")
    assert costs.keys() == {request.function for request in requests(url, "hasty")}
    assert {name: cost.time_ratio for name, cost in costs.items()} == pytest.approx({n: price_of(n) for n in costs})
    assert costs["relu(x)"].time_ratio == 1
    assert len(cost_events(url, "hasty")) == len(costs)


@pytest.mark.slow
def test_the_rule_of_each_training_is_in_the_log_whether_it_ended_the_training_or_not(hasty):
    _, _, url = hasty
    found = requests(url, "hasty")
    with Store.open(url, create=False) as store:
        started = [e for e in store.events(store.run("hasty").id) if e.kind == "started"]
    rules = {e.evaluation_id: e.data.get("stop_rule") for e in started}
    suggested = [w.evaluation for w in found if w.origin == "suggestion"]
    assert {tuple(epoch for epoch, _ in rules[e.id]) for e in suggested} == {(EPOCHS // 4, EPOCHS // 2)}
    assert {bool(e.stopped_early) for e in suggested} == {True, False}
    assert all(rules[w.evaluation.id] is None for w in found if w.origin == "baseline")


def test_a_run_with_a_cost_limit_suggests_nothing_above_it_and_nothing_unmeasured(here):
    recorder = Recorder()
    scripted(here, name="cheap", max_cost=DEAREST, evaluations=5, callbacks=[recorder])
    found = requests(here, "cheap")
    assert Counter(w.origin for w in found) == {"baseline": 8, "suggestion": 5}
    assert all(price_of(w.function) <= DEAREST for w in found if w.origin == "suggestion")
    assert [w.function for w in found[:8]] == list(BASELINES), "baselines are trained whatever they cost"
    assert any(price_of(name) > DEAREST for name in BASELINES)
    assert recorder.views[-1].costs_wanted == 48
    seen, first = 0, next(w.suggested_at for w in found if w.origin == "suggestion")
    for event in cost_events(here, "cheap"):
        seen += len(event.data["function_ids"]) if event.at <= first else 0
    assert seen >= 32, "the first suggestion waited for the costs of all that it chose from"


def test_a_run_whose_candidates_are_all_too_expensive_ends_and_says_so(here):
    recorder = Recorder()
    result = scripted(here, name="cheap", max_cost=DEAREST, features="outputs", evaluations=40, callbacks=[recorder])
    names, costs = candidates_and_costs(here, "cheap")
    affordable = {name for name in names.values() if price_of(name) <= DEAREST}
    trained = {w.function for w in requests(here, "cheap")}
    assert trained == affordable | set(BASELINES)
    assert costs.keys() == set(names.values()), "all were looked at"
    assert result.exhausted
    assert result.too_costly == len(set(names.values()) - trained)
    assert f"except {result.too_costly} that cost more than 0.8 times ReLU" in recorder.notes[-1]


@pytest.mark.slow
def test_hopeless_suggestions_end_early_by_the_medians_of_all_that_got_as_far(hasty):
    result, recorder, url = hasty
    found = requests(url, "hasty")
    ended = [w for w in found if w.evaluation.stopped_early]
    assert result.evaluations == 20, "a stopped training counts"
    assert result.stopped_early == recorder.views[-1].stopped_early == len(ended) > 0
    before: dict[int, list[float]] = {EPOCHS // 4: [], EPOCHS // 2: []}
    for request in found:  # with one worker, each was stopped or not by those before it
        curve, ends = curve_of(request.function), EPOCHS
        for epoch, scores in before.items():
            hopeless = len(scores) >= 5 and curve[epoch - 1] < median(scores)
            ends = min(ends, epoch) if request.origin == "suggestion" and hopeless else ends
        assert request.evaluation.epochs == ends
        assert (request.evaluation.stopped_early is not None) == (ends < EPOCHS)
        for epoch in [epoch for epoch in before if epoch <= ends]:
            before[epoch].append(curve[epoch - 1])
    assert f"after epoch {EPOCHS // 4} of {EPOCHS} is below" in min(w.evaluation.stopped_early for w in ended)


@pytest.mark.slow
def test_a_stopped_training_is_whole_where_people_or_other_runs_want_it(here, hasty, tmp_path):
    shutil.copy(hasty[2].removeprefix("sqlite:///"), tmp_path / "runs.db")
    ended = [w.function for w in requests(here, "hasty") if w.evaluation.stopped_early]
    ((_, proposal),) = propose("hasty", ended[:1], store=here)
    assert proposal.status == "queued"
    resume("hasty", store=here, worker=ScriptedWorker, evaluations=13)
    (again,) = (w.evaluation for w in requests(here, "hasty") if w.function == ended[0])
    assert (again.status, again.epochs, again.stopped_early) == ("done", EPOCHS, None), "people asked for it"
    evaluate(ended[1:2], "digits", store=here, workers=1, name="whole", worker=ScriptedWorker)
    assert [w.evaluation.epochs for w in requests(here, "whole")] == [EPOCHS]
    scripted(here, name="patient")
    found = requests(here, "patient")
    assert all(w.evaluation.epochs == EPOCHS for w in found)
    assert any(w.function in ended and not w.reused for w in found), "none came twice; the test would show nothing"
    assert cost_events(here, "whole") == [], "known costs are not measured again"
