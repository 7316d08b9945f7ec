"""Proposed functions are queued for a run, once each, under its training seed. Without Ray."""

from __future__ import annotations

import pytest

from aquasurf_ray.driver import evaluate, propose, search
from aquasurf_ray.driver.errors import BadUse
from aquasurf_ray.store import RunNotFound, Store

SMALL = {"candidates": 4, "evaluations": 2, "features": "outputs", "name": "one"}


def queued(here, name="one"):
    with Store.open(here, create=False) as store:
        entries = store.snapshot(store.run(name).id).evaluations
    return [(e.function, e.evaluation.seed) for e in entries if e.evaluation.status == "queued"]


def test_functions_are_queued_under_the_runs_training_seed(here, cluster):
    search("digits", store=here, training_seed=7, **SMALL)
    proposals = propose("one", ["swish(negative(x))", "erf(erf(x))"], store=here)
    assert [(name, proposal.status) for name, proposal in proposals] == [
        ("swish(negative(x))", "queued"), ("erf(erf(x))", "queued"),
    ]  # fmt: skip
    assert sorted(queued(here)) == [("erf(erf(x))", 7), ("swish(negative(x))", 7)]


def test_a_function_that_is_queued_or_trained_is_not_queued_again(here, cluster):
    search("digits", store=here, **SMALL)
    propose("one", ["erf(erf(x))"], store=here)
    again = propose("one", ["erf(erf(x))", "tanh(x)", "erf(erf(x))"], store=here)
    assert [(name, proposal.status) for name, proposal in again] == [("erf(erf(x))", "queued"), ("tanh(x)", "done")]
    assert queued(here) == [("erf(erf(x))", 0)]


def test_one_wrong_function_queues_none(here, cluster):
    search("digits", store=here, **SMALL)
    with pytest.raises(BadUse, match="nonsense"):
        propose("one", ["erf(erf(x))", "nonsense(x)"], store=here)
    with pytest.raises(BadUse, match="no functions given"):
        propose("one", [], store=here)
    assert queued(here) == []


def test_a_run_that_trains_what_it_was_started_with_takes_more_too(here, cluster):
    name = evaluate(["tanh(x)"], "digits", store=here).name
    propose(name, ["erf(x)"], store=here)
    assert queued(here, name) == [("erf(x)", 0)]


def test_a_run_that_is_not_there_is_named(here, cluster):
    search("digits", store=here, **SMALL)
    with pytest.raises(RunNotFound, match="'two'"):
        propose("two", ["erf(x)"], store=here)
