"""Queries by people: what reads is answered, what would change anything is refused by the database itself."""

from __future__ import annotations

import contextlib
import math
import sqlite3
import time

import pytest

from aquasurf_ray.store import (
    EpochRecord,
    EvaluationResult,
    QueryError,
    SpectrumRecord,
    StoreUnavailable,
    WrongDatabase,
)
from aquasurf_ray.store import read_only_query as query


@pytest.fixture
def url(world):
    lease = world.lease()
    for function, origin, score in zip(world.functions, ("baseline", "suggestion"), (0.5, 0.9), strict=False):
        claim = world.store.claim(lease, function, 0, origin)
        epochs = (EpochRecord(1, val_loss=math.nan), EpochRecord(2, val_loss=0.5))
        world.store.record_result(lease, claim.evaluation_id, EvaluationResult("done", score=score, epochs=epochs))
    world.store.record_spectra(lease, [SpectrumRecord(world.functions[0], "sampled", 0, "done", b"12345")])
    world.store.release_lease(lease, "finished")
    return world.url


def contents(url):
    return query(url, "SELECT * FROM runs"), query(url, "SELECT * FROM evaluations"), query(url, "SELECT * FROM events")


def test_views_answer_in_readable_columns(url):
    board = query(url, "SELECT run, task, rank, function, origin, score FROM leaderboard ORDER BY rank")
    assert board.columns == ("run", "task", "rank", "function", "origin", "score")
    assert board.rows == (
        ("run", "digits", 1, "f1(x)", "suggestion", 0.9),
        ("run", "digits", 2, "f0(x)", "baseline", 0.5),
    )
    curves = query(url, "SELECT function, epoch FROM learning_curves WHERE val_loss < 1 ORDER BY function")
    assert curves.rows == (("f0(x)", 2), ("f1(x)", 2))
    spectra = query(url, "SELECT function, status, feature_bytes FROM spectra_summary")
    assert spectra.rows == (("f0(x)", "done", 5),)
    overview = query(url, "SELECT run, status, candidates, evaluations, done, best_score FROM runs_overview")
    assert overview.rows == (("run", "finished", 8, 2, 2, 0.9),)


def test_limit_percent_signs_and_trailing_semicolon(url):
    result = query(url, "WITH a AS (SELECT name FROM functions) SELECT name FROM a WHERE name LIKE 'f%' -- end", 3)
    assert len(result.rows) == 3
    assert query(url, "SELECT 1 AS one;").rows == ((1,),)


HOSTILE = [
    "DELETE FROM runs",
    "UPDATE runs SET name = 'x'",
    "INSERT INTO aliases VALUES ('a', 1)",
    "DROP TABLE runs",
    "CREATE TABLE t (x int)",
    "CREATE TEMP TABLE t AS SELECT 1",
    "ALTER TABLE runs ADD COLUMN x int",
    "SELECT 1; DELETE FROM runs",
    "SELECT 1; SELECT 2",
    "COMMIT; DELETE FROM runs",
    "ROLLBACK",
    "BEGIN",
    "SAVEPOINT s",
    "VACUUM",
    "ANALYZE",
    "REINDEX",
    "",
    "-- nothing",
    "no sql at all",
    "SELECT * FROM nowhere",
    "SELECT \x00 1",
    "SELECT '\ud800'",
]
HOSTILE_SQLITE = [
    "ATTACH '{folder}/other.db' AS other",
    "ATTACH ':memory:' AS other",
    "PRAGMA writable_schema = ON",
    "PRAGMA query_only = OFF",
    "PRAGMA journal_mode = DELETE",
    "SELECT load_extension('x.so')",
    "VACUUM INTO '{folder}/copy.db'",
    "REPLACE INTO aliases VALUES ('a', 1)",
    "CREATE VIRTUAL TABLE t USING fts5(x)",
    "WITH a AS (SELECT 1) DELETE FROM runs",
    "DETACH main",
    "SELECT randomblob(1000000000)",
]
HOSTILE_POSTGRES = [
    "COPY runs TO PROGRAM 'touch {folder}/owned'",
    "COPY runs TO '{folder}/copy'",
    "COPY (SELECT 1) TO STDOUT",
    "WITH gone AS (DELETE FROM runs RETURNING *) SELECT * FROM gone",
    "SELECT * FROM runs FOR UPDATE",
    "SELECT set_config('transaction_read_only', 'off', false)",
    "SET TRANSACTION READ WRITE",
    "SELECT nextval('runs_id_seq')",
    "SELECT setval('runs_id_seq', 1)",
    "SELECT lo_create(0)",
    "SELECT query_to_xml('DELETE FROM runs', true, false, '')",
    "SELECT pg_read_file('/etc/passwd')",
    "SELECT pg_reload_conf()",
    "DO $$ BEGIN DELETE FROM runs; END $$",
    "CALL nothing()",
    "SELECT 1 INTO t",
    "TRUNCATE events",
    "LISTEN x",
    "LOCK runs",
    "FETCH 1 FROM aquasurf_query",
    "PREPARE p AS DELETE FROM runs",
    "EXPLAIN ANALYZE DELETE FROM runs",
    "SELECT 1 FROM runs; COPY runs TO PROGRAM 'true'",
]


