"""An import is there wholly or not at all, once, apart from all trainings, and is written again as it came."""

from __future__ import annotations

import json
import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import sqlalchemy as sa

from aquasurf_ray.store import (
    ACCURACY,
    BadRecord,
    BenchmarkEntry,
    EvaluationResult,
    FunctionRow,
    ImportedEntry,
    NewImport,
    NewRun,
    RunExists,
    Store,
    StoreCorrupt,
    StoreError,
    TaskMetric,
    read_benchmark,
    this_process,
)
from aquasurf_ray.store.database import migrate
from aquasurf_ray.store.database.clock import SystemClock
from aquasurf_ray.store.database.schema import Base
from aquasurf_ray.store.database.transactions import Database
from aquasurf_ray.store.database.url import parse_url
from aquasurf_ray.store.records.packed import pack, unpack

CDF = np.array([0.0, -0.0, 5e-324, 0.1, math.nan, math.inf, 1.0])


def entry(name, accuracy, **more):
    if math.isnan(accuracy):
        result = EvaluationResult("diverged", val_accuracy=accuracy, reason="the file gives nan as validation accuracy")
    else:
        result = EvaluationResult(
            "done", score=accuracy, val_accuracy=accuracy, train_loss=math.nan, test_loss=math.inf
        )
    return BenchmarkEntry(name, result, **more)


ENTRIES = (
    ImportedEntry(
        "fingerprint0", 0, entry("f0( x )", 0.9, aliases=("b(x)", "a(x)"), cdf=pack(CDF), cdf_length=len(CDF))
    ),
    ImportedEntry("new", 0, entry("new(x)", math.nan, other='{"Epochs": [1, NaN]}')),
    ImportedEntry("fingerprint0", 1, entry("g0(x)", 0.5)),
)
FUNCTIONS = (FunctionRow("fingerprint0", "f0(x)", 1, ("g0(x)",)), FunctionRow("new", "new(x)", 1))
NEW = NewImport(
    "bench", "digits", ACCURACY, "bench.json", "ab" * 32, (), "0.1.0", FUNCTIONS, ENTRIES, {"entries": len(ENTRIES)}
)


def rows(store):
    """All that the store holds, but for times."""

    def body(connection):
        return {
            table.name: [tuple(row) for row in connection.execute(sa.select(table).order_by(*table.primary_key))]
            for table in Base.metadata.sorted_tables
        }

    return repr(store._read(body))


def test_it_is_a_finished_run_that_status_and_leaderboard_know(world):
    run = world.store.import_benchmark(NEW)
    assert (run.created, run.kind, run.status) == (True, "import", "finished")
    assert run.config == {"task": "digits", "file": "bench.json", "file_digest": "ab" * 32, "modules": []}
    status = world.store.status(run.id)
    assert (status.finished, status.by_status) == (3, {"done": 2, "diverged": 1})
    assert status.best.function == "f0(x)"
    assert [(row.function, row.seed, row.score) for row in world.store.leaderboard(run_id=run.id)] == [
        ("f0(x)", 0, 0.9),
        ("f0(x)", 1, 0.5),
    ]
    requests = world.store.snapshot(run.id).evaluations
    assert [(request.position, request.origin, request.reused) for request in requests] == [
        (i, "import", False) for i in range(3)
    ]
    assert requests[0].evaluation.test_loss == math.inf
    assert math.isnan(requests[0].evaluation.train_loss)
    assert {(w.evaluation.worker, w.evaluation.started_at, w.evaluation.finished_at) for w in requests} == {(None,) * 3}
    (event,) = world.store.events(run.id)
    assert (event.kind, event.data) == ("imported", {"entries": 3})
    history = world.store.function_history("new(x)")
    assert [(item.run, item.request.evaluation.status) for item in history.evaluations] == [("bench", "diverged")]


