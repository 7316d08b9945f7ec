"""Locks, lost connections, restarts, unanswered commits and full disks: what a verb does when the database is away."""

from __future__ import annotations

import contextlib
import logging
import shutil
import sqlite3
import subprocess
import threading
import time
from dataclasses import replace

import numpy as np
import psycopg
import pytest
import sqlalchemy as sa
from sqlalchemy.exc import OperationalError

from aquasurf_ray.store import (
    CostRecord,
    EmbeddingRecord,
    EpochRecord,
    EvaluationResult,
    FunctionRow,
    NewRun,
    SpectrumRecord,
    Store,
    StoreBusy,
    StoreCorrupt,
    StoreError,
    StoreFull,
    StoreUnavailable,
    this_process,
)
from aquasurf_ray.store.database import transactions
from aquasurf_ray.store.database.schema import Base, Evaluation, Run

DONE = EvaluationResult("done", score=0.9, epochs=tuple(EpochRecord(i) for i in range(1, 6)))
TIMES = {"created_at", "updated_at", "started_at", "finished_at", "ended_at", "at", "suggested_at", "lease_renewed_at"}


def contents(world):
    """All rows of all tables, without times."""

    def body(connection):
        return {
            name: [
                {key: value for key, value in row._mapping.items() if key not in TIMES}
                for row in connection.execute(table.select().order_by(*table.primary_key))
            ]
            for name, table in Base.metadata.tables.items()
        }

    rows = world.store._read(body)
    for run in rows["runs"]:
        (run["lease_owner"] or {}).pop("nonce", None)
    return rows


VERBS = {
    "add_task": lambda w, lease, e: w.store.add_task("t", "1", "d", {}),
    "add_functions": lambda w, lease, e: w.store.add_functions([FunctionRow("n", "n(x)", 1, ("m(x)",))]),
    "set_budget": lambda w, lease, e: w.store.set_budget(lease, 99),
    "claim": lambda w, lease, e: w.store.claim(lease, w.functions[5], 0, "suggestion").state,
    "start": lambda w, lease, e: w.store.start(lease, e["fresh"], "w", "n"),
    "record_result": lambda w, lease, e: w.store.record_result(lease, e["started"], DONE),
    "record_failure": lambda w, lease, e: w.store.record_failure(lease, e["started"], "x", final=False),
    "record_spectra": lambda w, lease, e: w.store.record_spectra(
        lease, [SpectrumRecord(w.functions[0], "sampled", 0, "done", b"x")]
    ),
    "claim_in_full": lambda w, lease, e: (
        w.store.claim(lease, w.functions[2], 0, "suggestion", accept_stopped=False).state
    ),
    "record_costs": lambda w, lease, e: w.store.record_costs(
        lease, [CostRecord("cpu", 0.1, 0.1, 10, 10, function_id=w.functions[0])]
    ),
    "propose_in_full": lambda w, lease, e: w.store.propose(lease.run_id, w.functions[2:4], 0, accept_stopped=False),
    "propose": lambda w, lease, e: w.store.propose(lease.run_id, w.functions[5:7], 0),
    "release_lease": lambda w, lease, e: w.store.release_lease(lease, "interrupted"),
}


TELLS_WHAT_IS_NEW = {
    "record_failure",
    "record_spectra",
    "record_costs",
    "propose",
    "propose_in_full",
}  # and in a second try, nothing is


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.reliability("commit-unanswered")
@pytest.mark.slow
def test_a_verb_whose_commit_was_not_answered_takes_place_once(world, verb, monkeypatch, request):
    """The transaction is committed, the answer is lost, and the verb runs again: as if it had run once."""

    def prepare():
        lease = world.store.acquire_lease(world.run(candidates=world.functions[:4]).id, this_process())
        claims = [world.store.claim(lease, function, 0, "baseline") for function in world.functions[:2]]
        world.store.start(lease, claims[1].evaluation_id, "w")
        stopped = world.store.claim(lease, world.functions[2], 0, "suggestion")
        world.store.record_result(lease, stopped.evaluation_id, replace(DONE, stopped_early="after epoch 5 of 9"))
        return lease, {"fresh": claims[0].evaluation_id, "started": claims[1].evaluation_id}

    def once_then_lost(engine, body, real=transactions._once, lost=[]):  # noqa: B006 - remembers its calls
        result = real(engine, body)
        if not lost:
            lost.append(True)
            raise OperationalError("COMMIT", {}, psycopg.OperationalError("server closed the connection"))
        return result

    lease, evaluations = prepare()
    before = contents(world)
    monkeypatch.setattr(transactions, "_once", once_then_lost)
    retried = VERBS[verb](world, lease, evaluations)
    monkeypatch.undo()
    after_retry = contents(world)
    assert after_retry != before

    fresh = type(world)(world.url, world.store, world.task_id, world.functions)
    empty_but_for(world, before)
    smooth = VERBS[verb](fresh, lease, evaluations)
    assert contents(world) == after_retry
    if verb not in TELLS_WHAT_IS_NEW:
        assert smooth == retried


