"""Files out of the store say what it holds, and are whole or not there."""

from __future__ import annotations

import csv
import json
import math
import os
import struct

import pyarrow.parquet
import pytest

from aquasurf_ray.store import (
    EvaluationResult,
    ExportError,
    FunctionRow,
    Neighbor,
    RunNotFound,
    SpectrumRecord,
    SuggestionRecord,
)
from aquasurf_ray.store.benchmark_files.act_bench import median

FIGURES = {
    "Train Accuracy",
    "Validation Accuracy",
    "Train Loss",
    "Validation Loss",
    "Test Accuracy",
    "Test Loss",
    "Equivalent Activation Functions",
    "Fisher log eigenvalue CDF",
    "Runtime (s)",
}


@pytest.fixture
def run(world):
    """f0 done with an infinite loss, f1 diverged, f2 failed, f3 with three seeds."""
    lease, f = world.lease(), world.functions
    world.store.add_functions([FunctionRow("fingerprint0", "g0(x)", 1, ("h0(x)",))])
    reason = SuggestionRecord(0.75, 2, (Neighbor(f[1], 0.1, None),), "e1")
    results = [
        EvaluationResult("done", score=0.9, val_accuracy=0.9, val_loss=math.inf, test_score=0.8, seconds=2.0),
        EvaluationResult("diverged", train_loss=math.nan, reason="loss is NaN, at step 3"),
    ]
    for function, result in zip(f, results, strict=False):
        claim = world.store.claim(lease, function, 0, "suggestion", reason)
        world.store.record_result(lease, claim.evaluation_id, result)
    claim = world.store.claim(lease, f[2], 0, "suggestion")
    world.store.record_failure(lease, claim.evaluation_id, "killed", final=True)
    for seed, loss in ((0, 1.0), (1, math.nan), (2, 3.0)):
        claim = world.store.claim(lease, f[3], seed, "baseline")
        result = EvaluationResult("done", score=0.5 + seed / 10, val_accuracy=0.5 + seed / 10, val_loss=loss)
        world.store.record_result(lease, claim.evaluation_id, result)
    feature = struct.pack("<3d", 0.0, 0.25, 1.0)
    world.store.record_spectra(lease, [SpectrumRecord(f[0], "sampled", 0, "done", feature)])
    return lease.run_id


