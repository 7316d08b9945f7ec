"""Which functions of a run are transferred, and what the run on the other task is. Without Ray."""

from __future__ import annotations

import pytest

from aquasurf_ray.activations import BASELINES
from aquasurf_ray.activations.zoo import baseline_names
from aquasurf_ray.driver import evaluate
from aquasurf_ray.driver.candidates import unique_rows
from aquasurf_ray.driver.errors import BadUse
from aquasurf_ray.driver.verbs.transfer import transfer
from aquasurf_ray.store import EvaluationResult, NewRun, RunNotFound, Store, this_process

NAMES = ("tanh(tanh(x))", "erf(tanh(x))", "arctan(tanh(x))", "sigmoid(tanh(x))")


def done(score, **more):
    return EvaluationResult("done", score=score, **more)


def source(here, results, **config):
    """Store a run `one` with a result for each function and seed."""
    with Store.open(here) as store:
        ids = {function: store.add_functions(unique_rows([function]))[0] for function, _ in results}
        task = store.add_task("source", "1", "digest", {})
        run = store.create_run(NewRun("one", "search", task, config, "one", 0, 9, None, "0"), list(ids.values()))
        lease = store.acquire_lease(run.id, this_process(), lease_seconds=60)
        for (function, seed), result in results.items():
            claim = store.claim(lease, ids[function], seed, "suggestion")
            store.record_result(lease, claim.evaluation_id, result)
        store.release_lease(lease, "finished")


def transferred(here, **options):
    """The functions that a transfer trains besides the baselines, and its specification."""
    name = transfer("one", "digits", store=here, **options).name
    with Store.open(here, create=False) as store:
        names = [function.name for function in store.candidates(store.run(name).id)]
    assert set(BASELINES) <= set(names)
    return [name for name in names if name not in BASELINES]


@pytest.mark.slow
def test_the_best_functions_besides_the_baselines_are_transferred_in_order(here, cluster):
    results = {(name, 0): done(score) for name, score in zip(NAMES, (0.2, 0.5, 0.3, 0.4), strict=True)}
    source(here, {**results, ("relu(x)", 0): done(0.9), ("elu(x)", 0): done(0.1)})
    assert transferred(here, top=3) == ["erf(tanh(x))", "sigmoid(tanh(x))", "arctan(tanh(x))"]
    assert set(transferred(here, top=9)) == set(NAMES), "all there are"


def test_a_function_counts_once_with_its_best_seed(here, cluster):
    source(
        here, {(NAMES[0], 0): done(0.2), (NAMES[0], 1): done(0.6), (NAMES[1], 0): done(0.5), (NAMES[2], 0): done(0.4)}
    )
    assert transferred(here, top=2) == [NAMES[0], NAMES[1]]


def test_trainings_that_diverged_or_were_stopped_early_select_no_function(here, cluster):
    source(
        here,
        {
            (NAMES[0], 0): EvaluationResult("diverged", reason="loss is NaN"),
            (NAMES[1], 0): done(0.9, stopped_early="median at epoch 2"),
            (NAMES[2], 0): done(0.3),
        },
    )
    assert transferred(here, top=3) == [NAMES[2]]


def test_the_other_task_gets_a_run_with_every_seed_and_without_a_health_gate(here, cluster):
    source(here, {(NAMES[0], 0): done(0.5)}, modules=["math"])
    result = transfer("one", "digits", top=1, seeds=3, store=here, max_attempts=7, modules=["json"])
    (spec,) = cluster.specs
    assert (spec.run.kind, spec.task.name, spec.budget) == ("evaluate", "digits", 3 * (1 + len(BASELINES)))
    assert (spec.config.health_gate, spec.config.modules, spec.config.max_attempts) == ("off", ("math", "json"), 7)
    with Store.open(here) as store:
        entries = store.snapshot(store.run(result.name).id).evaluations
    assert {entry.evaluation.seed for entry in entries} == {0, 1, 2}


def test_the_same_transfer_is_found_and_another_number_of_functions_is_another_run(here, cluster):
    source(here, {(NAMES[0], 0): done(0.5), (NAMES[1], 0): done(0.4)})
    first = transfer("one", "digits", top=1, store=here).name
    assert transfer("one", "digits", top=1, store=here).name == first
    assert len(cluster.joined) == 1, "the second time it was finished"
    assert transfer("one", "digits", top=2, store=here).name != first


def test_a_transfer_is_named_after_its_source_and_an_evaluation_of_the_same_functions_is_another_run(here, cluster):
    source(here, {(NAMES[0], 0): done(0.5)})
    name = transfer("one", "digits", top=1, seeds=2, store=here).name
    assert name.startswith("one-transfer-")
    assert evaluate([*BASELINES, NAMES[0]], "digits", seeds=2, health_gate="off", store=here).name != name


def test_a_run_with_the_zoo_as_baselines_is_compared_with_the_zoo(here, cluster):
    source(here, {(NAMES[0], 0): done(0.5), ("hardswish(x)", 0): done(0.9)}, baselines="zoo")
    transfer("one", "digits", top=2, seeds=1, store=here)
    assert cluster.specs[0].budget == 1 + len(unique_rows(baseline_names("zoo")))


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({}, "run 'one' has no function to transfer: none besides the baselines has a score; resume it"),
        ({"top": 0}, "top: at least one function is needed, got 0"),
    ],
)
def test_bad_use_starts_nothing(here, cluster, options, problem):
    source(here, {("relu(x)", 0): done(0.9), (NAMES[0], 0): EvaluationResult("diverged", reason="loss is NaN")})
    with pytest.raises(BadUse) as raised:
        transfer("one", "digits", store=here, **options)
    assert (str(raised.value), cluster.joined) == (problem, [])


def test_what_is_wrong_with_the_evaluation_is_reported_before_ray_starts(here, cluster):
    source(here, {(NAMES[0], 0): done(0.5)})
    for arguments, options, problem in (
        (("one", "no-such-task"), {}, "no-such-task"),
        (("one", "digits"), {"seeds": 0}, "seeds: at least one is needed, got 0"),
    ):
        with pytest.raises(BadUse, match=problem):
            transfer(*arguments, store=here, **options)
    with pytest.raises(RunNotFound, match="'two'"):
        transfer("two", "digits", store=here)
    assert cluster.joined == []
