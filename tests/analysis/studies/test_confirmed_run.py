"""A confirmation as the store has it: what its functions were selected by, and how the run that it is shows them."""

from __future__ import annotations

import pytest
from synthetic_run import NAME, done, fill_store

from aquasurf_ray.analysis.studies.confirmed_run import read_confirmation
from aquasurf_ray.store import EvaluationResult, Store, this_process

CONFIRMATION = "synthetic-confirm"


@pytest.fixture
def store(tmp_path):
    with Store.open(f"sqlite:///{tmp_path}/s.db") as opened:
        opened.release_lease(fill_store(opened), "finished")
        yield opened


def train(store, run, function, seed, change, score):
    """Adds a training to a run."""
    lease = store.acquire_lease(store.run(run).id, this_process())
    claim = store.claim(lease, store.find_function(function).id, seed, origin="suggestion", recipe_change=change)
    result = EvaluationResult("diverged", reason="loss") if score is None else done(score)
    store.record_result(lease, claim.evaluation_id, result)
    store.release_lease(lease, "finished")


def test_a_function_was_selected_by_the_best_of_the_rates_that_the_search_tried(store):
    before = {each.function: each for each in read_confirmation(store, CONFIRMATION).functions}
    best = next(name for name, each in before.items() if each.selected == 0.9)
    train(store, NAME, best, 0, "learning_rate*2", 0.93)
    train(store, NAME, best, 0, "learning_rate*0.5", None)
    train(store, NAME, "relu(x)", 0, "learning_rate*0.5", 0.4)
    train(store, NAME, best, 7, "learning_rate*2", 0.99)  # a seed that somebody asked for selects nothing
    after = {each.function: each for each in read_confirmation(store, CONFIRMATION).functions}
    assert after[best].selected == 0.93
    assert after[best].shrinkage.observed == pytest.approx(0.93 - after[best].confirmed.mean)
    assert after["relu(x)"].selected == before["relu(x)"].selected, "a poorer rate changes nothing"