@pytest.mark.reliability("hostile-sql")
def test_the_database_refuses_what_does_not_read(url, tmp_path):
    before = contents(url)
    own = HOSTILE_SQLITE if url.startswith("sqlite") else HOSTILE_POSTGRES
    files = sorted(tmp_path.iterdir())
    admitted, refusals = [], []
    for sql in HOSTILE + own:
        try:
            query(url, sql.format(folder=tmp_path) if "{folder}" in sql else sql)
            admitted.append(sql)
        except QueryError as error:
            refusals.append(str(error))
    assert admitted == []
    assert [text for text in refusals if not text or "\n" in text] == []
    assert contents(url) == before
    assert {path.name for path in tmp_path.iterdir()} - {path.name for path in files} <= {
        "store.db-wal",
        "store.db-shm",
    }


@pytest.mark.parametrize("world_url", ["postgresql"], indirect=True)
def test_a_hostile_setting_ends_with_its_query(url):
    with pytest.raises(QueryError, match="permission denied for function set_config"):  # a superuser's query
        query(url, "SELECT set_config('statement_timeout', '0', false)")
    assert query(url, "SELECT current_setting('statement_timeout')").rows == (("30s",),)


@pytest.mark.parametrize("world_url", ["postgresql"], indirect=True)
def test_a_superusers_rights_are_laid_down(url):
    assert query(url, "SELECT current_user").rows == (("pg_read_all_data",),)


def test_a_query_that_takes_too_long_is_stopped(url):
    endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n"
    started = time.monotonic()
    with pytest.raises(QueryError, match=r"took longer than 0\.3 s|statement timeout"):
        query(url, endless, timeout=0.3)
    assert time.monotonic() - started < 5


def test_a_store_that_is_not_there(tmp_path):
    with pytest.raises(StoreUnavailable, match="no database at"):
        query(f"sqlite:///{tmp_path}/x.db", "SELECT 1")
    (tmp_path / "empty.db").touch()
    with pytest.raises(WrongDatabase, match="is empty"):
        query(f"sqlite:///{tmp_path}/empty.db", "SELECT 1")
    with pytest.raises(StoreUnavailable, match="does not answer"):
        query("postgresql://ada:secret@127.0.0.1:1/db", "SELECT 1")


@pytest.mark.parametrize("world_url", ["sqlite"], indirect=True)
def test_reading_continues_while_a_driver_holds_the_lock(world):
    with contextlib.closing(sqlite3.connect(world.url.removeprefix("sqlite:///"), isolation_level=None)) as connection:
        connection.execute("BEGIN EXCLUSIVE")
        assert query(world.url, "SELECT count(*) FROM functions").rows == ((8,),)