def empty_but_for(world, rows):
    """Puts the rows of `contents` back in place of what is there."""

    def body(connection):
        now = sa.func.now()
        tables = Base.metadata.sorted_tables
        for table in reversed(tables):
            connection.execute(table.delete())
        for table in tables:
            for row in rows[table.name]:
                times = {c.name: now for c in table.columns if c.name in TIMES and not c.nullable}
                connection.execute(table.insert().values(**row, **times))
            if connection.dialect.name == "postgresql" and "id" in table.columns:
                reset = (
                    f"SELECT setval(pg_get_serial_sequence('{table.name}', 'id'), {len(rows[table.name]) + 1}, false)"
                )
                connection.execute(sa.text(reset))

    world.store._write(body)


class TestSqlite:
    @pytest.fixture
    def world(self, tmp_path):
        url = f"sqlite:///{tmp_path}/store.db"
        with Store.open(url, patience=20) as opened:
            yield opened, tmp_path / "store.db"

    @contextlib.contextmanager
    def locked(self, path):
        connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        connection.execute("BEGIN EXCLUSIVE")
        try:
            yield connection
        finally:
            with contextlib.suppress(sqlite3.OperationalError):
                connection.execute("ROLLBACK")
            connection.close()

    @pytest.mark.reliability("sqlite-locked")
    @pytest.mark.slow
    def test_a_lock_is_waited_for(self, world):
        opened, path = world
        with self.locked(path) as other:
            threading.Timer(3.0, other.execute, ["ROLLBACK"]).start()
            started = time.monotonic()
            opened.add_task("t", "1", "d", {})
        assert 2.5 < time.monotonic() - started < 15
        assert opened.task(1).digest == "d"

    @pytest.mark.slow
    def test_a_lock_that_outlasts_the_patience_is_named_in_one_line(self, world, caplog):
        opened, path = world
        impatient = Store.open(opened.safe_url, patience=0.1)
        with self.locked(path), pytest.raises(StoreBusy) as caught:
            impatient.add_task("t", "1", "d", {})
        impatient.close()
        assert str(caught.value) == f"'{path}' is locked by another process; end that one or use PostgreSQL"
        assert caught.value.__cause__ is None

    @pytest.mark.slow
    def test_waiting_is_reported(self, world, clock, caplog):
        opened, path = world
        caplog.set_level(logging.WARNING, "store")
        waiting = Store.open(opened.safe_url, patience=60, clock=clock)
        with self.locked(path) as other:
            clock.during_sleep = lambda: (
                other.execute("ROLLBACK") if clock.now > 1010 and other.in_transaction else None
            )
            clock.least = 6.0
            waiting.add_task("t", "1", "d", {})
        waiting.close()
        assert "is locked by another process" in caplog.text
        assert "for at most 60 s" in caplog.text

    def test_readers_continue_while_another_process_writes(self, world):
        opened, path = world
        opened.add_task("t", "1", "d", {})
        with self.locked(path):
            started = time.monotonic()
            assert opened.task(1).digest == "d"
            assert time.monotonic() - started < 1

    def test_a_reader_does_not_block_the_writer(self, world):
        opened, path = world
        opened.add_task("t", "1", "d", {})
        reader = sqlite3.connect(path, isolation_level=None)
        reader.execute("BEGIN")
        reader.execute("SELECT * FROM tasks").fetchall()
        started = time.monotonic()
        opened.add_task("u", "1", "e", {})
        assert time.monotonic() - started < 1
        reader.close()

    @pytest.mark.parametrize("planted", ["cos\nsystem\n(S'true'\ntR.", "__import__('os')", "{", "[" * 100_000, "\x80"])
    @pytest.mark.reliability("hostile-files")
    def test_planted_cells_are_refused_and_never_run(self, world, planted):
        opened, path = world
        task = opened.add_task("t", "1", "d", {})
        opened.create_run(NewRun("run", "search", task, {}, "d", 0, 1, None, "0"))
        with sqlite3.connect(path) as connection:
            connection.execute("UPDATE runs SET config = ?", [planted])
        connection.close()
        with pytest.raises(StoreCorrupt, match="JSON was expected"):
            opened.run("run")

    def test_a_damaged_file_is_named(self, world):
        opened, path = world
        opened.add_functions([FunctionRow(f"f{i}", f"f{i}(x)", 1) for i in range(3000)])
        opened.close()
        with path.open("r+b") as file:
            file.seek(8192)
            file.write(b"\xff" * 100_000)
        with pytest.raises(StoreCorrupt, match="damaged"), Store.open(f"sqlite:///{path}") as damaged:
            damaged.find_function("f2(x)")

    @pytest.mark.reliability("sqlite-full")
    def test_a_full_disk(self, tmp_path):
        place = tmp_path / "small"
        place.mkdir()
        mounted = shutil.which("mount") and subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(place)], capture_output=True
        )
        if not mounted or mounted.returncode:
            pytest.skip("a small file system can be mounted by root only")
        try:
            self.fill_the_disk(place)
        finally:
            subprocess.run(["umount", "-l", str(place)], check=True)

    def write_spectra(self, opened, lease, functions, written):
        for function in functions:
            opened.record_spectra(lease, [SpectrumRecord(function, "sampled", 0, "done", bytes(20_000))])
            written.append(function)

    def fill_the_disk(self, place):
        opened = Store.open(f"sqlite:///{place}/store.db")
        task = opened.add_task("t", "1", "d", {})
        functions = opened.add_functions([FunctionRow(f"f{i}", f"f{i}(x)", 1) for i in range(200)])
        run = opened.create_run(NewRun("run", "search", task, {}, "d", 0, 1, None, "0"))
        lease = opened.acquire_lease(run.id, this_process())
        written = []
        with pytest.raises(StoreFull, match=r"no space left on the disk of .*store\.db'; make room there") as full:
            self.write_spectra(opened, lease, functions, written)
        assert "\n" not in str(full.value)
        opened.close()
        with contextlib.closing(sqlite3.connect(place / "store.db")) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        subprocess.run(["mount", "-o", "remount,size=16m", str(place)], check=True)
        with Store.open(f"sqlite:///{place}/store.db") as again:
            assert again.spectra(task, functions).keys() == set(written)
            again.record_spectra(lease, [SpectrumRecord(functions[-1], "sampled", 0, "done", bytes(20_000))])


