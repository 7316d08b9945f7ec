"""What is written down of a run while it goes: the log, with no secret in it, and the report of its workers."""

from __future__ import annotations

import json
import logging
import os
from collections import Counter

import pytest
from scripted_worker import ScriptedWorker

from aquasurf_ray.driver import resume, search
from aquasurf_ray.driver.callbacks.json_log import JsonLog
from aquasurf_ray.driver.errors import BadUse
from aquasurf_ray.driver.events import Events, FunctionSuggested, Note
from aquasurf_ray.driver.run import session
from aquasurf_ray.store import Store

SECRET = "a-secret-word"


@pytest.mark.usefixtures("ray_here")
@pytest.mark.slow
def test_the_log_has_what_happened_and_no_password(postgres_url, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    url = postgres_url.replace("postgres@", f"postgres:{SECRET}@")  # the local server asks for none
    log = tmp_path / "run.jsonl"
    reports = []
    keep = Store.report
    monkeypatch.setattr(Store, "report", lambda store, lease, live: (reports.append(live), keep(store, lease, live)))
    options = {"name": "one", "candidates": 12, "evaluations": 2, "cpus_per_worker": 0.2, "workers": 2, "log": str(log)}
    search("digits", worker=ScriptedWorker, store=url, features="outputs", **options)
    text = log.read_text()
    assert SECRET not in text
    lines = [json.loads(line) for line in text.splitlines()]
    assert {line["run"] for line in lines} == {"one"}
    assert [line["time"] for line in lines] == sorted(line["time"] for line in lines)
    counts = Counter(line["event"] for line in lines)
    assert (counts["began"], counts["run-ended"]) == (1, 1)
    assert (counts["started"], counts["ended"], counts["suggested"]) == (10, 10, 2)
    assert counts["worker-ready"] in (1, 2), "a worker that was slow to start may have come too late"
    assert lines[0]["event"] == "began"
    assert "***" in lines[0]["store"]
    assert lines[-1]["event"] == "note", "what people are told goes there too"
    began, ended = ({line["evaluation"]: line for line in lines if line["event"] == e} for e in ("started", "ended"))
    with Store.open(url, create=False) as store:
        run = store.run("one")
        for request in store.snapshot(run.id).evaluations:
            record = request.evaluation
            assert began[record.id]["function"] == ended[record.id]["function"] == request.function
            assert (ended[record.id]["status"], ended[record.id]["score"]) == ("done", record.score)
    (end,) = [line for line in lines if line["event"] == "run-ended"]
    assert (end["status"], end["message"]) == ("finished", None)
    assert {"worker-1", "worker-2"} >= {worker.name for live in reports for worker in live.workers} > set()
    resume("one", worker=ScriptedWorker, store=url)
    assert log.read_text() == text, "a finished run that is left alone does nothing"


@pytest.mark.usefixtures("ray_here")
def test_a_run_that_fails_says_so_last(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(session, "_run_loop", lambda *_: 1 / 0)
    options = {"store": f"sqlite:///{tmp_path}/runs.db", "name": "one", "log": "run.jsonl", "workers": 1}
    with pytest.raises(ZeroDivisionError):
        search("digits", worker=ScriptedWorker, candidates=4, evaluations=1, cpus_per_worker=0.2, **options)
    last = json.loads((tmp_path / "run.jsonl").read_text().splitlines()[-1])
    assert (last["event"], last["status"], last["message"]) == ("run-ended", "failed", "division by zero")


def test_a_log_that_cannot_be_written_is_reported_before_anything_starts(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BadUse, match=r"log: '/nowhere/run.jsonl' cannot be written: No such file"):
        search("digits", log="/nowhere/run.jsonl", store=f"sqlite:///{tmp_path}/runs.db")
    assert list(tmp_path.iterdir()) == []


def test_a_pipe_that_nobody_reads_is_not_waited_for(tmp_path, caplog):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(BadUse, match=f"log: '{pipe}' cannot be written: nobody reads this pipe"):
        JsonLog(str(pipe), "one")
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    log = JsonLog(str(pipe), "one")
    log.on_event(Note("first"))
    assert json.loads(os.read(reader, 1000))["event"] == "note"
    for _ in range(1000):  # more than a pipe holds
        log.on_event(Note("x" * 1000))
    os.close(reader)
    assert caplog.messages == [f"log '{pipe}' ends here: Resource temporarily unavailable"]


def test_own_warnings_go_to_the_log_and_numbers_that_json_lacks_are_words(tmp_path, caplog):
    path, events = tmp_path / "log", Events()
    with JsonLog(str(path), "one") as log, events.subscribed(log), events.with_warnings():
        events.emit(FunctionSuggested("relu(x)", float("nan"), 0.5))
        logging.getLogger("aquasurf_ray.store.database.transactions").warning("the database is %s", "locked")
        logging.getLogger("another").warning("not ours")
    logging.getLogger("store").warning("after the end")
    first, second = map(json.loads, path.read_text().splitlines())
    assert (first["predicted_score"], first["seconds"]) == ("nan", 0.5)
    assert (second["event"], second["logger"], second["text"]) == (
        "warning", "aquasurf_ray.store.database.transactions", "the database is locked",
    )  # fmt: skip


def test_a_full_disk_ends_the_log_and_nothing_else(caplog):
    log = JsonLog("/dev/full", "one")
    log.on_event(Note("first"))
    log.on_event(Note("second"))
    assert caplog.messages == ["log '/dev/full' ends here: No space left on device"]
