"""From a store that version 0001 wrote to this one's: everything kept and made complete, wholly or not at all.

The old store is made by the 0001 migration alone and filled by SQL of that time, so no code of today touches it first.
"""

from __future__ import annotations

import math
import signal
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest
import sqlalchemy as sa
from store_reading import claim_next

from aquasurf_ray.store import (
    EvaluationResult,
    NewRun,
    RunHeld,
    Store,
    StoreError,
    StoreTooOld,
    read_only_query,
    this_process,
)
from aquasurf_ray.store.database import migrate
from aquasurf_ray.store.database.clock import SystemClock
from aquasurf_ray.store.database.schema import HEAD_REVISION
from aquasurf_ray.store.database.transactions import Database
from aquasurf_ray.store.database.url import parse_url

ROOT = Path(__file__).parents[3]
NOW = "2026-01-02 03:04:05.000000"
VALUES_OF_0001 = {
    "tasks": f"(1, 'digits', '1', 'task-digest', '{{\"epochs\": 2}}', '{NOW}')",
    "functions": "(1, 'fp1', 'relu(x)', 1), (2, 'fp2', 'exp(x)', 1), (3, 'fp3', 'tanh(x)', 1), (4, 'fp4', 'erf(x)', 1)",
    "aliases": "('max(x,zero(x))', 1)",
    "runs": f"(1, 'old', 'search', 1, '{{}}', 'digest', 0, 4, 'running', NULL, '0.1.0', '{NOW}', '{NOW}', NULL,"
    ' 1, \'{"host": "h", "boot_id": "b", "pid": 1, "started": 1, "namespace": "n"}\', 30.0, 7, '
    f"'{NOW}')",
    "run_candidates": "(1, 0, 1), (1, 1, 2), (1, 2, 3), (1, 3, 4)",
    "evaluations": ", ".join(
        f"({i}, 1, {i}, 0, '{status}', {claimer}, 1, 0, {figures}, 2, 1.5, 300.0, {reason}, NULL, 'cpu', 'w', '0.1.0',"
        f" '{NOW}', NULL, NULL)"
        for i, status, claimer, figures, reason in (
            (1, "done", 1, "0.9, 0.5, 0.8, 0.3, 0.9, 0.4, 0.85", "NULL"),
            (2, "diverged", 1, "NULL, 'NaN', NULL, NULL, NULL, NULL, NULL", "'loss is NaN'"),
            (3, "running", 1, "NULL, NULL, NULL, NULL, NULL, NULL, NULL", "NULL"),
            (4, "queued", "NULL", "NULL, NULL, NULL, NULL, NULL, NULL, NULL", "NULL"),
        )
    ),
    "epochs": "(1, 1, 0.7, 0.6, 0.5, 0.7, 0.1, 0.7), (1, 2, 0.5, 0.8, 'NaN', 0.9, 0.0, 0.8)",
    "run_evaluations": ", ".join(
        f"({i}, 1, {i}, {i - 1}, '{origin}', {reused}, NULL, NULL, NULL, NULL, '{NOW}')"
        for i, origin, reused in ((1, "baseline", "FALSE"), (2, "suggestion", "FALSE"), (3, "suggestion", "FALSE"))
    ),
    "events": f"(1, 1, 1, '{NOW}', 'created', NULL, NULL, NULL)",
}


@pytest.fixture
def old_url(store_url):
    """The URL of a store of version 0001 with a run in the middle of its work, once on each engine."""
    database = Database(parse_url(store_url), SystemClock(), 10)
    database.write(lambda connection: migrate.upgrade(connection, "0001"))
    database.write(fill)
    database.close()
    return store_url


def fill(connection):
    for table, values in VALUES_OF_0001.items():
        connection.exec_driver_sql(f"INSERT INTO {table} VALUES {values}")
    if connection.dialect.name == "postgresql":
        for table in ("tasks", "functions", "runs", "evaluations", "run_evaluations", "events"):
            connection.exec_driver_sql(f"SELECT setval(pg_get_serial_sequence('{table}', 'id'), 100)")


def version(url):
    database = Database(parse_url(url), SystemClock(), 10)
    try:
        return database.read(migrate.current_revision)
    finally:
        database.close()


def old_tables(url):
    """All that version 0001 knows of its tables, and nothing else."""
    database = Database(parse_url(url), SystemClock(), 10)

    def body(connection):
        return {
            table: [tuple(row) for row in connection.exec_driver_sql(f"SELECT * FROM {table} ORDER BY 1, 2")]
            for table in VALUES_OF_0001
        }

    try:
        return repr(database.read(body))
    finally:
        database.close()


