"""What functions cost: measured once a task, function and device, told beside results, and drawn as a front."""

from __future__ import annotations

import csv
import json
import math
import random
import time
from dataclasses import replace

import pyarrow.parquet
import pytest
import sqlalchemy as sa

from aquasurf_ray.store import BadRecord, CostRecord, EvaluationResult, StoreError, read_only_query
from aquasurf_ray.store.database.schema import Cost


def cost(function, time_ratio, device="cpu", memory_ratio=1.5):
    """Relu takes 20 ms and keeps 1000 bytes."""
    return CostRecord(
        device, 0.02 * time_ratio, 0.02, int(1000 * memory_ratio), 1000, function_id=function, worker="w1"
    )


def record(world, lease, function, score, device="cpu", origin="suggestion", **metrics):
    claim = world.store.claim(lease, function, 0, origin)
    world.store.record_result(
        lease, claim.evaluation_id, EvaluationResult("done", score=score, device=device, **metrics)
    )


def test_costs_are_shared_and_the_first_of_a_device_stays(world):
    first, second = world.lease("first"), world.lease("second")
    f = world.functions
    assert world.store.record_costs(first, [cost(f[1], 1.2), cost(f[0], 1.0)]) == 2
    time.sleep(0.01)  # the database counts in milliseconds
    assert world.store.record_costs(second, [cost(f[0], 9.0), cost(f[0], 1.5, "H100")]) == 1
    assert world.store.costs(world.task_id, f, "cpu") == {f[0]: cost(f[0], 1.0), f[1]: cost(f[1], 1.2)}
    assert world.store.costs(world.task_id, f, "H100") == {f[0]: cost(f[0], 1.5, "H100")}
    assert world.store.costs(world.task_id, f)[f[0]].device == "H100", "the last measured one"
    assert world.store.costs(world.task_id, f[1:3]).keys() == {f[1]}
    assert world.store.costs(world.task_id + 1, f) == {}
    assert world.store.events(first.run_id)[-1].data == {"function_ids": [f[0], f[1]]}
    assert world.store.record_costs(second, [cost(f[0], 9.0)]) == 0
    assert [event.kind for event in world.store.events(second.run_id)].count("costs") == 1


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"step_seconds": 0.0}, "step_seconds must be positive and finite, got 0.0"),
        ({"step_seconds": math.nan}, "step_seconds"),
        ({"relu_step_seconds": math.inf}, "relu_step_seconds"),
        ({"relu_activation_bytes": 0}, "relu_activation_bytes must be positive and finite, got 0"),
        ({"activation_bytes": -1}, "activation_bytes must not be negative, got -1"),
    ],
)
def test_costs_that_give_no_ratio_are_refused_and_none_is_written(world, change, says):
    good = cost(world.functions[0], 1.0)
    with pytest.raises(BadRecord, match=says):
        world.store.record_costs(world.lease(), [good, replace(good, **change)])
    assert world.store.costs(world.task_id, world.functions) == {}


def test_a_function_that_keeps_nothing_costs_no_memory(world):
    world.store.record_costs(world.lease(), [cost(world.functions[0], 0.9, memory_ratio=0)])
    assert world.store.costs(world.task_id, world.functions)[world.functions[0]].memory_ratio == 0


def test_the_schema_itself_forbids_a_second_cost_and_one_without_ratio(world):
    world.store.record_costs(world.lease(), [cost(world.functions[0], 1.0)])
    row = {"task_id": world.task_id, "function_id": world.functions[0], "device": "cpu", "step_seconds": 1.0}
    row |= {"relu_step_seconds": 1.0, "activation_bytes": 1, "relu_activation_bytes": 1}
    other = row | {"device": "H100"}
    for values, rule in (
        (row, "unique"),
        (other | {"relu_step_seconds": 0.0}, "seconds|CHECK"),
        (other | {"relu_activation_bytes": 0}, "bytes|CHECK"),
    ):
        with pytest.raises(StoreError, match=f"(?i){rule}"):
            world.store._write(lambda connection, values=values: connection.execute(sa.insert(Cost), values))


def test_a_leaderboard_tells_the_cost_on_the_device_of_the_evaluation(world):
    lease, f = world.lease(), world.functions
    record(world, lease, f[0], 0.9, "cpu")
    record(world, lease, f[1], 0.8, "H100", precision="bfloat16", test_score=0.7)
    record(world, lease, f[2], 0.7, None)
    world.store.record_costs(lease, [cost(f[0], 1.2), cost(f[0], 3.0, "H100"), cost(f[1], 2.0), cost(f[2], 2.0)])
    rows = world.store.leaderboard(run_id=lease.run_id)
    assert [(row.function_id, row.memory_ratio) for row in rows] == [(f[0], 1.5), (f[1], None), (f[2], None)]
    assert [row.time_ratio for row in rows] == [pytest.approx(1.2), None, None]
    assert (rows[1].precision, rows[1].device, rows[1].test_score) == ("bfloat16", "H100", 0.7)
    assert world.store.leaderboard(task_id=world.task_id) == rows
    view = read_only_query(world.url, "SELECT time_ratio, memory_ratio, precision FROM leaderboard ORDER BY rank")
    assert view.rows == ((pytest.approx(1.2), 1.5, None), (None, None, "bfloat16"), (None, None, None))
    assert all(isinstance(value, float) for value in view.rows[0][:2])
    told = read_only_query(world.url, "SELECT function, device, memory_ratio FROM costs_summary WHERE device <> 'cpu'")
    assert told.rows == (("f0(x)", "H100", 1.5),)


