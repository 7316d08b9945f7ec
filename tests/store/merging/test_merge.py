"""Two stores into one: nothing finished lost, nothing twice, nothing changed on the other side."""

from __future__ import annotations

import contextlib
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import sqlalchemy as sa
from store_reading import attempts_of, claim_next

from aquasurf_ray.store import (
    BadUrl,
    CostRecord,
    EmbeddingRecord,
    EpochRecord,
    EvaluationResult,
    FunctionRow,
    LeaseOwner,
    NewRun,
    RunHeld,
    SpectrumRecord,
    Store,
    StoreFull,
    StoreTooNew,
    StoreTooOld,
    StoreUnavailable,
    SuggestionRecord,
    WrongDatabase,
    check_mergeable,
    this_process,
)
from aquasurf_ray.store.database.engine import make_engine
from aquasurf_ray.store.database.migrate import upgrade
from aquasurf_ray.store.database.schema import Base
from aquasurf_ray.store.database.url import parse_url
from aquasurf_ray.store.records.evaluations import Neighbor

ROOT = Path(__file__).parents[3]
GONE = LeaseOwner("gone", "boot", 1, 1, "pid:[1]")
TASKS = ("task-a", "task-b")
N_FUNCTIONS = 7
TABLES = Base.metadata.sorted_tables


def open_store(url):
    """Drivers on the host `gone` are known to be dead."""
    return Store.open(url, is_dead=lambda owner: owner.host == "gone")


@pytest.fixture(scope="session")
def blank(tmp_path_factory):
    """An empty store as a file: to copy it is faster than to make another one."""
    path = tmp_path_factory.mktemp("blank") / "blank.db"
    Store.open(f"sqlite:///{path}").close()
    return path


@pytest.fixture
def new(blank, tmp_path):
    def copied(name):
        shutil.copy(blank, tmp_path / name)
        return f"sqlite:///{tmp_path}/{name}"

    return copied


def contents(url):
    """Every row of every table."""
    engine = make_engine(parse_url(url))
    try:
        with engine.connect() as connection:
            return {
                table.name: sorted(map(repr, connection.execute(sa.select(table))))
                for table in Base.metadata.sorted_tables
            }
    finally:
        engine.dispose()


@dataclass
class Facts:
    """What a store says, without its numbers.

    An evaluation is known by (task, function, seed); `results` are all finished ones that it has anywhere, with their
    learning curves; requests are those of runs by name.
    """

    tasks: set
    functions: set
    aliases: set
    statuses: dict
    results: dict
    requests: dict
    candidates: dict
    spectra: dict
    costs: dict
    embeddings: dict
    n_attempts: Counter


RESULT = ("status", "score", "val_loss", "reason", "stopped_early")


def facts(url):
    engine = make_engine(parse_url(url))
    try:
        with engine.connect() as c:
            return read_facts(
                {t.name: [dict(r._mapping) for r in c.execute(sa.select(t))] for t in Base.metadata.sorted_tables}
            )
    finally:
        engine.dispose()