def test_its_task_is_not_the_one_that_is_trained_here(world):
    """So a search of the task meets neither its evaluations nor their seeds."""
    run = world.store.import_benchmark(NEW)
    task = world.store.task(run.task_id)
    assert (task.name, task.version, task.metric) == ("digits", "imported", ACCURACY)
    assert task.spec["imported"] == {"file": "bench.json", "file_digest": "ab" * 32}
    assert run.task_id != world.task_id
    lease = world.lease("search")
    for seed in (0, 1):
        claim = world.store.claim(lease, world.functions[0], seed, "baseline")
        assert (claim.state, claim.record.score) == ("claimed", None)
    assert world.store.leaderboard(task_id=world.task_id) == []


def test_entries_come_back_to_the_last_bit(world):
    run = world.store.import_benchmark(NEW)
    back = list(world.store.imported_entries(run.id))
    assert repr(back) == repr([item.entry for item in ENTRIES])
    assert back[0].cdf_values().tobytes() == CDF.tobytes()
    assert back[1].unknown_titles() == ("Epochs",)


def test_more_entries_than_one_statement_takes_keep_their_order(world):
    rows = tuple(FunctionRow(f"many{i}", f"many{i}(x)", 1) for i in range(1100))
    many = tuple(ImportedEntry(f"many{i}", 0, entry(f"many{i}(x)", i / 1100)) for i in reversed(range(1100)))
    run = world.store.import_benchmark(replace(NEW, functions=rows, entries=many))
    assert [item.name for item in world.store.imported_entries(run.id)] == [item.entry.name for item in many]


def test_a_file_that_is_known_changes_nothing(world):
    first = world.store.import_benchmark(NEW)
    before = rows(world.store)
    second = world.store.import_benchmark(replace(NEW, name="other"))
    assert (second.id, second.created) == (first.id, False)
    assert world.store.find_import("digits", "ab" * 32).id == first.id
    assert world.store.find_import("digits", "cd" * 32) is None
    assert rows(world.store) == before
    elsewhere = world.store.import_benchmark(replace(NEW, name="other", task="other/task"))
    assert (elsewhere.created, elsewhere.task_id != first.task_id) == (True, True)


def test_two_at_once_make_one_run(world):
    def work(name):
        with Store.open(world.url) as store:
            return store.import_benchmark(replace(NEW, name=name)).created

    with ThreadPoolExecutor(2) as pool:
        assert sorted(pool.map(work, ["one", "two"])) == [False, True]
    assert len(world.store.runs()) == 1


@pytest.mark.parametrize(
    ("broken", "error"),
    [
        ({"name": "run"}, RunExists),
        ({"name": " "}, BadRecord),
        ({"entries": (*ENTRIES, ENTRIES[0])}, StoreError),
        (
            {
                "entries": (
                    *ENTRIES,
                    ImportedEntry("new", 1, BenchmarkEntry("n(x)", EvaluationResult("done", score=math.nan))),
                )
            },
            BadRecord,
        ),
    ],
)
def test_what_fails_leaves_the_store_as_it_was(world, broken, error):
    world.run("run")
    before = rows(world.store)
    with pytest.raises(error):
        world.store.import_benchmark(replace(NEW, **broken))
    assert rows(world.store) == before


def test_export_writes_what_the_file_said(world, tmp_path):
    run = world.store.import_benchmark(NEW)
    path = tmp_path / "again.json"
    assert world.store.export_run(run.id, "act-bench", path) == 3
    document = json.loads(path.read_text())
    assert list(document) == ["f0( x )", "new(x)", "g0(x)"]
    first, diverged, _ = document.values()
    assert first["Equivalent Activation Functions"] == ["b(x)", "a(x)"]
    assert np.array(first["Fisher log eigenvalue CDF"]).tobytes() == CDF.tobytes()
    assert (first["Validation Accuracy"], first["Test Loss"], first["Test Accuracy"]) == (0.9, math.inf, None)
    assert math.isnan(diverged["Validation Accuracy"])
    assert repr(diverged["Epochs"]) == "[1, nan]"