def test_history_tells_what_a_function_costs_and_what_its_task_is_judged_by(world):
    spec = {"objective": {"metric": "rmse", "higher_is_better": False}}
    task = world.store.add_task("wine", "1", "wine-digest", spec)
    world.task_id = task
    lease = world.lease()
    record(world, lease, world.functions[0], -0.25)
    world.store.record_costs(lease, [cost(world.functions[0], 1.2)])
    history = world.store.function_history("f0(x)")
    assert [(item.task, item.cost) for item in history.costs] == [("wine", cost(world.functions[0], 1.2))]
    metric = history.evaluations[0].metric
    assert (metric.name, metric.value(-0.25), metric.value(None)) == ("rmse", 0.25, None)


class TestFront:
    def test_nothing_on_it_is_beaten_and_all_beside_it_is(self, world):
        """Held against the definition, pair by pair, on scores and costs with ties."""
        lease, draw = world.lease(), random.Random(3)
        points = {f: (draw.choice((0.5, 0.6, 0.7, 0.8)), draw.choice((1.0, 1.25, 1.5, 2.0))) for f in world.functions}
        for function, (score, time_ratio) in points.items():
            record(world, lease, function, score)
            world.store.record_costs(lease, [cost(function, time_ratio)])

        def beats(a, b):
            return points[a][0] >= points[b][0] and points[a][1] <= points[b][1] and points[a] != points[b]

        expected = {points[f] for f in points if not any(beats(other, f) for other in points)}
        found = world.store.pareto(run_id=lease.run_id)
        assert {points[row.function_id] for row in found} == expected
        assert len(found) == len(expected) > 1
        assert found == sorted(found, key=lambda row: (-row.score, row.time_ratio))
        assert [row.time_ratio for row in found] == sorted((row.time_ratio for row in found), reverse=True)
        assert world.store.pareto(task_id=world.task_id) == found

    def test_what_is_unknown_or_was_stopped_early_is_not_on_it(self, world):
        lease, f = world.lease(), world.functions
        record(world, lease, f[0], 0.9)
        record(world, lease, f[1], 0.8)
        record(world, lease, f[2], 0.3, stopped_early="score 0.3 after epoch 1 of 4 is below 0.5")
        world.store.record_costs(lease, [cost(f[1], 1.5), cost(f[2], 0.8)])
        assert [row.function_id for row in world.store.pareto(run_id=lease.run_id)] == [f[1]]

    def test_it_is_empty_without_costs(self, world):
        assert world.store.pareto(run_id=world.run().id) == []


def test_exports_carry_the_new_columns(world, tmp_path):
    lease, f = world.lease(), world.functions
    record(world, lease, f[0], 0.9, test_score=0.8, precision="bfloat16", n_devices=4, examples_per_second=1e4)
    record(world, lease, f[1], 0.3, stopped_early="score 0.3")
    world.store.record_costs(lease, [cost(f[0], 1.2)])
    world.store.export_run(lease.run_id, "csv", tmp_path / "run.csv")
    with (tmp_path / "run.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert (rows[0]["precision"], rows[0]["n_devices"], rows[0]["memory_ratio"]) == ("bfloat16", "4", "1.5")
    assert (rows[1]["stopped_early"], rows[1]["time_ratio"]) == ("score 0.3", "")
    world.store.export_run(lease.run_id, "parquet", tmp_path / "run.parquet")
    table = pyarrow.parquet.read_table(tmp_path / "run.parquet")
    names = ("time_ratio", "n_devices", "test_score", "stopped_early")
    assert [str(table.schema.field(name).type) for name in names] == ["double", "int64", "double", "string"]
    assert table.to_pylist()[0]["time_ratio"] == pytest.approx(1.2)


def test_act_bench_holds_whole_trainings_and_the_scores_of_a_custom_metric(world, tmp_path):
    def exported():
        lease = world.lease(f"of-{world.task_id}")
        record(world, lease, world.functions[0], -0.5, train_score=-0.25, test_score=-0.75, val_loss=0.25)
        record(world, lease, world.functions[1], -9.0, stopped_early="score -9 after epoch 1 of 4 is below -1")
        world.store.export_run(lease.run_id, "act-bench", tmp_path / "bench.json")
        return json.loads((tmp_path / "bench.json").read_text())

    document = exported()
    assert list(document) == ["f0(x)"]
    assert not {"Train Score", "Validation Score", "Test Score"} & set(document["f0(x)"]), "accuracy says it all"
    world.task_id = world.store.add_task("wine", "1", "w", {"objective": {"metric": "rmse", "higher_is_better": False}})
    entry = exported()["f0(x)"]
    assert [entry[f"{split} Score"] for split in ("Train", "Validation", "Test")] == [-0.25, -0.5, -0.75]
    assert math.isnan(entry["Validation Accuracy"])
    assert entry["Validation Loss"] == 0.25