def read_facts(rows):
    task = {r["id"]: r["digest"] for r in rows["tasks"]}
    function = {r["id"]: r["fingerprint"] for r in rows["functions"]}
    run = {r["id"]: r["name"] for r in rows["runs"]}
    key = {r["id"]: (task[r["task_id"]], function[r["function_id"]], r["seed"]) for r in rows["evaluations"]}
    curves = {}
    for r in rows["epochs"]:
        curves.setdefault(r["evaluation_id"], []).append((r["epoch"], repr(r["val_loss"])))
    results = {k: set() for k in key.values()}
    for r in rows["evaluations"]:
        if r["status"] in ("done", "diverged"):
            curve = tuple(sorted(curves.get(r["id"], [])))
            results[key[r["id"]]].add((*(repr(r[name]) for name in RESULT), curve))
    for r in rows["events"]:
        if r["kind"] in ("other_result", "reopened"):
            kept = r["data"]["result"]
            number = {"NaN": float("nan")}
            curve = tuple(sorted((e["epoch"], repr(number.get(e["val_loss"], e["val_loss"]))) for e in kept["epochs"]))
            results[key[r["evaluation_id"]]].add((*(repr(kept[name]) for name in RESULT), curve))
    candidates = {}
    for r in sorted(rows["run_candidates"], key=lambda r: r["position"]):
        candidates.setdefault(run[r["run_id"]], []).append(function[r["function_id"]])
    return Facts(
        tasks=set(task.values()),
        functions=set(function.values()),
        aliases={r["name"] for r in rows["aliases"]} | {r["name"] for r in rows["functions"]},
        statuses={key[r["id"]]: r["status"] + ("*" if r["stopped_early"] else "") for r in rows["evaluations"]},
        results=results,
        requests={
            (run[r["run_id"]], key[r["evaluation_id"]]): (
                r["origin"],
                r["position"],
                tuple(function[n["function_id"]] for n in r["neighbors"] or ()),
            )
            for r in rows["run_evaluations"]
        },
        candidates=candidates,
        spectra={(task[r["task_id"]], function[r["function_id"]]): r["feature"] for r in rows["spectra"]},
        costs={(task[r["task_id"]], function[r["function_id"]], r["device"]): r["step_seconds"] for r in rows["costs"]},
        embeddings={
            r["version"]: tuple(function[n] for n in np.frombuffer(r["function_ids"], "<i8"))
            for r in rows["embeddings"]
        },
        n_attempts=Counter(key[r["evaluation_id"]] for r in rows["attempts"]),
    )


RANK = {"done": 2, "diverged": 2, "done*": 1, "diverged*": 1}


def united(ours, theirs, names):
    """The oracle: what a store says that had said `ours` and has met `theirs`; `names` are those of its runs here."""
    statuses = dict(ours.statuses)
    for key, status in theirs.statuses.items():
        status = "queued" if status == "running" else status
        if key not in statuses or RANK.get(status, 0) > RANK.get(statuses[key], 0):
            statuses[key] = status
    keys = ours.results.keys() | theirs.results.keys()
    return Facts(
        tasks=ours.tasks | theirs.tasks,
        functions=ours.functions | theirs.functions,
        aliases=ours.aliases | theirs.aliases,
        statuses=statuses,
        results={key: ours.results.get(key, set()) | theirs.results.get(key, set()) for key in keys},
        requests=ours.requests | {(names[run], key): request for (run, key), request in theirs.requests.items()},
        candidates=ours.candidates | {names[run]: functions for run, functions in theirs.candidates.items()},
        spectra=theirs.spectra | ours.spectra,
        costs=theirs.costs | ours.costs,
        embeddings=theirs.embeddings | ours.embeddings,
        n_attempts=ours.n_attempts + theirs.n_attempts,
    )


def work(opened, chance, names):
    """Random runs: some finish, some are interrupted, some have a driver that has died in the middle."""
    rows = [FunctionRow(f"fp{i}", f"{chance.choice('fg')}{i}(x)", 1) for i in range(N_FUNCTIONS)]
    chance.shuffle(rows)
    functions = opened.add_functions(rows)
    for name in names:
        task = opened.add_task("digits", "1", chance.choice(TASKS), {"epochs": 3})
        config = {"space": "three-node", "name": name}
        candidates = chance.sample(functions, chance.randint(3, N_FUNCTIONS))
        run = opened.create_run(NewRun(name, "search", task, config, f"digest-{name}", 0, 9, None, "0.1.0"), candidates)
        drive(opened, run, chance)


