"""Evaluations and learning curves as DataFrames: typed, complete, and of what was asked for."""

from __future__ import annotations

import math

import pandas as pd
import pytest
from synthetic_run import DIVERGED, NAME, fill_store

from aquasurf_ray.store import BadRecord, EpochRecord, EvaluationResult, RecordNotFound, RunNotFound, Store


@pytest.fixture
def store(world_url):
    with Store.open(world_url) as opened:
        fill_store(opened)
        yield opened


def test_rows_are_the_evaluations_in_the_order_of_the_run(store):
    frame = store.evaluations(run=NAME)
    requests = store.snapshot(store.run(NAME).id).evaluations
    assert frame["function"].tolist() == [request.function for request in requests]
    assert frame["position"].tolist() == list(range(len(requests)))
    assert frame["evaluation_id"].tolist() == [request.evaluation.id for request in requests]
    done = frame[frame["status"] == "done"]
    best = done.loc[done["score"].idxmax()]
    (top,) = store.leaderboard(run_id=store.run(NAME).id, n=1)
    assert (best["function"], best["score"], best["time_ratio"]) == (top.function, top.score, top.time_ratio)
    diverged = frame[frame["status"] == "diverged"].iloc[0]
    assert (diverged["reason"], math.isnan(diverged["score"])) == (DIVERGED, True)
    assert frame["error"].notna().sum() == 1


def test_types_do_not_depend_on_what_is_there(store):
    full, empty = store.evaluations(), store.evaluations(status="queued")
    assert (len(empty), list(empty.columns)) == (0, list(full.columns))
    for frame in (full, empty):
        kinds = {name: str(dtype) for name, dtype in frame.dtypes.items()}
        assert (kinds["score"], kinds["seed"], kinds["reused"]) == ("float64", "Int64", "bool")
        assert isinstance(frame["function"].dtype, pd.StringDtype)
        assert kinds["finished_at"] == "datetime64[us, UTC]"
    assert list(store.curves(status="queued").dtypes) == list(store.curves().dtypes)


def test_filters(store):
    assert set(store.evaluations(status="done", run=NAME)["status"]) == {"done"}
    assert len(store.evaluations(task="digits")) == len(store.evaluations()) == len(store.evaluations(run=NAME)) + 15
    store.add_task("idle", "1", "idle", {})
    assert store.evaluations(task="idle").empty
    with pytest.raises(RunNotFound, match="no run is named 'x'"):
        store.evaluations(run="x")
    with pytest.raises(RecordNotFound, match="no task is named 'x'"):
        store.curves(task="x")
    with pytest.raises(BadRecord, match=r"status must be one of queued, running, .*got 'good'"):
        store.evaluations(status="good")


def test_curves_have_an_epoch_a_row(store):
    curves = store.curves(run=NAME)
    done = store.evaluations(run=NAME, status="done")
    assert len(curves) == 4 * len(done)
    last = curves[curves["epoch"] == 4].set_index("evaluation_id")["val_score"]
    assert last.to_dict() == pytest.approx(done.set_index("evaluation_id")["score"].to_dict())


def test_nan_is_a_number_that_is_none(world):
    lease = world.lease()
    claim = world.store.claim(lease, world.functions[0], 0, "baseline")
    epochs = (EpochRecord(1, val_loss=math.nan, train_loss=math.inf),)
    world.store.record_result(
        lease, claim.evaluation_id, EvaluationResult("done", score=0.5, val_loss=math.nan, epochs=epochs)
    )
    assert math.isnan(world.store.evaluations()["val_loss"][0])
    row = world.store.curves().iloc[0]
    assert math.isnan(row["val_loss"])
    assert row["train_loss"] == math.inf
