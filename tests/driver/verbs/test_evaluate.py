"""Given functions are trained in a run of their own, named after what is trained. Without Ray."""

from __future__ import annotations

import pytest

from aquasurf_ray.driver import evaluate
from aquasurf_ray.driver.errors import BadUse
from aquasurf_ray.driver.settings.surrogate_names import EARLIER_SURROGATE
from aquasurf_ray.store import Store


def test_an_evaluation_has_a_name_of_its_content_and_is_found_by_it(here, cluster):
    first = evaluate(["tanh(x)", "relu(x)"], "digits", seeds=2, store=here)
    again = evaluate(["relu(x)", "tanh(x)", "relu(x)"], "digits", seeds=2, store=here)
    assert first.name == again.name
    assert first.name.startswith("evaluate-")
    assert (len(cluster.joined), cluster.specs[0].budget) == (1, 4)


def test_with_several_seeds_the_reference_is_trained_too_whatever_it_is_called(here, cluster):
    assert evaluate(["tanh(x)"], "digits", seeds=2, store=here).budget == 4
    assert evaluate(["max(x,0)", "tanh(x)"], "digits", seeds=2, store=here).budget == 4
    assert evaluate(["tanh(x)"], "digits", store=here).budget == 1


def test_an_evaluation_of_other_functions_or_seeds_is_another_run(here, cluster):
    names = {
        evaluate(functions, "digits", seeds=seeds, store=here).name
        for functions, seeds in ((["tanh(x)"], 1), (["tanh(x)"], 2), (["erf(x)"], 1), (["tanh(x)", "erf(x)"], 1))
    }
    assert len(names) == 4


def test_functions_are_stored_under_their_canonical_names_with_seeds_from_0(here, cluster):
    result = evaluate(["mul(x,sigmoid(x))", "swish(x)", "relu(x)"], "digits", seeds=3, store=here)
    (spec,) = cluster.specs
    with Store.open(here) as store:
        run = store.run(result.name)
        seeds = sorted(entry.evaluation.seed for entry in store.snapshot(run.id).evaluations)
        assert len(store.candidates(run.id)) == 2, "two are the same function"
    assert (seeds, run.budget, spec.budget) == ([0, 0, 1, 1, 2, 2], 6, 6)
    assert (run.kind, run.config["seeds"], run.config.get("surrogate", EARLIER_SURROGATE)) == (
        "evaluate", 3, EARLIER_SURROGATE,
    )  # fmt: skip


def test_an_evaluation_may_have_a_name_and_the_health_gate_is_part_of_its_identity(here, cluster):
    assert evaluate(["tanh(x)"], "digits", name="mine", store=here).name == "mine"
    plain = evaluate(["tanh(x)"], "digits", store=here).name
    assert evaluate(["tanh(x)"], "digits", health_gate="off", store=here).name != plain


@pytest.mark.parametrize(
    ("functions", "options", "problem"),
    [
        ([], {}, "no functions given"),
        (["tanh("], {}, "expected an operator, a number or x at 6, got the end"),
        (["tanh(x)"], {"seeds": 0}, "seeds: at least one is needed, got 0"),
        (["tanh(x)"], {"workers": 0}, "workers must be at least 1, got 0"),
        (["tanh(x)"], {"worker": object, "nonsense": 1}, "unknown key 'nonsense'"),
    ],
)
def test_bad_use_starts_nothing(here, cluster, tmp_path, functions, options, problem):
    with pytest.raises(BadUse) as raised:
        evaluate(functions, "digits", store=here, **options)
    assert problem in str(raised.value)
    assert (cluster.joined, list(tmp_path.iterdir())) == ([], [])