def drive(opened, run, chance):
    """Takes the run and does something for it."""
    candidates = [function.id for function in opened.candidates(run.id)]
    lease = opened.acquire_lease(run.id, GONE)
    version = f"version-{chance.randint(0, 3)}"
    opened.save_embedding(
        lease, EmbeddingRecord(version, run.task_id, {}, np.array(candidates), np.zeros((len(candidates), 2)))
    )
    for function in chance.sample(candidates, chance.randint(1, len(candidates))):
        if chance.random() < 0.5:
            opened.record_spectra(lease, [SpectrumRecord(function, "sampled", 0, "done", chance.randbytes(4))])
        if chance.random() < 0.3:
            opened.record_costs(lease, [CostRecord("cpu", 1 + chance.random(), 1.0, 5, 5, function_id=function)])
        reason = SuggestionRecord(0.5, 1, (Neighbor(chance.choice(candidates), 0.1, 0.5),), version)
        claim = opened.claim(lease, function, chance.randint(0, 1), "suggestion", reason)
        if claim.state == "claimed" and opened.start(lease, claim.evaluation_id, "worker"):
            end(opened, lease, claim, chance)
    if chance.random() < 0.7:
        opened.release_lease(lease, chance.choice(["finished", "interrupted"]))


def end(opened, lease, claim, chance):
    epochs = tuple(EpochRecord(n, val_loss=chance.choice([0.5, float("nan")])) for n in range(1, 3))
    how = chance.choice(["done", "done", "stopped", "diverged", "refused", "failed", "retry", "running"])
    score = chance.choice([0.25, 0.5])
    if how in ("failed", "retry"):
        opened.record_failure(lease, claim.evaluation_id, "the machine", final=how == "failed")
    elif how != "running":
        stopped = "below the median" if how in ("stopped", "refused") else None
        if how in ("done", "stopped"):
            result = EvaluationResult("done", score=score, stopped_early=stopped, val_loss=0.5, epochs=epochs)
        else:
            result = EvaluationResult("diverged", reason="overflow", stopped_early=stopped, epochs=epochs)
        opened.record_result(lease, claim.evaluation_id, result)


def check_merge(here, there):
    """Merges, and holds the outcome against the oracle; then once more, which must change nothing."""
    ours, theirs, untouched = facts(here), facts(there), contents(there)
    with open_store(here) as opened:
        report = opened.merge(there)
        merged = contents(here)
        again = opened.merge(there)
        for run in opened.runs():
            opened.snapshot(run.id)
    found = facts(here)
    names = {run.was: run.name for run in report.runs}
    assert found == united(ours, theirs, names)
    assert contents(there) == untouched
    assert contents(here) == merged
    assert {run.became for run in again.runs} <= {"known"}
    assert (again.evaluations, again.results, again.other_results, again.functions, again.spectra) == (0, 0, 0, 0, 0)
    return report


@pytest.mark.parametrize("seed", range(3))
def test_random_stores_against_sets(new, seed):
    chance = random.Random(seed)
    one, other = new("one.db"), new("other.db")
    with open_store(one) as a, open_store(other) as b:
        work(a, chance, ["first", "common"])
        work(b, chance, ["common", "second", "third"])
    report = check_merge(one, other)
    assert {run.was: run.name for run in report.runs} == {"common": "common-2", "second": "second", "third": "third"}


@pytest.mark.parametrize("into", ["sqlite", "postgresql"])
@pytest.mark.parametrize("world_url", ["postgresql"], indirect=True)
def test_between_engines(new, world_url, into):
    chance = random.Random(into)
    file = new("one.db")
    with open_store(file) as a, open_store(world_url) as b:
        work(a, chance, ["first", "common"])
        work(b, chance, ["common", "second"])
    check_merge(*((file, world_url) if into == "sqlite" else (world_url, file)))


