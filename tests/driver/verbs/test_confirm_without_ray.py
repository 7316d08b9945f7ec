"""Which functions a confirmation retrains, with which seeds and settings, and which run it is. Without Ray."""

from __future__ import annotations

from dataclasses import replace

import pytest

from aquasurf_ray.activations import BASELINES
from aquasurf_ray.driver import confirm, search
from aquasurf_ray.driver.candidates import unique_rows
from aquasurf_ray.driver.errors import BadUse
from aquasurf_ray.store import EvaluationResult, NewRun, RunNotFound, Store, this_process
from aquasurf_ray.tasks import load_task

SMALL = {"candidates": 4, "evaluations": 2, "features": "outputs", "name": "one"}


@pytest.fixture
def searched(here, cluster):
    """The cluster after a search whose last candidates have the highest scores."""
    search("digits", store=here, **SMALL)
    return cluster


def add_result(here, function, seed, **result):
    """Add a result of the best score to the search."""
    with Store.open(here) as store:
        lease = store.acquire_lease(store.run("one").id, this_process(), lease_seconds=60)
        (number,) = store.add_functions(unique_rows([function]))
        claim = store.claim(lease, number, seed, "suggestion")
        store.record_result(lease, claim.evaluation_id, EvaluationResult("done", score=0.99, **result))
        store.release_lease(lease, "finished")


def best_of(here, n):
    """The names of the best functions of the search, as the store ranks them."""
    with Store.open(here) as store:
        rows = store.leaderboard(run_id=store.run("one").id)
    return [row.function for row in rows if row.function not in BASELINES][:n]


def confirmed(here, name):
    with Store.open(here) as store:
        return {function.name for function in store.candidates(store.run(name).id)} - set(BASELINES)


def test_the_best_functions_are_retrained_with_seeds_after_the_one_that_selected_them(here, cluster):
    search("digits", store=here, training_seed=3, **SMALL)
    result = confirm("one", top=2, seeds=3, store=here)
    spec = cluster.specs[-1]
    assert (spec.run.kind, spec.budget) == ("confirm", 3 * (len(BASELINES) + 2))
    with Store.open(here) as store:
        evaluations = store.snapshot(store.run(result.name).id).evaluations
    assert {entry.evaluation.seed for entry in evaluations} == {4, 5, 6}
    assert confirmed(here, result.name) == set(best_of(here, 2))


def test_results_of_other_seeds_and_of_trainings_that_were_stopped_early_select_no_function(here, searched):
    before = best_of(here, 2)
    add_result(here, "erf(erf(erf(x)))", seed=5)
    add_result(here, "tanh(tanh(tanh(x)))", seed=0, stopped_early="median at epoch 2")
    assert set(best_of(here, 2)) == {"erf(erf(erf(x)))", "tanh(tanh(tanh(x)))"}, "by the score alone they are ahead"
    assert confirmed(here, confirm("one", top=2, seeds=1, store=here).name) == set(before)


def test_a_confirmation_is_found_again_until_the_search_has_other_winners(here, searched):
    first = confirm("one", top=2, seeds=2, store=here).name
    assert confirm("one", top=2, seeds=2, store=here, workers=1, max_attempts=7).name == first
    assert len(searched.joined) == 2, "the second time it was finished"
    add_result(here, "erf(erf(erf(x)))", seed=0)
    later = confirm("one", top=2, seeds=2, store=here).name
    assert later != first
    assert "erf(erf(erf(x)))" in confirmed(here, later)


@pytest.mark.slow
def test_numbers_of_seeds_and_functions_rates_and_the_judging_split_make_another_confirmation(here, searched):
    changes = ({}, {"seeds": 3}, {"top": 1}, {"judge": "validation"}, {"learning_rates": (1, 2)}, {"rate_seeds": 4})
    names = [confirm("one", store=here, **{"top": 2, "seeds": 2, **change}).name for change in changes]
    assert len(set(names[:5])) == 5
    assert names[5] == names[0], "without rates to choose from, the number of their seeds means nothing"


