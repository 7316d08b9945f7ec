"""Winners are retrained with seeds that did not select them, each training once, and separated from lucky functions."""

from __future__ import annotations

import re
import sqlite3
from contextlib import closing
from dataclasses import replace

import numpy as np
import pytest
from recorder import Recorder
from scipy import stats
from scripted_worker import ScriptedWorker, score_of, score_with

from aquasurf_ray.activations import BASELINES
from aquasurf_ray.analysis.studies.confirmed_run import read_confirmation
from aquasurf_ray.driver import confirm, resume, search
from aquasurf_ray.driver.errors import BadUse
from aquasurf_ray.store import EvaluationResult, NewRun, Store, this_process

pytestmark = [pytest.mark.usefixtures("ray_here"), pytest.mark.slow]

NAMES = ("tanh(tanh(x))", "erf(tanh(x))", "arctan(tanh(x))", "sigmoid(tanh(x))", "relu(tanh(x))", "elu(tanh(x))")


SEEDS = (1, 2, 3)


@pytest.fixture(scope="module")
def searched(ray_here, tmp_path_factory):
    """A folder with the store of a search that had its two best confirmed, and the search's result."""
    folder = tmp_path_factory.mktemp("searched")
    (folder / "space.yaml").write_text("name: own\nnames:\n" + "".join(f"  - {name}\n" for name in NAMES))
    small = {"space": str(folder / "space.yaml"), "features": "outputs", "evaluations": 6, "workers": 1, "name": "one"}
    where = {"store": f"sqlite:///{folder}/runs.db", "storage": str(folder)}
    result = search("digits", worker=ScriptedWorker, confirm=2, seeds=3, **small, **where)
    return folder, result