@pytest.mark.parametrize("seed", range(2))
def test_what_went_on_there_is_brought_forward_and_what_went_on_on_both_sides_is_two_runs(new, seed):
    chance = random.Random(200 + seed)
    one, other = new("one.db"), new("other.db")
    with open_store(other) as b:
        work(b, chance, ["there", "both", "here", "neither"])
    with open_store(one) as a:
        assert {run.became for run in a.merge(other).runs} == {"new"}
        for name in ("both", "here"):
            drive(a, a.run(name), chance)
    with open_store(other) as b:
        for name in ("there", "both"):
            drive(b, b.run(name), chance)
        expected = b.snapshot(b.run("there").id)
        log = [(event.at, event.kind) for event in b.events(b.run("there").id)]
    ours, theirs = facts(one), facts(other)
    with open_store(one) as a:
        report = {run.was: run for run in a.merge(other).runs}
        merged = contents(one)
        assert {run.became for run in a.merge(other).runs} == {"known"}
        assert contents(one) == merged
        assert {was: run.became for was, run in report.items()} == {
            "there": "further",
            "both": "new",
            "here": "known",
            "neither": "known",
        }
        assert report["both"].name == "both-2"
        copy = a.snapshot(a.run("there").id)
        written = [(e.at, e.kind) for e in a.events(copy.run.id) if not (e.data or {}).get("merged")]
    assert written == log
    assert [e.function for e in copy.evaluations] == [e.function for e in expected.evaluations]
    assert {k for k, v in facts(one).results.items() if v} == {
        k for k in ours.results.keys() | theirs.results.keys() if ours.results.get(k) or theirs.results.get(k)
    }
    for key, found in facts(one).results.items():
        assert found == ours.results.get(key, set()) | theirs.results.get(key, set())


def test_a_merge_in_the_other_direction_closes_the_circle(new):
    chance = random.Random(5)
    one, other = new("one.db"), new("other.db")
    with open_store(one) as a, open_store(other) as b:
        work(a, chance, ["first"])
        work(b, chance, ["second"])
        a.merge(other)
        b.merge(one)
    left, right = facts(one), facts(other)
    assert (left.tasks, left.functions, left.statuses.keys()) == (right.tasks, right.functions, right.statuses.keys())
    assert left.results == right.results
    assert left.requests.keys() == right.requests.keys()


def test_a_different_result_stays_in_the_log_of_its_run_and_is_reported(new):
    one, other = new("one.db"), new("other.db")
    for url, score in ((one, 0.5), (other, 0.75)):
        with open_store(url) as opened:
            finish(opened, "search", score)
    with open_store(one) as opened:
        report = opened.merge(other)
        assert report.other_results == 1
        assert report.evaluations == report.results == 0
        kept = [event for event in opened.events(opened.run("search-2").id) if event.kind == "other_result"]
        assert [event.data["result"]["score"] for event in kept] == [0.75]
        assert opened.leaderboard(run_id=opened.run("search").id)[0].score == 0.5


@pytest.mark.parametrize("spec", [{"study": "exp"}, {"trainable": "exp"}])
def test_loops_of_ones_own_share_a_name_and_no_results(new, spec):
    one, other, third = new("one.db"), new("other.db"), new("third.db")
    task = ("exp", "1", "own", spec)
    for url, score in ((one, 0.11), (other, 0.81)):
        with open_store(url) as opened:
            finish(opened, "exp", score, task=task)
    with open_store(one) as a, open_store(other) as b, open_store(third) as c:
        report = a.merge(other)
        assert [(run.name, run.became) for run in report.runs] == [("exp-2", "new")]
        assert (report.tasks, report.other_results) == (1, 0)
        assert best(a, "exp") == 0.11
        assert best(a, "exp-2") == 0.81
        for source in (one, other):  # in any order, and in a store that has neither
            c.merge(source)
        assert best(c, "exp") == 0.11
        assert best(c, "exp-2") == 0.81
        b.merge(third)
        for opened, source in ((a, other), (a, third), (b, one), (b, third), (c, one), (c, other)):
            before = contents(opened.safe_url)
            assert {run.became for run in opened.merge(source).runs} == {"known"}
            assert contents(opened.safe_url) == before
        assert best(b, "exp") == 0.81
        assert best(b, "exp-2") == 0.11