@pytest.mark.parametrize(
    ("tuned", "n_rates"),
    [({"learning_rates": (0.5, 1, 2)}, 3), ({"tune": "weight_decay=0,1e-4"}, 2), ({"learning_rates": (1,)}, 0)],
)
def test_every_function_gets_the_same_number_of_trainings_for_the_choice_of_its_rate(here, searched, tuned, n_rates):
    confirm("one", top=2, seeds=3, rate_seeds=2, store=here, **tuned)
    assert searched.specs[-1].budget == (len(BASELINES) + 2) * (3 + 2 * n_rates)


def test_baselines_that_the_choice_leaves_out_are_not_judged(here, searched):
    rates = {"learning_rates": (0.5, 1, 2), "rate_seeds": 1, "top": 2, "seeds": 3, "store": here}
    whole = confirm("one", **rates).name
    assert confirm("one", judged_baselines=2, **rates).name != whole
    n_judged = 2 + 1 + 2  # the winners, relu, and two more baselines
    assert searched.specs[-1].budget == 3 * (len(BASELINES) + 2) + 3 * n_judged
    confirm("one", judged_baselines=len(BASELINES), **rates)
    assert searched.specs[-1].budget == (len(BASELINES) + 2) * (3 + 3), "there are no more than all"


@pytest.mark.parametrize("rates", [{}, {"learning_rates": (1,)}, {"tune": "weight_decay=0"}])
def test_without_a_choice_of_rates_baselines_cannot_be_chosen(here, searched, rates):
    with pytest.raises(BadUse, match="judged-baselines: the trainings that choose between learning-rates choose the"):
        confirm("one", judged_baselines=2, store=here, **rates)


def test_every_training_is_completed_whatever_the_search_did(here, cluster):
    limits = {"early_stop": "median", "health_gate": "on", "until": "val_accuracy>=0.9", "time_budget": 60}
    search("digits", store=here, max_attempts=7, **limits, **SMALL)
    confirm("one", top=1, seeds=1, store=here)
    config = cluster.specs[-1].config
    assert (config.early_stop, config.health_gate, config.until, config.time_budget) == ("off", "off", None, None)
    assert config.max_attempts == 7, "other conditions are those of the search"


def test_a_run_without_winners_a_confirmation_and_an_import_are_not_confirmed(here, searched):
    name = confirm("one", top=1, seeds=1, store=here).name
    with Store.open(here) as store:
        task = store.run("one").task_id
        store.create_run(NewRun("empty", "search", task, {"task": "digits", "task_digest": "d"}, "e", 0, 1, None, "0"))
        store.create_run(NewRun("file", "import", task, {"task": "digits"}, "f", 0, 1, None, "0"))
    for run, problem in (
        (name, "is a confirmation itself; confirm the run 'one'"),
        ("empty", "run 'empty' has no winners: no function besides the baselines has a score"),
        ("file", "run 'file' was not trained here, so its winners cannot be confirmed"),
    ):
        with pytest.raises(BadUse, match=problem):
            confirm(run, store=here)
    with pytest.raises(RunNotFound, match="'two'"):
        confirm("two", store=here)
    assert len(searched.joined) == 2


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"top": 0}, "top: at least one function is needed, got 0"),
        ({"seeds": 0}, "seeds: at least one is needed, got 0"),
        ({"learning_rates": (-1, 1)}, "learning-rates: learning_rate must be positive and finite"),
        ({"tune": "optimizer=1"}, "tune: 'optimizer' is not a numeric field of the recipe"),
        ({"workers": 0}, "workers must be at least 1, got 0"),
    ],
)
def test_bad_use_starts_nothing(here, searched, options, problem):
    with pytest.raises(BadUse) as raised:
        confirm("one", store=here, **options)
    assert problem in str(raised.value)
    assert len(searched.joined) == 1


def test_a_task_that_has_changed_since_the_search_is_refused(here, searched):
    changed = replace(load_task("digits"), version="another")
    with pytest.raises(BadUse, match="task 'digits' has changed since run 'one' began"):
        confirm("one", store=here, task=changed)
