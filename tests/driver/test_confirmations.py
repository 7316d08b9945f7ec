"""Winners are trained anew with seeds that they were not selected on, each training once, and told from the lucky."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from scripted_worker import ScriptedWorker, score_of

from aquasurf_ray.activations import BASELINES, register_unary, unregister
from aquasurf_ray.driver import confirm, evaluate, resume, search
from aquasurf_ray.driver.confirmations import read_confirmation
from aquasurf_ray.driver.errors import BadUse, RunFailed
from store import Store

pytestmark = pytest.mark.usefixtures("ray_here")

NAMES = ("tanh(tanh(x))", "erf(tanh(x))", "arctan(tanh(x))", "sigmoid(tanh(x))", "relu(tanh(x))", "elu(tanh(x))")


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("AQUASURF_STORE", raising=False)
    (tmp_path / "space.yaml").write_text("name: own\nnames:\n" + "".join(f"  - {name}\n" for name in NAMES))
    return f"sqlite:///{tmp_path}/runs.db"


def searched(here, **options):
    small = {"space": "space.yaml", "features": "outputs", "evaluations": 6, "workers": 1, "store": here, "name": "one"}
    return search("digits", worker=ScriptedWorker, **small, **options)


def confirmed(here, **options):
    return confirm("one", store=here, worker=ScriptedWorker, **options)


def test_a_search_confirms_its_best_and_says_what_chance_gave_them(here):
    result = searched(here, confirm=2, seeds=3)
    found = read_confirmation(result.confirmation, here)
    best = sorted(NAMES, key=score_of)[-2:]
    assert found.seeds == (1, 2, 3)
    assert {f.function for f in found.functions if not f.baseline} == set(best)
    assert [f.function for f in found.functions if f.baseline] == sorted(BASELINES, key=mean_of, reverse=True)
    relu = [score_of("relu(x)", seed) for seed in (1, 2, 3)]
    p_values = {}
    for function in found.functions:
        name, scores = function.function, [score_of(function.function, seed) for seed in (1, 2, 3)]
        low, high = stats.t.interval(0.95, 2, loc=np.mean(scores), scale=stats.sem(scores))
        assert function.selected == score_of(name)
        assert function.confirmed.mean == function.test.mean == pytest.approx(np.mean(scores))
        assert (function.confirmed.low, function.confirmed.high) == (pytest.approx(low), pytest.approx(high))
        assert function.shrinkage.observed == pytest.approx(score_of(name) - np.mean(scores))
        if name in best:
            p_values[name] = stats.ttest_rel(scores, relu).pvalue
            assert function.against_reference.p_value == pytest.approx(p_values[name])
            assert function.shrinkage.expected > 0
    lost = [score_of(name) - mean_of(name) for name in BASELINES]
    assert found.seed_effect == pytest.approx(np.median(lost))
    least = min(p_values, key=p_values.get)
    assert by_name(found)[least].against_reference.p_holm == pytest.approx(min(1, 2 * p_values[least]))


def mean_of(name):
    return np.mean([score_of(name, seed) for seed in (1, 2, 3)])


def by_name(found):
    return {function.function: function for function in found.functions}


def test_a_confirmation_takes_over_what_is_known_and_is_found_again(here):
    searched(here)
    best = max(NAMES, key=score_of)
    evaluate([best, "relu(x)"], "digits", seeds=2, worker=ScriptedWorker, store=here, workers=1, cpus_per_worker=0.4)
    first = confirmed(here, top=1, seeds=2)
    assert (first.evaluations, first.reused) == (2 * 9, 2), "seed 1 of two functions is known"
    again = confirmed(here, top=1, seeds=2)
    assert (again.name, again.evaluations) == (first.name, 18)
    with Store.open(here) as store:
        run = store.run(first.name)
        assert (run.kind, run.status) == ("confirm", "finished")
        assert {w.evaluation.seed for w in store.snapshot(run.id).evaluations} == {1, 2}
        scores = store.seed_scores(run.task_id, [store.find_function(best).id])
        assert list(scores.values()) == [{seed: score_of(best, seed) for seed in (0, 1, 2)}]
    assert resume(first.name, store=here, worker=ScriptedWorker).evaluations == 18
    with pytest.raises(BadUse, match=f"run '{first.name}' is a confirmation itself; confirm the run 'one'"):
        confirm(first.name, store=here)


def test_bad_use_is_told_before_anything_is_trained(here):
    register_unary("fail", lambda x: x * x + 1.7)
    try:
        with pytest.raises(RunFailed):
            evaluate(["fail(x)"], "digits", worker=ScriptedWorker, store=here, workers=1, name="one", max_attempts=1)
    finally:
        unregister("fail")
    with pytest.raises(BadUse, match="run 'one' has no winners: no function beside the baselines has come to a score"):
        confirmed(here)
    with pytest.raises(BadUse, match="top: at least one function is needed, got 0"):
        confirmed(here, top=0)
    with pytest.raises(BadUse, match="seeds: at least one is needed, got 0"):
        confirmed(here, seeds=0)
    with pytest.raises(BadUse, match="confirm: input should be greater than or equal to 1, got 0"):
        searched(here, confirm=0)
    with pytest.raises(BadUse, match="run 'one' is no search; confirm its best with: aquasurf confirm one"):
        resume("one", store=here, confirm=3)


def test_a_winner_that_diverges_has_no_mean_and_comes_last(here):
    searched(here)
    best = sorted(NAMES, key=score_of)[-2:]
    with Store.open(here) as store:
        spoil(store, best[1], seed=2)
    found = read_confirmation(confirmed(here, top=2, seeds=2).name, here)
    assert [f.function for f in found.functions[:2]] == best
    lost = found.functions[1]
    assert (lost.confirmed.mean, lost.confirmed.n_diverged, lost.against_reference.gain) == (None, 1, None)
    assert lost.shrinkage.observed is None


def spoil(store, name, seed):
    """Has a run of its own record that the training diverges."""
    from store import EvaluationResult, NewRun, this_process

    function, task = store.find_function(name), store.run("one").task_id
    run = store.create_run(NewRun("spoiler", "evaluate", task, {}, "s", 0, 1, None, "0"), [function.id])
    lease = store.acquire_lease(run.id, this_process())
    claim = store.claim(lease, function.id, seed, "proposal")
    store.record_result(lease, claim.evaluation_id, EvaluationResult("diverged", reason="loss is NaN"))
    store.release_lease(lease, "finished")
