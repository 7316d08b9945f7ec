"""Candidates that a run adds to itself: whole generations, each once, with their families."""

from __future__ import annotations

import pytest

from aquasurf_ray.store import (
    BadRecord,
    EvaluationRequest,
    EvaluationResult,
    FunctionRow,
    GrowthState,
    LeaseLost,
    NewCandidate,
    Store,
    this_process,
)


def candidate(name: str, change: str = "insert", *parents: int) -> NewCandidate:
    return NewCandidate(FunctionRow(f"fingerprint of {name}", name, name.count("(")), change, parents)


def train(world, lease, function_id: int, score: float) -> None:
    (claim,) = world.store.claim_all(
        lease, [EvaluationRequest(function_id, 0, "suggestion")], accept_stopped=True, accept_refused=True
    )
    world.store.record_results(lease, {claim.evaluation_id: EvaluationResult("done", score=score)})


def test_a_generation_follows_the_candidates_in_its_order(world):
    lease = world.lease()
    first = world.store.candidates(lease.run_id)
    a, b = world.functions[:2]
    made = world.store.grow(lease, 1, [candidate("n(x)", "insert", a), candidate("m(x)", "crossover", a, b)])
    assert [function.name for function in made] == ["n(x)", "m(x)"]
    assert world.store.candidates(lease.run_id) == [*first, *made]
    more = world.store.grow(lease, 2, [candidate("k(x)", "random"), candidate("n(x)", "remove", b)])
    assert [function.name for function in more] == ["k(x)"], "what is a candidate already is left out"
    assert world.store.candidates(lease.run_id) == [*first, *made, *more]
    assert world.store.growth(lease.run_id) == GrowthState(2, 3)
    assert world.store.events(lease.run_id)[-1].data == {"generation": 2, "candidates": 1}


def test_a_generation_is_stored_once_even_if_it_is_written_again(world):
    lease = world.lease()
    made = world.store.grow(lease, 1, [candidate("n(x)")])
    before = world.store.candidates(lease.run_id)
    assert world.store.grow(lease, 1, [candidate("n(x)"), candidate("other(x)")]) == made
    assert world.store.candidates(lease.run_id) == before
    assert world.store.find_function("other(x)") is None


def test_a_generation_without_a_new_function_counts(world):
    lease = world.lease()
    assert world.store.grow(lease, 1, []) == []
    assert world.store.growth(lease.run_id) == GrowthState(1, 0)


def test_a_driver_that_lost_its_run_adds_nothing(world, elsewhere):
    lease = world.lease()
    world.store.release_lease(lease, "interrupted")
    world.store.acquire_lease(lease.run_id, elsewhere, lease_seconds=30)
    with pytest.raises(LeaseLost):
        world.store.grow(lease, 1, [candidate("n(x)")])
    assert world.store.find_function("n(x)") is None
    assert world.store.growth(lease.run_id) == GrowthState(0, 0)


def test_three_parents_are_refused(world):
    with pytest.raises(BadRecord, match=r"'n\(x\)' has 3 parents; at most two"):
        world.store.grow(world.lease(), 1, [candidate("n(x)", "crossover", 1, 2, 3)])


def test_a_family_has_all_ancestors_and_the_children_best_first(world):
    lease = world.lease()
    a, b, c = world.functions[:3]
    (son,) = world.store.grow(lease, 1, [candidate("son(x)", "crossover", a, b)])
    grandchildren = world.store.grow(
        lease, 2, [candidate("first(x)", "swap", son.id), candidate("second(x)", "crossover", son.id, c)]
    )
    for number, score in ((a, 0.5), (son.id, 0.7), (grandchildren[1].id, 0.9)):
        train(world, lease, number, score)
    (family,) = world.store.families(son.id)
    assert (family.run, family.metric.name) == ("run", "accuracy")
    assert [(r.name, r.generation, r.change, r.score) for r in family.ancestors] == [
        ("son(x)", 1, "crossover", 0.7),
        ("f0(x)", 0, None, 0.5),
        ("f1(x)", 0, None, None),
    ]
    assert [(r.name, r.score) for r in family.children] == [("second(x)", 0.9), ("first(x)", None)]
    (of_grandchild,) = world.store.families(grandchildren[1].id)
    assert [r.name for r in of_grandchild.ancestors] == ["second(x)", "son(x)", "f2(x)", "f0(x)", "f1(x)"]
    assert of_grandchild.ancestors[0].parents == (son.id, c)
    assert world.store.families(world.functions[5]) == []


def test_each_run_has_its_own_family_of_a_function(world):
    first, second = world.lease("one"), world.lease("two")
    a, b = world.functions[:2]
    (made,) = world.store.grow(first, 1, [candidate("n(x)", "insert", a)])
    assert world.store.grow(second, 1, [candidate("n(x)", "swap", b)]) == [made]
    assert [(family.run, family.ancestors[0].change) for family in world.store.families(made.id)] == [
        ("one", "insert"),
        ("two", "swap"),
    ]


def test_a_merge_brings_generations_and_families(world, tmp_path):
    lease = world.lease()
    (made,) = world.store.grow(lease, 1, [candidate("n(x)", "crossover", *world.functions[:2])])
    world.store.release_lease(lease, "interrupted")
    with Store.open(f"sqlite:///{tmp_path}/target.db") as target:
        target.add_functions([FunctionRow("another", "another(x)", 1)])  # numbers differ from those of the source
        target.merge(world.url)
        copied = target.find_function("n(x)")
        (family,) = target.families(copied.id)
        assert [r.name for r in family.ancestors] == ["n(x)", "f0(x)", "f1(x)"]
        assert target.growth(target.run("run").id) == GrowthState(1, 1)
        again = world.store.acquire_lease(lease.run_id, this_process(), lease_seconds=30)
        world.store.grow(again, 2, [candidate("m(x)", "insert", made.id)])
        world.store.release_lease(again, "finished")
        target.merge(world.url)
        assert [r.name for r in target.families(copied.id)[0].children] == ["m(x)"]
        run = target.run("run")
        assert [f.name for f in target.candidates(run.id)] == [f.name for f in world.store.candidates(lease.run_id)]
