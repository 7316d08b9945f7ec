"""A snapshot shows one state of the store, whole or not at all, and other programs read it."""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime

import duckdb
import pyarrow.parquet
import pytest
from synthetic_run import NAME, fill_store

from aquasurf_ray.store import EvaluationResult, ExportError, NewRun, Store
from aquasurf_ray.store.sql.table_columns import everything
from aquasurf_ray.store.verbs import snapshot


@pytest.fixture
def store(world_url):
    with Store.open(world_url) as opened:
        fill_store(opened)
        yield opened


def test_every_view_and_table_is_there_with_its_types(store, tmp_path):
    counts = store.write_snapshot(tmp_path / "out")
    views = everything()
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "README.md",
        *(f"{view.name}.parquet" for view in views),
    }
    for view in views:
        table = pyarrow.parquet.read_table(tmp_path / "out" / f"{view.name}.parquet")
        assert table.column_names == [column.name for column in view.columns]
        assert len(table) == counts[view.name]
    readme = (tmp_path / "out" / "README.md").read_text()
    assert all(view.markdown() in readme for view in views)
    assert list(tmp_path.glob(".out*")) == []


@pytest.mark.slow
def test_what_is_read_back_is_what_the_store_has(store, tmp_path):
    store.write_snapshot(tmp_path / "out")
    run = store.run(NAME)

    def rows(name):
        return pyarrow.parquet.read_table(tmp_path / "out" / f"{name}.parquet").to_pylist()

    board = [row for row in rows("leaderboard") if row["run"] == NAME]
    expected = store.leaderboard(run_id=run.id)
    assert {row["function"]: (row["score"], row["time_ratio"], row["reused"]) for row in board} == {
        row.function: (row.score, row.time_ratio, row.reused) for row in expected
    }
    assert all(datetime(2020, 1, 1, tzinfo=UTC) < row["finished_at"] for row in board)
    (stored,) = (row for row in rows("runs") if row["name"] == NAME)
    assert json.loads(stored["config"]) == run.config
    assert stored["created_at"] == run.created_at
    features = {row["function_id"]: row["feature"] for row in rows("spectra")}
    spectra = store.spectra(run.task_id, features)
    assert features == {number: record.feature for number, record in spectra.items()}
    assert len(features) == 24
    assert len(rows("events")) == sum(
        len(store.events(number)) for number in (run.id, store.run("synthetic-confirm").id)
    )


@pytest.mark.parametrize("world_url", ["sqlite"], indirect=True)
def test_duckdb_answers_from_the_files(store, tmp_path):
    store.write_snapshot(tmp_path / "out")
    sql = f"""SELECT function, max(score) FROM '{tmp_path}/out/leaderboard.parquet' WHERE run = '{NAME}'
        GROUP BY function ORDER BY 2 DESC LIMIT 1"""
    (best,) = store.leaderboard(run_id=store.run(NAME).id, n=1)
    with duckdb.connect() as connection:
        assert connection.execute(sql).fetchall() == [(best.function, best.score)]
        joined = f"""SELECT count(*) FROM '{tmp_path}/out/evaluations.parquet' AS e
            JOIN '{tmp_path}/out/functions.parquet' AS f ON f.id = e.function_id WHERE e.finished_at > '2020-01-01'"""
        assert connection.execute(joined).fetchone() == (store.evaluations()["finished_at"].notna().sum(),)


def test_numbers_that_are_none_are_not_absent(world, tmp_path):
    lease = world.lease()
    claim = world.store.claim(lease, world.functions[0], 0, "baseline")
    result = EvaluationResult("done", score=0.5, val_loss=math.nan, test_loss=-math.inf)
    world.store.record_result(lease, claim.evaluation_id, result)
    world.store.write_snapshot(tmp_path / "out")
    for name in ("evaluations", "leaderboard"):
        (row,) = pyarrow.parquet.read_table(tmp_path / "out" / f"{name}.parquet").to_pylist()
        assert math.isnan(row["val_loss"])
        assert (row["test_loss"], row["train_loss"]) == (-math.inf, None)


@pytest.mark.slow
def test_rows_pass_in_batches(store, tmp_path, monkeypatch):
    store.write_snapshot(tmp_path / "whole")
    monkeypatch.setattr(snapshot, "ROWS_AT_A_TIME", 5)
    monkeypatch.setattr(snapshot, "ROWS_OF_BYTES_AT_A_TIME", 7)
    store.write_snapshot(tmp_path / "parts")
    for name, groups in (("epochs", 5), ("spectra", 7)):
        file = pyarrow.parquet.ParquetFile(tmp_path / "parts" / f"{name}.parquet")
        assert file.metadata.num_row_groups == math.ceil(file.metadata.num_rows / groups) > 2
        assert file.read().equals(pyarrow.parquet.read_table(tmp_path / "whole" / f"{name}.parquet"))


def test_what_is_written_meanwhile_is_in_no_file(store, tmp_path, monkeypatch):
    before = store.write_snapshot(tmp_path / "before")
    write, runs = snapshot._write_file, iter(range(100))

    def beside(*arguments):
        written = write(*arguments)
        store.create_run(NewRun(f"later-{next(runs)}", "search", 1, {}, "c", 0, 1, None, "0"))
        return written

    monkeypatch.setattr(snapshot, "_write_file", beside)
    assert store.write_snapshot(tmp_path / "meanwhile") == before
    monkeypatch.undo()
    assert store.write_snapshot(tmp_path / "after")["runs"] == before["runs"] + len(everything())


@pytest.mark.parametrize("world_url", ["sqlite"], indirect=True)
def test_a_snapshot_that_fails_leaves_nothing(store, tmp_path, monkeypatch):
    def full(*arguments):
        arguments[-1].write_bytes(b"a part")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(snapshot, "_write_file", full)
    with pytest.raises(ExportError, match="out' cannot be written: No space left on device"):
        store.write_snapshot(tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir() if "out" in path.name] == []


@pytest.mark.parametrize("world_url", ["sqlite"], indirect=True)
def test_nothing_is_overwritten(store, tmp_path):
    (tmp_path / "out").mkdir()
    store.write_snapshot(tmp_path / "out")
    (tmp_path / "file").write_text("mine")
    for name in ("out", "file"):
        with pytest.raises(ExportError, match="already exists; name a new folder"):
            store.write_snapshot(tmp_path / name)
    with pytest.raises(ExportError, match="cannot be written: No such file or directory"):
        store.write_snapshot(tmp_path / "nowhere" / "out")
    assert (tmp_path / "file").read_text() == "mine"
