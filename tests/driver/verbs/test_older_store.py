"""A store that an earlier version wrote, under today's code: it opens, it is read, and its runs resume.

`store_of_91aa07e.db.gz` was written by the commands of commit 91aa07e; only the storage folder and the host's name in
it were replaced afterwards:

    aquasurf search digits --name finished --candidates 40 --evaluations 6 --workers 1
    aquasurf search digits --name interrupted --seed 1 --candidates 40 --evaluations 6 --workers 1

The second was stopped by SIGINT after the fourth of its six suggestions. `digits` was version 1 then, whose results are
not today's, so the runs resume with that task and are refused with today's. All that is expected is read by plain SQL
from the file, before any code of ours opens it.
"""

from __future__ import annotations

import contextlib
import gzip
import json
import sqlite3
from pathlib import Path

import digits_version_1
import pytest
import ray

from aquasurf_ray.cli.main import main
from aquasurf_ray.driver import resume, search
from aquasurf_ray.driver.errors import BadUse

FIXTURE = Path(__file__).parents[2] / "fixtures" / "store_of_91aa07e.db.gz"
BASELINES = 8
RESULTS = """
    SELECT e.id, f.name, e.seed, e.status, e.score, e.test_score, e.epochs, e.finished_at,
        (SELECT count(*) FROM attempts a WHERE a.evaluation_id = e.id)
    FROM run_evaluations r JOIN evaluations e ON e.id = r.evaluation_id JOIN functions f ON f.id = e.function_id
    JOIN runs u ON u.id = r.run_id
    WHERE u.name = ? AND e.status IN ('done', 'diverged') ORDER BY r.position
"""


@pytest.fixture(autouse=True, scope="module")
def known_to_workers():
    """The task's module is no part of what workers can import."""
    ray.cloudpickle.register_pickle_by_value(digits_version_1)
    yield
    ray.cloudpickle.unregister_pickle_by_value(digits_version_1)


@pytest.fixture
def old(tmp_path, monkeypatch):
    """The file, in a folder of its own, which is where its checkpoints go too."""
    path = tmp_path / "old.db"
    path.write_bytes(gzip.decompress(FIXTURE.read_bytes()))
    rows(path, "UPDATE runs SET storage = ?", str(tmp_path / "storage"))
    monkeypatch.setenv("AQUASURF_STORE", f"sqlite:///{path}")
    monkeypatch.chdir(tmp_path)
    return path


def rows(path, query, *values):
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        return connection.execute(query, values).fetchall()


def contents(path, before=None):
    """Every row of the file but its version, which the first command that opens it brings up to date, by table and
    columns; those of `before` alone, where it is given, since that command adds columns and tables too."""
    names = [name for (name,) in rows(path, "SELECT name FROM sqlite_master WHERE type = 'table'")]
    known = [(name, ", ".join(column[1] for column in rows(path, f"PRAGMA table_info({name})"))) for name in names]
    wanted = list(before) if before else [key for key in known if not key[0].endswith("_version")]
    return {key: rows(path, f"SELECT {key[1]} FROM {key[0]} ORDER BY 1, 2") for key in wanted}


def document(capsys, *arguments):
    assert main([*arguments]) == 0
    return json.loads(capsys.readouterr().out)


def test_status_top_and_report_say_what_the_file_holds(old, capsys):
    before = contents(old)
    done = [row for row in rows(old, RESULTS, "finished") if row[3] == "done"]
    status = document(capsys, "status", "finished", "--json")
    assert (status["status"], status["evaluations"], status["budget"]) == ("finished", 6 + BASELINES, 6)
    assert len(status["divergences"]) == 6 + BASELINES - len(done) > 0
    top = document(capsys, "top", "finished", "-n", "40", "--format", "json")
    assert sorted((row["function"], row["val_accuracy"], row["test_accuracy"]) for row in top) == sorted(
        (row[1], row[4], row[5]) for row in done
    )
    assert main(["report", "finished", "-o", "report.html"]) == 0
    assert all(row[1] in Path("report.html").read_text() for row in done)
    assert contents(old, before) == before, "readers change nothing"


def test_the_same_search_is_the_same_run_and_trains_nothing(old):
    """Its digests of configuration and task are today's, or it would be refused as another run."""
    before = rows(old, "SELECT name, config_digest FROM runs"), rows(old, RESULTS, "finished")
    assert rows(old, "SELECT digest FROM tasks") == [(digits_version_1.digits_version_1().digest,)]
    result = search(digits_version_1.digits_version_1(), name="finished", candidates=40, evaluations=6, workers=1)
    assert (result.name, result.budget, result.evaluations) == ("finished", 6, 6 + BASELINES)
    assert before == (rows(old, "SELECT name, config_digest FROM runs"), rows(old, RESULTS, "finished"))


def test_a_run_of_a_task_that_is_another_one_today_is_refused(old):
    before = contents(old)
    with pytest.raises(BadUse, match="task 'digits' has changed since run 'interrupted' began"):
        resume("interrupted", evaluations=7)
    assert contents(old, before) == before


@pytest.mark.slow
def test_an_interrupted_run_resumes_to_a_larger_budget_and_repeats_nothing(old):
    digests, before = rows(old, "SELECT name, config_digest FROM runs"), rows(old, RESULTS, "interrupted")
    assert len(before) == 4 + BASELINES
    result = resume("interrupted", task=digits_version_1.digits_version_1(), evaluations=7)
    after = rows(old, RESULTS, "interrupted")
    assert (result.budget, len(after)) == (7, 7 + BASELINES)
    assert set(before) < set(after), "what was done has the same result, time and number of attempts"
    assert rows(old, "SELECT name, config_digest FROM runs") == digests
    assert rows(old, "SELECT status, budget FROM runs WHERE name = 'interrupted'") == [("finished", 7)]
    assert rows(old, "SELECT count(*) FROM evaluations WHERE status NOT IN ('done', 'diverged')") == [(0,)]


SEQUENCE = """
    SELECT r.origin, f.name, e.status, e.score
    FROM run_evaluations r JOIN evaluations e ON e.id = r.evaluation_id JOIN functions f ON f.id = e.function_id
    JOIN runs u ON u.id = r.run_id
    WHERE u.name = 'finished' ORDER BY r.position
"""


@pytest.mark.slow
def test_one_worker_and_one_seed_give_the_suggestions_that_they_gave_then(old, tmp_path):
    """In a new store, so that every spectrum and every training is computed by today's code."""
    then = rows(old, SEQUENCE)
    new = tmp_path / "new.db"
    search(
        digits_version_1.digits_version_1(),
        name="finished",
        candidates=40,
        evaluations=6,
        workers=1,
        store=f"sqlite:///{new}",
    )
    now = rows(new, SEQUENCE)
    differ = next((i for i, (a, b) in enumerate(zip(now, then, strict=True)) if a != b), len(then))
    assert [row[:2] for row in now[: differ + 1]] == [row[:2] for row in then[: differ + 1]]
    if differ < len(then):
        pytest.skip(
            f"this processor rounds otherwise: the training of {then[differ][1]} differs, and so may what follows"
        )