class TestPostgres:
    @pytest.fixture
    def driver(self, postgres_url):
        with Store.open(postgres_url) as opened:
            task = opened.add_task("t", "1", "d", {})
            functions = opened.add_functions([FunctionRow(f"f{i}", f"f{i}(x)", 1) for i in range(80)])
            run = opened.create_run(NewRun("run", "search", task, {}, "d", 0, 80, None, "0"), functions)
            yield opened, opened.acquire_lease(run.id, this_process(), lease_seconds=3600), functions

    def work(self, opened, lease, functions):
        for function in functions:
            claim = opened.claim(lease, function, 0, "suggestion")
            assert claim.state == "claimed"
            assert opened.start(lease, claim.evaluation_id, "w")
            assert opened.record_result(lease, claim.evaluation_id, replace(DONE, score=float(function)))

    def check(self, opened, lease, functions):
        snapshot = opened.snapshot(lease.run_id)
        assert [item.evaluation.score for item in snapshot.evaluations] == [float(f) for f in functions]
        kinds = [event.kind for event in opened.events(lease.run_id)]
        assert kinds == ["created", "lease_taken", *["claimed", "started", "result"] * len(functions)]
        assert all(len(opened.curve(item.evaluation.id)) == 5 for item in snapshot.evaluations)

    @pytest.mark.reliability("postgres-cut")
    @pytest.mark.slow
    def test_connections_cut_at_any_moment(self, driver, postgres_server, injections):
        opened, lease, functions = driver
        database = opened.safe_url.split("/")[-1].split("?")[0]
        stop, cuts = threading.Event(), []
        kill = f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{database}'"

        def cut():
            while not stop.wait(0.15):
                cuts.extend(postgres_server.execute(kill))

        thread = threading.Thread(target=cut)
        thread.start()
        try:
            self.work(opened, lease, functions)
        finally:
            stop.set()
            thread.join()
        assert len(cuts) >= 3
        injections.add(len(cuts))
        self.check(opened, lease, functions)

    @pytest.mark.reliability("postgres-restarted")
    @pytest.mark.slow
    def test_a_server_restarted_at_once(self, driver, postgres_server):
        opened, lease, functions = driver
        restart = threading.Timer(0.2, postgres_server.pg_ctl, ["restart", "-m", "immediate"])
        restart.start()
        self.work(opened, lease, functions)
        restart.join()
        opened.renew_lease(lease)
        self.check(opened, lease, functions)

    def test_a_client_suspended_in_a_transaction_does_not_keep_its_locks(self, driver):
        opened, _, _ = driver
        with opened._database._engine.connect() as connection:
            limit = connection.execute(sa.text("SHOW idle_in_transaction_session_timeout")).scalar()
        assert limit == "30s"

    def test_no_server(self):
        started = time.monotonic()
        with pytest.raises(StoreUnavailable, match="does not answer") as caught:
            Store.open("postgresql://ada:secret@127.0.0.1:1/db")
        assert time.monotonic() - started < 10
        assert "secret" not in str(caught.value)
        assert "\n" not in str(caught.value)