def test_the_export_of_a_run_is_imported_and_written_again_as_it_was(world, tmp_path):
    """Of a task that is judged by another metric, so that the scores come along."""
    spec = {"objective": {"metric": "rmse", "higher_is_better": False}}
    task_id = world.store.add_task("table", "1", "rmse-digest", spec)
    run = world.store.create_run(NewRun("run", "evaluate", task_id, {}, "digest", 0, 2, None, "0.1.0"), world.functions)
    lease = world.store.acquire_lease(run.id, this_process())
    results = [
        EvaluationResult("done", score=-0.25, train_score=-0.125, test_score=-0.5, val_loss=math.inf, seconds=2.0),
        EvaluationResult("diverged", train_loss=math.nan, reason="loss is NaN"),
    ]
    for function, result in zip(world.functions, results, strict=False):
        world.store.record_result(lease, world.store.claim(lease, function, 0, "proposal").evaluation_id, result)
    first, second = tmp_path / "first.json", tmp_path / "second.json"
    world.store.export_run(run.id, "act-bench", first)
    metric = TaskMetric("rmse", higher_is_better=False)
    read = list(read_benchmark(first, metric))
    entries = tuple(ImportedEntry(f"fingerprint{i}", 0, item) for i, item in enumerate(read))
    rows = tuple(FunctionRow(f"fingerprint{i}", item.name, 1) for i, item in enumerate(read))
    again = world.store.import_benchmark(replace(NEW, metric=metric, functions=rows, entries=entries))
    world.store.export_run(again.id, "act-bench", second)
    assert second.read_bytes() == first.read_bytes()
    assert [row.score for row in world.store.leaderboard(run_id=again.id)] == [-0.25]


def test_damaged_bytes_are_reported():
    with pytest.raises(StoreCorrupt, match="5 bytes of packed numbers are damaged"):
        unpack(b"12345")
    with pytest.raises(StoreCorrupt, match="are damaged"):
        unpack(pack(CDF)[:-6])


def test_a_store_of_version_0002_takes_imports_and_keeps_all_it_had(store_url):
    database = Database(parse_url(store_url), SystemClock(), 10)
    database.write(lambda connection: migrate.upgrade(connection, "0002"))

    def fill(connection):
        now = "2026-01-02 03:04:05.000000"
        connection.exec_driver_sql(f"INSERT INTO tasks VALUES (7, 'digits', '1', 'd', '{{}}', '{now}')")
        columns = "id, name, kind, task_id, config, config_digest, seed, status, code_version, created_at, updated_at, "
        values = f"7, 'old', 'search', 7, '{{}}', 'c', 0, 'finished', '0', '{now}', '{now}', 0, 0"
        connection.exec_driver_sql(f"INSERT INTO runs ({columns} lease_token, lease_heartbeat) VALUES ({values})")
        connection.exec_driver_sql("CREATE VIEW mine AS SELECT name FROM runs WHERE kind <> 'evaluate'")

    database.write(fill)
    database.close()
    with Store.open(store_url) as store:
        assert [run.name for run in store.runs()] == ["old"]
        store.import_benchmark(NEW)
        for table, column in (("runs", "kind"), ("run_evaluations", "origin")):
            with pytest.raises(StoreError, match="refused a statement"):
                store._write(lambda c, t=table, k=column: c.exec_driver_sql(f"UPDATE {t} SET {k} = 'other'"))

        def look(connection):
            if connection.dialect.name == "sqlite":
                assert connection.exec_driver_sql("PRAGMA integrity_check").scalar() == "ok"
                assert connection.exec_driver_sql("PRAGMA foreign_key_check").all() == []
            return set(connection.exec_driver_sql("SELECT name FROM mine").scalars())

        assert store._read(look) == {"old", "bench"}