@pytest.fixture
def here(searched, tmp_path, monkeypatch):
    """The URL of a copy of that store, in the working folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("AQUASURF_STORE", raising=False)
    with closing(sqlite3.connect(searched[0] / "runs.db")) as source, closing(sqlite3.connect("runs.db")) as copy:
        source.backup(copy)
    return f"sqlite:///{tmp_path}/runs.db"


def confirmed(here, **options):
    return confirm("one", store=here, worker=ScriptedWorker, workers=1, **options)


@pytest.mark.slow
def test_a_search_confirms_its_best_and_says_what_chance_gave_them(here, searched):
    result = searched[1]
    assert (result.kind, result.evaluations) == ("search", 14)
    with Store.open(here) as store:
        found = read_confirmation(store, result.confirmation)
    best = sorted(NAMES, key=score_of)[-2:]
    assert found.seeds == SEEDS
    assert {f.function for f in found.functions if not f.baseline} == set(best)
    assert [f.function for f in found.functions if f.baseline] == sorted(BASELINES, key=mean_of, reverse=True)
    relu = [score_of("relu(x)", seed) for seed in SEEDS]
    p_values = {}
    for function in found.functions:
        name, scores = function.function, [score_of(function.function, seed) for seed in SEEDS]
        low, high = stats.t.interval(0.95, 2, loc=np.mean(scores), scale=stats.sem(scores))
        assert function.selected == score_of(name)
        assert function.confirmed.mean == function.test.mean == pytest.approx(np.mean(scores))
        assert (function.confirmed.low, function.confirmed.high) == (pytest.approx(low), pytest.approx(high))
        assert function.shrinkage.observed == pytest.approx(score_of(name) - np.mean(scores))
        if name in best:
            p_values[name] = stats.ttest_rel(scores, relu).pvalue
            assert function.against_reference.p_value == pytest.approx(p_values[name])
            assert function.shrinkage.expected > 0
        else:
            assert function.shrinkage.expected is None
    lost = [score_of(name) - mean_of(name) for name in BASELINES]
    assert found.seed_effect == pytest.approx(np.median(lost))
    least = min(p_values, key=p_values.get)
    assert by_name(found)[least].against_reference.p_holm == pytest.approx(min(1, 2 * p_values[least]))


def test_a_search_and_its_confirmation_have_the_same_verdict_and_a_run_without_one_says_so(here, searched):
    best = max(sorted(NAMES, key=score_of)[-2:], key=mean_of)
    gain = 100 * (mean_of(best) - mean_of("relu(x)"))
    found = searched[1].verdict()
    assert re.search(rf"{re.escape(best)},? (beats relu\(x\) by|gains) [+]?{gain:.1f} points", found), found
    assert found.endswith("at the task's own rate, 3 seeds")
    again = confirmed(here, top=2, seeds=3)
    assert (again.verdict(), again.winner()) == (found, searched[1].winner())
    assert again.winner() == (None if found.startswith("no ") else best)
    with pytest.raises(BadUse, match="run 'one' has no verdict: nothing was confirmed; use confirm"):
        replace(searched[1], confirmation=None).verdict()


def mean_of(name):
    return np.mean([score_of(name, seed) for seed in SEEDS])


def by_name(found):
    return {function.function: function for function in found.functions}


def test_a_confirmation_takes_over_what_is_known_and_a_winner_that_diverges_comes_last(here):
    best = sorted(NAMES, key=score_of)[-2:]
    with Store.open(here) as store:
        spoil(store, best[1], seed=4)
    first = confirmed(here, top=2, seeds=4)
    assert (first.kind, first.evaluations, first.reused) == ("confirm", 4 * 10, 3 * 10 + 1)
    again = confirmed(here, top=2, seeds=4)
    assert (again.name, again.evaluations) == (first.name, 40)
    assert resume(first.name, store=here, worker=ScriptedWorker).evaluations == 40
    with Store.open(here) as store:
        found = read_confirmation(store, first.name)
    assert [f.function for f in found.functions[:2]] == best
    lost = found.functions[1]
    assert (lost.confirmed.mean, lost.confirmed.n_diverged, lost.against_reference.gain) == (None, 1, None)
    assert lost.shrinkage.observed is None
    with Store.open(here) as store:
        run, function = store.run(first.name), store.find_function(best[1]).id
        assert (run.kind, run.status) == ("confirm", "finished")
        known = {seed: score_of(best[1], seed) for seed in range(1, 4)} | {4: None}
        assert store.independent_scores(run.task_id, [function]) == {function: known}
    with pytest.raises(BadUse, match=f"run '{first.name}' is a confirmation itself; confirm the run 'one'"):
        confirm(first.name, store=here)


def test_a_top_larger_than_the_run_confirms_all_and_says_so(here, monkeypatch):
    budgets, recorder = [], Recorder()
    monkeypatch.setattr(
        "aquasurf_ray.driver.verbs.command.Command.execute", lambda command, spec: budgets.append(spec.budget)
    )
    confirmed(here, top=9, seeds=3, callbacks=[recorder])
    assert budgets == [3 * len(NAMES + BASELINES)]
    assert recorder.notes == ["fewer than 9 functions of run 'one' have a score besides the baselines; confirming 6"]


def test_bad_use_is_reported_before_anything_is_trained(here):
    with Store.open(here) as store:
        config = {"task": "digits", "task_digest": "d", "training_seed": 0}
        store.create_run(NewRun("empty", "search", store.run("one").task_id, config, "e", 0, 1, None, "0"))
    with pytest.raises(BadUse, match="run 'empty' has no winners: no function besides the baselines has a score"):
        confirm("empty", store=here)
    with pytest.raises(BadUse, match="top: at least one function is needed, got 0"):
        confirmed(here, top=0)
    with pytest.raises(BadUse, match="seeds: at least one is needed, got 0"):
        confirmed(here, seeds=0)
    with pytest.raises(BadUse, match="confirm must be at least 1, got 0"):
        resume("one", store=here, confirm=0)
    with pytest.raises(BadUse, match="is not a search; confirm its best with: aquasurf confirm one-confirm"):
        resume(confirmation_name(here), store=here, confirm=3)


def confirmation_name(here):
    with Store.open(here) as store:
        return next(run.name for run in store.runs() if run.kind == "confirm")


def spoil(store, name, seed):
    """Has a run of its own record that the training diverges."""
    function, task = store.find_function(name), store.run("one").task_id
    run = store.create_run(NewRun("spoiler", "evaluate", task, {}, "s", 0, 1, None, "0"), [function.id])
    lease = store.acquire_lease(run.id, this_process())
    claim = store.claim(lease, function.id, seed, "proposal")
    store.record_result(lease, claim.evaluation_id, EvaluationResult("diverged", reason="loss is NaN"))
    store.release_lease(lease, "finished")


def test_what_the_recipe_refuses_is_refused_before_anything_is_trained(here):
    with pytest.raises(BadUse, match="tune: 'optimizer' is not a numeric field of the recipe; these are: epochs"):
        confirmed(here, tune="optimizer=1")
    with pytest.raises(BadUse, match="learning-rates: learning_rate must be positive and finite, got -"):
        confirmed(here, learning_rates=(-1, 1))


def test_the_best_baselines_of_the_choosing_seeds_are_judged_at_their_rates_and_no_others(here):
    rates = {"learning_rates": "0.5,1", "rate_seeds": 1, "judged_baselines": 2}
    result = confirmed(here, top=1, seeds=2, **rates)
    assert result.evaluations == result.budget == 9 * 2 + (1 + 1 + 2) * 2
    with Store.open(here) as store:
        found = read_confirmation(store, result.name)
        trained = {
            (each.function, each.evaluation.seed) for each in store.snapshot(store.run(result.name).id).evaluations
        }
    best_rate = {name: max(score_with(name, change, 3) for change in ("", "learning_rate*0.5")) for name in BASELINES}
    others = sorted(set(BASELINES) - {"relu(x)"}, key=best_rate.get)
    judged = {f.function for f in found.functions if f.baseline and f.is_judged}
    assert judged == {"relu(x)", *others[-2:]}
    assert {name for name, seed in trained if seed in (1, 2)} & set(BASELINES) == judged
    left_out = [f for f in found.functions if not f.is_judged]
    assert {f.function for f in left_out} == set(others[:-2])
    assert {(f.confirmed.mean, f.confirmed.n_diverged, f.test.n) for f in left_out} == {(None, 0, 0)}
    assert found.best_baseline in judged
    assert confirmed(here, top=1, seeds=2, **rates).name == result.name, "the same choice is made again"


def test_the_split_that_judges_is_another_confirmation_of_the_same_trainings(here):
    first = confirmed(here, top=2, seeds=2, learning_rates="1,2", rate_seeds=1)
    assert (first.evaluations, first.budget) == (10 * (2 + 2), 10 * (2 + 2))
    again = confirmed(here, top=2, seeds=2, learning_rates="1,2", rate_seeds=1, judge="validation")
    assert again.name != first.name
    assert again.reused == again.evaluations == first.evaluations
    with Store.open(here) as store:
        judges = [read_confirmation(store, name).judge for name in (first.name, again.name)]
        found = read_confirmation(store, first.name)
    assert judges == ["test", "validation"]
    for function in found.functions:
        tried = {change: score_with(function.function, change, 3) for change in ("", "learning_rate*2")}
        assert function.recipe_change == max(tried, key=tried.get)
        judged = [score_with(function.function, function.recipe_change, seed) for seed in (1, 2)]
        assert function.test.mean == pytest.approx(np.mean(judged))