def test_the_old_store_is_what_it_says(old_url):
    assert version(old_url) == "0001"
    database = Database(parse_url(old_url), SystemClock(), 10)
    tables = database.read(lambda connection: set(sa.inspect(connection).get_table_names()))
    names = database.read(lambda c: {column["name"] for column in sa.inspect(c).get_columns("evaluations")})
    database.close()
    assert "costs" not in tables
    assert "precision" not in names


def test_everything_is_kept_and_what_is_known_is_filled_in(old_url):
    with Store.open(old_url) as store:
        assert version(old_url) == HEAD_REVISION
        (relu, exp, tanh), run = (store.evaluation(i) for i in (1, 2, 3)), store.run("old")
        assert (relu.score, relu.val_accuracy, relu.test_accuracy, relu.train_loss) == (0.9, 0.9, 0.85, 0.5)
        assert (relu.test_score, relu.train_score, relu.precision, relu.n_devices) == (0.85, 0.8, "float32", 1)
        assert (relu.stopped_early, relu.examples_per_second) == (None, None)
        assert math.isnan(exp.train_loss)
        assert (exp.reason, exp.train_score, exp.precision) == ("loss is NaN", None, "float32")
        assert (tanh.status, tanh.claimed_by, tanh.precision) == ("running", run.id, None)
        first, last = store.curve(1)
        assert (first.val_score, first.train_score, last.val_score) == (0.7, 0.6, 0.9)
        assert math.isnan(last.val_loss)
        assert [early for early, _ in store.early_scores(1, 1)] == [0.7]
        assert [row.function for row in store.leaderboard(run_id=run.id)] == ["relu(x)"]
        assert store.task(1).metric.name == "accuracy"
        assert (run.lease_owner.host, store.find_function("max(x,zero(x))").name) == ("h", "relu(x)")


def test_runs_of_further_kinds_can_be_made_and_no_others(old_url):
    with Store.open(old_url) as store:
        kinds = ("build", "confirm", "evaluate", "search")
        runs = [store.create_run(NewRun(kind, kind, 1, {}, "d", 0, 1, None, "0.1.0")) for kind in kinds]
        assert [run.kind for run in runs] == list(kinds)
        with pytest.raises(StoreError, match="ck_runs_kind"):
            store.create_run(NewRun("other", "other", 1, {}, "d", 0, 1, None, "0.1.0"))
        assert [run.name for run in store.runs()] == ["old", *kinds]


def test_the_run_resumes_where_it_was(old_url):
    with Store.open(old_url, is_dead=lambda owner: owner.host == "h") as store:
        lease = store.acquire_lease(store.run("old").id, this_process())
        claim = claim_next(store, lease)
        assert claim.evaluation_id == 3
        result = EvaluationResult("done", score=0.5, test_score=0.4, precision="bfloat16", n_devices=4)
        assert store.record_result(lease, claim.evaluation_id, result)
        record = store.evaluation(3)
        assert (record.test_score, record.precision, record.n_devices) == (0.4, "bfloat16", 4)


def test_a_driver_of_the_old_version_that_still_works_can_finish_its_writes(old_url):
    """Its statements name the columns that they fill, and all new ones may be empty."""
    Store.open(old_url).close()
    database = Database(parse_url(old_url), SystemClock(), 10)
    finish = "UPDATE evaluations SET status = 'done', score = 0.4, val_accuracy = 0.4 WHERE id = 3"
    curve = "INSERT INTO epochs (evaluation_id, epoch, val_accuracy) VALUES (3, 1, 0.4)"
    for statement in (finish, curve):
        database.write(lambda connection, statement=statement: connection.exec_driver_sql(statement))
    database.close()
    with Store.open(old_url) as store:
        assert (store.evaluation(3).score, store.curve(3)[0].val_accuracy) == (0.4, 0.4)
        assert [early for early, _ in store.early_scores(1, 1)] == [0.7], "an epoch without a score has none"