def test_a_study_that_is_left_out_leaves_its_tasks_digest_to_one_that_begins_here(new):
    one, other = new("one.db"), new("other.db")
    task = ("exp", "1", "own", {"study": "exp"})
    with open_store(one) as a, open_store(other) as b:
        lease = finish(b, "exp", 0.81, owner=this_process(), release=False, task=task)
        assert [run.became for run in a.merge(other).runs] == ["alive"]
        finish(a, "exp", 0.11, task=task)
        b.release_lease(lease, "finished")
        assert [run.name for run in a.merge(other).runs] == ["exp-2"]
        assert best(a, "exp") == 0.11
        assert best(a, "exp-2") == 0.81


def test_equal_values_are_no_other_result_however_long_they_took(new):
    one, other = new("one.db"), new("other.db")
    for url, seconds in ((one, 1.0), (other, 2.0)):
        with open_store(url) as opened:
            curve = (EpochRecord(1, val_loss=float("nan"), seconds=seconds),)
            finish(opened, "search", 0.5, val_loss=float("nan"), seconds=seconds, device=f"{seconds}", epochs=curve)
    with open_store(one) as opened:
        assert opened.merge(other).other_results == 0


def best(opened, name):
    return opened.leaderboard(run_id=opened.run(name).id)[0].score


def finish(opened, name, score, *, owner=GONE, release=True, task=("digits", "1", "task", {}), **values):
    task = opened.add_task(*task)
    functions = opened.add_functions([FunctionRow("f", "f(x)", 1), FunctionRow("g", "g(x)", 1)])
    run = opened.create_run(NewRun(name, "search", task, {}, "digest", 0, 2, None, "0.1.0"), functions)
    lease = opened.acquire_lease(run.id, owner)
    claim = opened.claim(lease, functions[0], 0, "suggestion")
    opened.start(lease, claim.evaluation_id)
    opened.record_result(lease, claim.evaluation_id, EvaluationResult("done", score=score, **values))
    if release:
        opened.release_lease(lease, "interrupted")
    return lease


def test_a_run_of_a_dead_driver_resumes_here_with_what_it_had(new):
    one, other = new("one.db"), new("other.db")
    with open_store(other) as opened:
        lease = finish(opened, "search", 0.5, release=False)
        claim = opened.claim(lease, opened.find_function("g(x)").id, 0, "suggestion")
        opened.start(lease, claim.evaluation_id, "worker")
    with open_store(one) as opened:
        opened.add_functions([FunctionRow("other", "h(x)", 1)])
        opened.merge(other)
        run = opened.run("search")
        assert (run.status, run.lease_owner) == ("interrupted", None)
        lease = opened.acquire_lease(run.id, this_process())
        claim = claim_next(opened, lease)
        assert opened.functions([claim.function_id])[claim.function_id].name == "g(x)"
        opened.start(lease, claim.evaluation_id, "another")
        opened.record_result(lease, claim.evaluation_id, EvaluationResult("done", score=0.75))
        opened.release_lease(lease, "finished")
        assert [row.function for row in opened.leaderboard(run_id=run.id)] == ["g(x)", "f(x)"]
        assert [attempt.outcome for attempt in attempts_of(opened, claim.evaluation_id)] == ["interrupted", "done"]


def test_a_run_that_a_driver_works_on_is_left_out_there_and_refused_here(new):
    one, other = new("one.db"), new("other.db")
    with open_store(other) as opened:
        finish(opened, "ended", 0.5)
        lease = finish(opened, "alive", 0.5, owner=this_process(), release=False)
        with open_store(one) as here:
            report = here.merge(other)
            assert {run.was: run.became for run in report.runs} == {"ended": "new", "alive": "alive"}
            assert [run.name for run in here.runs()] == ["ended"]
            with pytest.raises(RunHeld, match=r"run 'alive' of .* is held by .* stop that driver"):
                opened.merge(one)
            opened.release_lease(lease, "finished")
            assert {run.was: run.became for run in here.merge(other).runs} == {"ended": "known", "alive": "new"}