def test_the_schema_itself_forbids_a_second_running_or_done_row(world):
    lease = world.lease()
    claim = world.store.claim(lease, world.functions[0], 0, "baseline")
    twin = {"task_id": world.task_id, "function_id": world.functions[0], "seed": 0, "status": "running", "attempts": 0}
    other = {**twin, "function_id": world.functions[1]}
    insert = sa.insert(Evaluation)
    for row, rule in (
        (twin | {"claimed_by": lease.run_id}, "unique"),
        (other, "running_has_claimer|CHECK"),
        (other | {"status": "done", "claimed_by": lease.run_id}, "done_has_score|CHECK"),
        (other | {"status": "asleep", "claimed_by": lease.run_id}, "status|CHECK"),
    ):
        with pytest.raises(StoreError, match=f"(?i){rule}"):
            world.store._write(lambda connection, row=row: connection.execute(insert, row))
    assert world.store.evaluation(claim.evaluation_id).status == "running"


def test_an_embedding_cut_short_is_refused(world):
    from aquasurf_ray.store.database.schema import Embedding

    lease = world.lease()
    record = EmbeddingRecord("v", world.task_id, {}, np.arange(3), np.zeros((3, 2), dtype=np.float32))
    world.store.save_embedding(lease, record)
    world.store._write(lambda connection: connection.execute(sa.update(Embedding).values(coordinates=b"x")))
    with pytest.raises(StoreCorrupt, match="24 and 1 bytes"):
        world.store.embedding("v")


def test_threads_share_a_store(world):
    """A heartbeat thread beside the driver's own, as the driver has it."""
    lease = world.lease()
    errors: list[BaseException] = []

    def beat():
        try:
            for _ in range(30):
                world.store.renew_lease(lease)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=beat) for _ in range(3)]
    for thread in threads:
        thread.start()
    for function in world.functions:
        world.store.claim(lease, function, 0, "baseline")
    for thread in threads:
        thread.join()
    assert errors == []
    beats = world.store._read(lambda connection: connection.execute(sa.select(Run.lease_heartbeat)).scalar())
    assert beats == 91
