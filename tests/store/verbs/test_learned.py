"""What learned parameters became is stored with a result, on every engine, and moves with it."""

from __future__ import annotations

from aquasurf_ray.store import (
    EvaluationRequest,
    EvaluationResult,
    FunctionRow,
    LearnedValues,
    NewRun,
    Store,
    this_process,
)

VALUES = (
    LearnedValues("block.act", "a", 1.0, None, 0.75, 0.0, (0.9, 0.75)),
    LearnedValues("block.act", "b", 0.25, 64, 0.125, 0.03125, (0.2, 0.125)),
)


def record(world, result, *, run="run"):
    lease = world.lease(run)
    claim = world.store.claim(lease, world.functions[0], 0, origin="proposal")
    world.store.start(lease, claim.evaluation_id, "w", None, ())
    world.store.record_result(lease, claim.evaluation_id, result)
    return lease, claim.evaluation_id


def test_they_are_read_back_as_they_were(world):
    _, number = record(world, EvaluationResult("done", score=0.5, learned=VALUES))
    assert world.store.learned(number) == VALUES
    run_id = world.store.run("run").id
    assert world.store.learned_in(run_id, "fingerprint0") == VALUES
    assert world.store.learned_in(run_id, "fingerprint1") == ()


def test_a_function_without_them_has_none(world):
    _, number = record(world, EvaluationResult("done", score=0.5))
    assert world.store.learned(number) == ()


def test_a_run_has_those_of_its_whole_trainings_with_the_best_recipe(world):
    lease = world.lease()
    doubled = "learning_rate*2"
    results = [
        (0, "", EvaluationResult("done", score=0.5, learned=VALUES[:1])),
        (0, doubled, EvaluationResult("done", score=0.7, learned=VALUES[1:])),
        (1, doubled, EvaluationResult("done", score=0.3, learned=VALUES)),
        (2, doubled, EvaluationResult("done", score=0.9, learned=VALUES, stopped_early="median")),
    ]
    for seed, change, result in results:
        request = EvaluationRequest(world.functions[0], seed, "proposal", recipe_change=change)
        (claim,) = world.store.claim_all(lease, [request])
        world.store.start(lease, claim.evaluation_id, "w", None, ())
        world.store.record_result(lease, claim.evaluation_id, result)
    assert world.store.learned_in(lease.run_id, "fingerprint0") == VALUES[1:] + VALUES


def test_a_result_that_is_requested_in_full_moves_to_the_log_with_them(world):
    _, number = record(world, EvaluationResult("done", score=0.5, stopped_early="median", learned=VALUES))
    lease = world.lease("full")
    claim = world.store.claim(lease, world.functions[0], 0, origin="proposal", accept_stopped=False)
    assert claim.evaluation_id == number
    assert world.store.learned(number) == ()
    (event,) = [event for event in world.store.events(lease.run_id) if event.kind == "reopened"]
    assert event.data["result"]["learned"][1]["course"] == [0.2, 0.125]
    world.store.start(lease, number, "w", None, ())
    world.store.record_result(lease, number, EvaluationResult("done", score=0.6, learned=VALUES[:1]))
    assert world.store.learned(number) == VALUES[:1]


def test_a_merged_store_has_them(world, tmp_path):
    with Store.open(f"sqlite:///{tmp_path}/other.db") as other:
        task_id = other.add_task("digits", "1", "task-digest", {"epochs": 30})
        (function,) = other.add_functions([FunctionRow("fingerprint0", "f0(x)", 1)])
        new = NewRun("elsewhere", "search", task_id, {"space": "three-node"}, "digest", 0, 40, None, "0.1.0")
        lease = other.acquire_lease(other.create_run(new, [function]).id, this_process())
        claim = other.claim(lease, function, 0, origin="proposal")
        other.start(lease, claim.evaluation_id, "w", None, ())
        other.record_result(lease, claim.evaluation_id, EvaluationResult("done", score=0.5, learned=VALUES))
        other.release_lease(lease, "finished")
    world.store.merge(f"sqlite:///{tmp_path}/other.db")
    assert world.store.learned_in(world.store.run("elsewhere").id, "fingerprint0") == VALUES