KILLED = """
import os, signal, sys
import sqlalchemy as sa
from aquasurf_ray.store import Store
n = 0
@sa.event.listens_for(sa.Engine, "before_cursor_execute")
def kill(connection, cursor, text, *_):
    global n
    n += text.startswith(("INSERT", "UPDATE"))
    if n == int(sys.argv[3]):
        os.kill(os.getpid(), signal.SIGKILL)
Store.open(sys.argv[1], is_dead=lambda owner: owner.host == "gone").merge(sys.argv[2])
"""


@pytest.mark.parametrize("statement", [17])
def test_killed_in_the_middle_and_done_again_it_ends_as_if_uninterrupted(new, statement, tmp_path):
    one, other = new("one.db"), new("other.db")
    chance = random.Random(7)
    with open_store(one) as a, open_store(other) as b:
        work(a, chance, ["first"])
        work(b, chance, ["first", "second"])
    before = contents(one)
    shutil.copy(tmp_path / "one.db", tmp_path / "uninterrupted.db")
    killed = subprocess.run([sys.executable, "-c", KILLED, one, other, str(statement)], cwd=ROOT, capture_output=True)
    assert killed.returncode == -signal.SIGKILL
    assert contents(one) == before
    for url in (one, f"sqlite:///{tmp_path}/uninterrupted.db"):
        with open_store(url) as opened:
            opened.merge(other)
    assert without_times(contents(one)) == without_times(contents(f"sqlite:///{tmp_path}/uninterrupted.db"))


def without_times(rows):
    """The merge's own lines have the time they were written at."""
    return {name: len(values) if name == "events" else values for name, values in rows.items()}


def test_an_older_file_is_read_through_a_migrated_copy_and_stays_as_it_is(new, tmp_path):
    old = parse_url(f"sqlite:///{tmp_path}/old.db")
    engine = make_engine(old)
    with engine.begin() as connection:
        upgrade(connection, "0001")
        connection.exec_driver_sql("INSERT INTO functions (fingerprint, name, n_operators) VALUES ('f', 'f(x)', 1)")
    engine.dispose()
    before = (tmp_path / "old.db").read_bytes()
    with open_store(new("one.db")) as opened:
        assert opened.merge(old.safe).functions == 1
        assert opened.find_function("f(x)").fingerprint == "f"
    assert (tmp_path / "old.db").read_bytes() == before


def test_an_older_or_newer_database_of_postgresql_is_refused_in_a_sentence(new, postgres_url):
    engine = make_engine(parse_url(postgres_url))
    with engine.begin() as connection:
        upgrade(connection, "0002")
    with open_store(new("one.db")) as opened:
        with pytest.raises(StoreTooOld, match="has schema 0002"):
            opened.merge(postgres_url)
        with engine.begin() as connection:
            connection.exec_driver_sql("UPDATE aquasurf_version SET version_num = '9999'")
        with pytest.raises(StoreTooNew, match="newer than this version"):
            opened.merge(postgres_url)
    engine.dispose()


def test_a_file_on_a_read_only_disk_can_be_merged(new, tmp_path):
    (tmp_path / "disk").mkdir()
    shutil.move(tmp_path / new("other.db").rpartition("/")[2], tmp_path / "disk" / "other.db")
    url = f"sqlite:///{tmp_path}/disk/other.db"
    with open_store(url) as opened:
        finish(opened, "search", 0.5)
    (tmp_path / "disk" / "other.db").chmod(0o444)
    (tmp_path / "disk").chmod(0o555)
    try:
        with open_store(new("one.db")) as opened:
            assert opened.merge(url).evaluations == 1
    finally:
        (tmp_path / "disk").chmod(0o755)


def test_the_same_postgresql_under_another_spelling_is_the_same_store(postgres_url):
    spelled = postgres_url + ("&" if "?" in postgres_url else "?") + "application_name=other"
    with open_store(postgres_url) as opened:
        for url in (postgres_url, spelled):
            with pytest.raises(BadUrl, match="is the one to merge into"):
                opened.merge(url)


