"""What a search decides before its first training: name, candidates, budget, surrogate, modules. Without Ray."""

from __future__ import annotations

import pytest
from recorder import Recorder

from aquasurf_ray.activations import BASELINES
from aquasurf_ray.driver import resume, search
from aquasurf_ray.driver.errors import BadUse
from aquasurf_ray.store import RunExists, Store
from aquasurf_ray.tasks import load_task

SMALL = {"candidates": 4, "evaluations": 2, "features": "outputs"}
LEARNED = "mul(x,sigmoid(mul(learn(1),x)))"


def space_file(folder, *names, more=""):
    lines = ["name: own", "names:", *(f"  - {name}" for name in names), more]
    (folder / "space.yaml").write_text("\n".join(lines) + "\n")
    return "space.yaml"


def run_named(here, name):
    with Store.open(here, create=False) as store:
        return store.run(name)


def drawn(here, name):
    """The candidates of a run after its eight baselines."""
    with Store.open(here, create=False) as store:
        names = [function.name for function in store.candidates(store.run(name).id)]
    assert names[: len(BASELINES)] == list(BASELINES)
    return names[len(BASELINES) :]


def test_searches_without_a_name_take_the_first_free_number_of_their_task(here, cluster):
    search("digits", name="digits-2", store=here, **SMALL)
    assert [search("digits", store=here, **SMALL).name for _ in range(2)] == ["digits-1", "digits-3"]


def test_the_random_seed_alone_decides_which_candidates_are_drawn(here, cluster, tmp_path):
    search("digits", name="one", store=here, seed=0, **SMALL)
    search("digits", name="two", store=here, seed=1, **SMALL)
    elsewhere = f"sqlite:///{tmp_path}/elsewhere.db"
    search("digits", name="three", store=elsewhere, seed=0, training_seed=5, **SMALL)
    assert drawn(here, "one") == drawn(elsewhere, "three") != drawn(here, "two")


def test_the_same_command_keeps_a_budget_that_resume_has_raised_and_says_so(here, cluster):
    search("digits", name="one", store=here, **SMALL)
    resume("one", store=here, evaluations=50)
    recorder = Recorder()
    assert search("digits", name="one", store=here, callbacks=[recorder], **SMALL).budget == 50
    assert recorder.notes[0] == (
        "run 'one' keeps its budget of 50 evaluations; lower it with: aquasurf resume one --evaluations 2"
    )
    assert run_named(here, "one").budget == 50
    assert search("digits", name="one", store=here, **{**SMALL, "evaluations": 60}).budget == 60


def test_the_default_number_of_evaluations_does_not_lower_the_budget_of_a_run(here, cluster):
    default = {key: value for key, value in SMALL.items() if key != "evaluations"}
    search("digits", name="one", store=here, **{**SMALL, "evaluations": 50})
    assert search("digits", name="one", store=here, **default).budget == 50


def test_a_space_with_too_few_functions_makes_all_of_them_candidates_and_says_so(here, cluster, tmp_path):
    recorder, space = Recorder(), space_file(tmp_path, "tanh(tanh(x))", "relu(x)", "relu(tanh(x))")
    search("digits", name="one", space=space, store=here, callbacks=[recorder], **SMALL)
    assert sorted(drawn(here, "one")) == ["relu(tanh(x))", "tanh(tanh(x))"]
    assert recorder.notes == ["the space has 2 functions besides the baselines; all are candidates"]


@pytest.mark.parametrize(("learned", "expected"), [("on", [LEARNED, "erf(erf(x))"]), ("off", ["erf(erf(x))"])])
def test_functions_with_learned_parameters_are_candidates_unless_switched_off(
    here, cluster, tmp_path, learned, expected
):
    space = space_file(tmp_path, LEARNED, "erf(erf(x))")
    search("digits", name="one", space=space, learned_parameters=learned, store=here, **SMALL)
    assert sorted(drawn(here, "one")) == sorted(expected)


def test_workers_import_the_modules_of_the_command_and_of_the_space_once_each(here, cluster, tmp_path):
    space = space_file(tmp_path, "erf(erf(x))", more="modules: [json, math]")
    search("digits", name="one", space=space, modules=["string", "json"], store=here, **SMALL)
    assert cluster.specs[0].config.modules == ("string", "json", "math")
    assert run_named(here, "one").config["modules"] == ["string", "json", "math"]


def test_a_search_keeps_the_surrogate_that_it_began_with_unless_another_is_requested(here, cluster):
    search("digits", name="one", surrogate="aquasurf", store=here, **SMALL)
    search("digits", name="one", store=here, **{**SMALL, "evaluations": 3})
    assert [spec.config.surrogate for spec in cluster.specs] == ["aquasurf", "aquasurf"]
    with pytest.raises(RunExists, match="surrogate 'aquasurf' -> 'metric', regressor 'knr' -> 'gp'"):
        search("digits", name="one", surrogate="metric", store=here, **SMALL)


def test_a_task_object_is_searched_as_it_is_and_not_imported_by_workers(here, cluster):
    search(load_task("digits"), name="object", store=here, **SMALL)
    search("digits", name="name", store=here, **SMALL)
    assert [spec.import_task for spec in cluster.specs] == [False, True]
    assert run_named(here, "object").task_id == run_named(here, "name").task_id, "they are the same task"


@pytest.mark.parametrize(
    ("task", "options", "problem"),
    [
        ("no-such-task", {}, "no-such-task"),
        ("digits", {"space": "no-such-space"}, "no-such-space"),
        ("digits", {"modules": ["no_such_module"]}, "no_such_module"),
        ("digits", {"until": "rmse<=0.1"}, "until: "),
        ("digits", {"surrogate": "aquasurf", "regressor": "linear"}, "knr, rfr, svr, got 'linear'"),
        ("digits", {"surrogate": "metric", "regressor": "linear"}, "gp, knr, rfr, svr, got 'linear'"),
        ("digits", {"candidates": 0}, "candidates must be at least 1, got 0"),
    ],
)
def test_bad_use_starts_nothing(here, cluster, tmp_path, task, options, problem):
    with pytest.raises(BadUse) as raised:
        search(task, store=here, **{**SMALL, **options})
    assert problem in str(raised.value)
    assert (cluster.joined, list(tmp_path.iterdir())) == ([], [])