def test_csv(world, run, tmp_path):
    assert world.store.export_run(run, "csv", tmp_path / "run.csv") == 6
    with (tmp_path / "run.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["function"] for row in rows] == ["f0(x)", "f1(x)", "f2(x)", "f3(x)", "f3(x)", "f3(x)"]
    assert (rows[0]["val_loss"], rows[0]["predicted_score"], rows[0]["train_loss"]) == ("inf", "0.75", "")
    assert (rows[1]["train_loss"], rows[1]["score"], rows[1]["reason"]) == ("nan", "", "loss is NaN, at step 3")
    assert rows[2]["error"] == "killed"


def test_parquet_keeps_types_and_tells_nan_from_nothing(world, run, tmp_path):
    world.store.export_run(run, "parquet", tmp_path / "run.parquet")
    table = pyarrow.parquet.read_table(tmp_path / "run.parquet")
    rows = table.to_pylist()
    assert rows[0]["val_loss"] == math.inf
    assert math.isnan(rows[1]["train_loss"])
    assert rows[0]["train_loss"] is None
    assert rows[0]["finished_at"] == world.store.snapshot(run).evaluations[0].evaluation.finished_at
    types = {name: str(table.schema.field(name).type) for name in ("rank", "reused", "score", "function", "created_at")}
    assert types == {
        "rank": "int64",
        "reused": "bool",
        "score": "double",
        "function": "string",
        "created_at": "timestamp[us, tz=UTC]",
    }


def test_parquet_of_an_empty_run(world, tmp_path):
    assert world.store.export_run(world.run().id, "parquet", tmp_path / "run.parquet") == 0
    assert pyarrow.parquet.read_table(tmp_path / "run.parquet").num_rows == 0


def test_act_bench(world, run, tmp_path):
    path = tmp_path / "bench.json"
    n = world.store.export_run(run, "act-bench", path, cdf=lambda feature: struct.unpack("<3d", feature))
    document = json.loads(path.read_text())
    assert n == 3
    assert list(document) == ["f0(x)", "f1(x)", "f3(x)"]
    assert all(set(entry) == FIGURES for entry in document.values())
    first = document["f0(x)"]
    assert (first["Validation Accuracy"], first["Test Accuracy"], first["Runtime (s)"]) == (0.9, 0.8, 2.0)
    assert first["Validation Loss"] == math.inf
    assert first["Equivalent Activation Functions"] == ["g0(x)", "h0(x)"]
    assert first["Fisher log eigenvalue CDF"] == [0.0, 0.25, 1.0]
    assert math.isnan(document["f1(x)"]["Train Loss"])
    assert document["f1(x)"]["Fisher log eigenvalue CDF"] == []
    assert document["f3(x)"]["Validation Accuracy"] == pytest.approx(0.6)
    assert document["f3(x)"]["Validation Loss"] == 3.0
    assert "Infinity" in path.read_text()
    assert "NaN" in path.read_text()


def test_act_bench_of_an_empty_run(world, tmp_path):
    assert world.store.export_run(world.run().id, "act-bench", tmp_path / "bench.json") == 0
    assert json.loads((tmp_path / "bench.json").read_text()) == {}


@pytest.mark.parametrize(
    ("values", "more_is_better", "expected"),
    [
        ([0.1], True, 0.1),
        ([0.1, 0.3], True, 0.2),
        ([None, 0.3, None], True, math.nan),
        ([None, 0.3, 0.5], True, 0.3),
        ([math.nan, 0.3, 0.5], False, 0.5),
        ([math.inf, math.inf, 0.5], False, math.inf),
        ([math.inf, None, 0.5], False, math.inf),
        ([None, 0.5], False, math.nan),
    ],
)
def test_median_puts_what_is_missing_at_the_worse_end(values, more_is_better, expected):
    assert median(values, more_is_better) == pytest.approx(expected, nan_ok=True)


def test_a_file_is_whole_or_as_it_was(world, run, tmp_path):
    path = tmp_path / "bench.json"
    path.write_text("before")

    def fail(feature: bytes) -> list[float]:
        raise RuntimeError("no such feature")

    with pytest.raises(RuntimeError):
        world.store.export_run(run, "act-bench", path, cdf=fail)
    assert path.read_text() == "before"
    assert [item.name for item in tmp_path.iterdir() if "store.db" not in item.name] == ["bench.json"]


def test_places_and_formats_that_are_not_there(world, run, tmp_path):
    with pytest.raises(ExportError, match=r"'.*/no/run\.csv' cannot be written: No such file"):
        world.store.export_run(run, "csv", tmp_path / "no" / "run.csv")
    with pytest.raises(ExportError, match="format must be one of csv, parquet, act-bench, got 'xls'"):
        world.store.export_run(run, "xls", tmp_path / "run.xls")
    with pytest.raises(RunNotFound, match="4711"):
        world.store.export_run(4711, "csv", tmp_path / "run.csv")


def test_a_pipe_or_a_folder_is_refused_and_stays_what_it_was(world, run, tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(ExportError, match="pipe' is a device or a pipe; name a file"):
        world.store.export_run(run, "csv", pipe)
    assert pipe.is_fifo()
    for folder in (tmp_path, "", ".", "/"):
        with pytest.raises(ExportError, match="is a folder; name a file in it"):
            world.store.export_run(run, "csv", folder)


def test_a_link_stays_and_the_file_behind_it_is_written(world, run, tmp_path):
    link, file = tmp_path / "link.csv", tmp_path / "file.csv"
    link.symlink_to(file)
    world.store.export_run(run, "csv", link)
    assert link.is_symlink()
    assert "f0" in file.read_text()
