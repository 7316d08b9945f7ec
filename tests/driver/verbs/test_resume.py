"""A run is continued with the settings that it has and the conditions that are given now. Without Ray."""

from __future__ import annotations

from dataclasses import replace

import pytest

from aquasurf_ray import Study
from aquasurf_ray.driver import confirm, evaluate, resume, search
from aquasurf_ray.driver.errors import BadUse
from aquasurf_ray.store import RunNotFound, Store
from aquasurf_ray.tasks import load_task

SMALL = {"candidates": 4, "evaluations": 2, "features": "outputs"}


def run_named(here, name):
    with Store.open(here, create=False) as store:
        return store.run(name)


def test_a_resumed_run_may_repeat_its_own_settings_and_gets_the_new_conditions(here, cluster):
    search("digits", name="one", store=here, modules=["math"], **SMALL)
    resume("one", store=here, seed=0, modules=["math"], fisher="sampled", evaluations=3, max_attempts=7)
    assert cluster.specs[-1].config.max_attempts == 7
    assert cluster.specs[-1].config.modules == ("math",)
    assert run_named(here, "one").budget == 3


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"seed": 1}, "cannot change its seed; start another run"),
        ({"candidates": 5, "max_cost": 1.5}, "cannot change its candidates, max_cost; start another run"),
        ({"evaluations": 0}, "evaluations must be at least 1, got 0"),
        ({"evaluatoins": 4}, "unknown key 'evaluatoins'; did you mean 'evaluations'?"),
        ({"until": "val_rmse<=0.1"}, "until: "),
    ],
)
def test_a_change_that_would_make_it_another_run_is_refused(here, cluster, changes, problem):
    search("digits", name="one", store=here, **SMALL)
    with pytest.raises(BadUse) as raised:
        resume("one", store=here, **changes)
    assert problem in str(raised.value)
    assert len(cluster.joined) == 1


def test_a_run_that_does_not_search_keeps_its_number_of_trainings_and_is_not_confirmed(here, cluster):
    name = evaluate(["tanh(x)"], "digits", store=here).name
    with pytest.raises(BadUse, match="trains a fixed list of functions, so evaluations cannot change it"):
        resume(name, store=here, evaluations=9)
    with pytest.raises(BadUse, match=f"is not a search; confirm its best with: aquasurf confirm {name}"):
        resume(name, store=here, confirm=3)


def test_a_confirmation_can_be_asked_for_at_the_end(here, cluster):
    search("digits", name="one", store=here, **SMALL)
    result = resume("one", store=here, confirm=1, seeds=2)
    assert result.confirmation.startswith("one-confirm-")
    assert run_named(here, result.confirmation).config["seeds"] == 2
    assert confirm("one", top=1, seeds=2, store=here).name == result.confirmation


def test_a_goal_that_is_reached_no_longer_ends_the_run_that_is_continued(here, cluster):
    search("digits", name="one", store=here, until="val_accuracy>=0.05", **SMALL)
    for changes, until in (({}, None), ({"until": "val_accuracy>=0.99"}, "val_accuracy>=0.99")):
        resume("one", store=here, evaluations=len(cluster.specs) + 2, **changes)
        assert cluster.specs[-1].config.until == until
    search("digits", name="far", store=here, until="val_accuracy>=0.99", **SMALL)
    resume("far", store=here, evaluations=4)
    assert cluster.specs[-1].config.until == "val_accuracy>=0.99", "not reached, so it stays"


def test_a_task_that_has_changed_since_is_refused(here, cluster):
    search("digits", name="one", store=here, **SMALL)
    changed = replace(load_task("digits"), version="another")
    with pytest.raises(
        BadUse, match="task 'digits' has changed since run 'one' began; restore it, or start another run"
    ):
        resume("one", store=here, task=changed)


def test_a_run_that_is_not_there_is_named(here, cluster):
    search("digits", name="one", store=here, **SMALL)
    with pytest.raises(RunNotFound, match="'two'"):
        resume("two", store=here)


def test_a_run_without_a_budget_asks_for_one(here, cluster):
    Study("open", store=here, task="digits", candidates=4, features="outputs").close()
    with pytest.raises(BadUse, match="run 'open' has no number of evaluations to continue to; give one with --evaluat"):
        resume("open", store=here)
    resume("open", store=here, evaluations=3)
    assert cluster.specs[-1].budget == 3