def test_an_invalid_other_store_is_refused_and_not_created(new, tmp_path):
    one = new("one.db")
    with contextlib.closing(sqlite3.connect(tmp_path / "foreign.db")) as connection:
        connection.execute("CREATE TABLE functions (id)")
    (tmp_path / "text.db").write_text("no database at all" * 100)
    with open_store(one) as opened:
        with pytest.raises(BadUrl, match="is the one to merge into"):
            opened.merge(one)
        with pytest.raises(StoreUnavailable, match="no database at"):
            opened.merge(f"sqlite:///{tmp_path}/none.db")
        for name, words in (("foreign.db", "another program.s SQLite file"), ("text.db", "not a SQLite database")):
            for look in (opened.merge, check_mergeable):
                with pytest.raises(WrongDatabase, match=words):
                    look(f"sqlite:///{tmp_path}/{name}")
    assert not (tmp_path / "none.db").exists()


def test_a_confirmation_and_a_transfer_follow_their_run_to_another_name(new):
    one, other = new("one.db"), new("other.db")
    with open_store(one) as opened:
        finish(opened, "search", 0.5)
    with open_store(other) as opened:
        finish(opened, "search", 0.75)
        task = opened.run("search").task_id
        config = {"confirms": "search", "first_seed": 1}
        opened.create_run(NewRun("confirm", "confirm", task, config, "digest-c", 0, 1, None, "0.1.0"))
        source = {"transferred_from": "search"}
        opened.create_run(NewRun("transfer", "evaluate", task, source, "digest-t", 0, 1, None, "0.1.0"))
    with open_store(one) as opened:
        opened.merge(other)
        assert opened.run("confirm").config == {"confirms": "search-2", "first_seed": 1}
        assert opened.run("transfer").config == {"transferred_from": "search-2"}


@pytest.mark.parametrize("trained", ["there", "here"])
def test_a_run_that_wanted_what_the_other_side_has_trained_is_told_of_it(new, trained):
    one, other = new("one.db"), new("other.db")
    with open_store(one) as a, open_store(other) as b:
        wants, has = (a, b) if trained == "there" else (b, a)
        finish(has, "has", 0.75)
        task = wants.add_task("digits", "1", "task", {})
        functions = wants.add_functions([FunctionRow("f", "f(x)", 1)])
        run = wants.create_run(NewRun("wants", "search", task, {}, "digest-w", 0, 2, None, "0.1.0"), functions)
        wants.propose(run.id, functions, 0)
        a.merge(other)
        (request,) = a.snapshot(a.run("wants").id).evaluations
        assert (request.evaluation.status, request.evaluation.score, request.reused) == ("done", 0.75, True)
        last = a.events(a.run("wants").id)[-1]
        assert (last.kind, last.evaluation_id, last.data["score"]) == ("observed", request.evaluation.id, 0.75)


def test_a_copy_that_finds_no_room_says_where_it_should_have_been(blank, tmp_path, monkeypatch):
    other, here = tmp_path / "other.db", f"sqlite:///{tmp_path}/here.db"
    shutil.copy(blank, other)
    place = tmp_path / "small"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", str(place)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("no small disk can be made here")
    try:
        monkeypatch.setattr(tempfile, "tempdir", str(place))
        with Store.open(here) as store, pytest.raises(StoreFull, match=r"copy of .*set TMPDIR") as full:
            store.merge(f"sqlite:///{other}")
        assert str(full.value).startswith(f"no space left in '{place}'")
        assert not list(place.iterdir())
    finally:
        subprocess.run(["umount", str(place)], check=True)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "none"))
    with (
        Store.open(here) as store,
        pytest.raises(StoreUnavailable, match=r"cannot create a temporary copy .*set TMPDIR"),
    ):
        store.merge(f"sqlite:///{other}")