def test_views_have_the_new_columns_behind_the_old_ones(old_url):
    before = read_only_query(old_url, "SELECT * FROM leaderboard")
    Store.open(old_url).close()
    after = read_only_query(old_url, "SELECT * FROM leaderboard")
    n = len(before.columns)
    assert after.columns[:n] == before.columns
    assert [row[:n] for row in after.rows] == list(before.rows)
    told = dict(zip(after.columns, after.rows[0], strict=True))
    assert {key: told[key] for key in ("test_score", "time_ratio", "memory_ratio", "precision", "stopped_early")} == {
        "test_score": 0.85,
        "time_ratio": None,
        "memory_ratio": None,
        "precision": "float32",
        "stopped_early": None,
    }
    assert read_only_query(old_url, "SELECT val_score FROM learning_curves ORDER BY epoch").rows == ((0.7,), (0.9,))


@pytest.mark.parametrize("store_url", ["postgresql"], indirect=True)
def test_a_readers_grant_and_a_view_of_the_users_own_outlive_the_migration(old_url):
    with psycopg.connect(old_url.replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute("CREATE VIEW mine AS SELECT function, score FROM leaderboard")
        connection.execute("GRANT SELECT ON leaderboard TO pg_monitor")
        Store.open(old_url).close()
        assert connection.execute("SELECT * FROM mine").fetchall() == [("relu(x)", 0.9)]
        granted = "SELECT has_table_privilege('pg_monitor', 'leaderboard', 'SELECT')"
        assert connection.execute(granted).fetchone() == (True,)


def test_it_is_not_migrated_against_the_callers_will(old_url):
    before = old_tables(old_url)
    with pytest.raises(StoreTooOld, match=f"has schema 0001, this version needs {HEAD_REVISION}"):
        Store.open(old_url, migrate=False)
    assert (version(old_url), old_tables(old_url)) == ("0001", before)


@pytest.mark.parametrize("statement", ["UPDATE evaluations", "UPDATE aqua"])
@pytest.mark.reliability("killed-in-migration")
@pytest.mark.slow
def test_killed_in_the_middle_it_leaves_the_old_store_whole(old_url, statement):
    code = f"""
import os, signal, sys
import sqlalchemy as sa
from aquasurf_ray.store import Store
@sa.event.listens_for(sa.Engine, "after_cursor_execute")
def kill(connection, cursor, text, *_):
    if " ".join(text.split()).startswith({statement!r}):
        os.kill(os.getpid(), signal.SIGKILL)
Store.open(sys.argv[1])
"""
    before = old_tables(old_url)
    killed = subprocess.run([sys.executable, "-c", code, old_url], cwd=ROOT, capture_output=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert (version(old_url), old_tables(old_url)) == ("0001", before)
    with Store.open(old_url) as store:
        assert store.evaluation(1).test_score == 0.85


def test_what_another_holds_is_still_held(old_url, clock):
    with Store.open(old_url, clock=clock, is_dead=lambda owner: False) as store:
        clock.during_sleep = lambda: store._write(
            lambda connection: connection.exec_driver_sql("UPDATE runs SET lease_heartbeat = lease_heartbeat + 1")
        )
        with pytest.raises(RunHeld, match="held by h pid 1"):
            store.acquire_lease(store.run("old").id, this_process())


def test_an_evaluation_of_an_older_store_gets_others_with_changes_of_the_recipe(old_url):
    """The unique constraint and its index have the new column, and the database's own check finds nothing wrong."""
    Store.open(old_url).close()
    database = Database(parse_url(old_url), SystemClock(), 10)
    columns = "task_id, function_id, seed, status, attempts, created_at"
    row = f"1, 1, 0, 'queued', 0, '{NOW}'"
    database.write(
        lambda c: c.exec_driver_sql(
            f"INSERT INTO evaluations ({columns}, recipe_change) VALUES ({row}, 'learning_rate*2')"
        )
    )
    for same in (f"({columns}) VALUES ({row})", f"({columns}, recipe_change) VALUES ({row}, 'learning_rate*2')"):
        with pytest.raises(StoreError, match=r"(?i)unique constraint"):
            database.write(lambda c, same=same: c.exec_driver_sql(f"INSERT INTO evaluations {same}"))
    changes = "SELECT recipe_change FROM evaluations WHERE task_id = 1 AND function_id = 1 AND seed = 0 ORDER BY id"
    assert database.read(lambda c: c.exec_driver_sql(changes).scalars().all()) == ["", "learning_rate*2"]
    if parse_url(old_url).kind == "sqlite":
        assert database.read(lambda c: c.exec_driver_sql("PRAGMA integrity_check").scalars().all()) == ["ok"]
        assert database.read(lambda c: c.exec_driver_sql("PRAGMA foreign_key_check").all()) == []
    database.close()
