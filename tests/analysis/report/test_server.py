"""The live pages of runs: served at once to this machine only, up to date, and kept when the database goes."""

from __future__ import annotations

import http.client
import json
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from synthetic_run import NAME, done, fill_store

from aquasurf_ray.analysis.errors import AnalysisError
from aquasurf_ray.analysis.report.live_store import LiveStore
from aquasurf_ray.analysis.report.server import path_of, server
from aquasurf_ray.store import Lease, LiveRun, LiveWorker, NewRun, Store, StoreBusy, this_process


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Store, Lease]]:
    monkeypatch.setenv("AQUASURF_CACHE", str(tmp_path / "cache"))
    with Store.open(f"sqlite:///{tmp_path}/store.db") as store:
        yield store, fill_store(store, n_candidates=14, n_trained=4)


@pytest.fixture
def blank_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AQUASURF_CACHE", str(tmp_path / "cache"))


RUN = path_of(NAME)
DOCUMENT = f"{RUN}/document.json"


def again(store: Store, name: str) -> str:
    return f"aquasurf search digits --name {name}"


@contextmanager
def serving(store: Store) -> Iterator[int]:
    with serving_live(LiveStore(store.safe_url, lambda: store, again)) as port:
        yield port


@contextmanager
def serving_live(live: LiveStore) -> Iterator[int]:
    found = server(live)
    thread = threading.Thread(target=found.serve_forever)
    thread.start()
    try:
        yield found.server_address[1]
    finally:
        found.shutdown()
        found.server_close()
        thread.join()


def ask(port: int, path: str, body: str | None = None, **headers: str) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    connection.request("GET" if body is None else "POST", path, body, sent)
    answer = connection.getresponse()
    found = answer.status, answer.read()
    connection.close()
    return found


@pytest.mark.slow
def test_the_document_grows_with_the_run_and_is_sent_only_when_it_did(run):
    store, lease = run
    with serving(store) as port:
        first = json.loads(ask(port, DOCUMENT)[1])
        assert ask(port, DOCUMENT, If_None_Match=first["version"]) == (304, b"")
        candidate = store.candidates(lease.run_id)[-1]
        claim = store.claim(lease, candidate.id, 0, origin="suggestion")
        store.record_result(lease, claim.evaluation_id, done(0.97))
        status, body = ask(port, DOCUMENT, If_None_Match=first["version"])
    assert status == 200
    second = json.loads(body)
    assert second["version"] != first["version"]
    assert "0.9700" in second["sections"][0]["html"]
    assert "0.9700" not in first["sections"][0]["html"]


@pytest.mark.slow
def test_the_document_is_built_again_when_the_run_was_confirmed(run):
    store, _ = run
    lease = store.acquire_lease(store.run("synthetic-confirm").id, this_process())
    with serving(store) as port:
        first = json.loads(ask(port, DOCUMENT)[1])
        now = json.loads(ask(port, f"{RUN}/status.json")[1])
        assert (now["best"], now["confirmed"]) == (0.9, None)
        store.release_lease(lease, "finished")
        status, body = ask(port, DOCUMENT, If_None_Match=first["version"])
    assert status == 200
    assert "(confirmed: " in json.loads(body)["heading"]
    assert "(confirmed: " not in first["heading"]


def test_the_page_is_live_and_only_its_own_addresses_are_known(run):
    with serving(run[0]) as port:
        status, body = ask(port, RUN)
        assert status == 200
        assert b'const LIVE = {"run":"/run/synthetic"};' in body
        for path in ("/etc/passwd", "/run/synthetic/secret.json", "/run/nobody/status.json", "/run", "/run/a/b/c"):
            assert ask(port, path)[0] == 404, path


def test_the_page_of_an_unknown_run_or_address_says_so_and_links_to_the_list(run):
    with serving(run[0]) as port:
        for path, expected, says in (
            (path_of("<nope>"), 200, b"&#x27;&lt;nope&gt;&#x27;"),
            ("/runs", 404, b"there is no page /runs"),
        ):
            status, body = ask(port, path)
            assert status == expected
            assert says in body
            assert b"--accent" in body, "the style of the other pages"
            assert b'<a href="/">All runs of ' in body
            assert b"<script" not in body


def test_the_page_of_a_run_that_does_not_exist_yet_looks_again_until_it_does(run):
    store, _ = run
    with serving(store) as port:
        status, body = ask(port, path_of("soon"))
        assert (status, b'<meta http-equiv="refresh" content="2">' in body) == (200, True)
        assert b"A run that has just been started appears here by itself." in body
        assert b"refresh" not in ask(port, "/runs")[1], "nothing will ever be there"
        store.create_run(NewRun("soon", "search", store.run(NAME).task_id, {}, "soon", 0, 4, None, "0.1.0"))
        status, body = ask(port, path_of("soon"))
        assert (status, b"refresh" in body) == (200, False)


def test_without_scripts_the_live_pages_name_the_command_that_needs_none(run):
    with serving(run[0]) as port:
        assert (
            b"<noscript><p>This page needs JavaScript; without it, aquasurf status lists the runs" in ask(port, "/")[1]
        )
        found = b"<noscript><p>This page needs JavaScript; without it, aquasurf status synthetic shows the run"
        assert found in ask(port, RUN)[1]


def test_the_state_of_a_run_has_its_progress_workers_failures_and_last_events(run):
    store, lease = run
    workers = (
        LiveWorker("worker-1", "busy", 12.0, device="cpu", job="trains elu(x)", epoch=3),
        LiveWorker("w", "idle", 0),
    )
    store.report(lease, LiveRun(workers, per_hour=40.0, seconds_left=90.0))
    with serving(store) as port:
        now = json.loads(ask(port, f"{RUN}/status.json")[1])
    requests = store.snapshot(lease.run_id).evaluations
    assert now["status"] == "running"
    assert now["evaluations"] == sum(each.evaluation.finished for each in requests)
    assert now["wanted"] == 12 + 8, "the budget does not count the eight baselines"
    assert (now["candidates"], now["spectra"]) == (14, 14)
    assert (now["per_hour"], now["seconds_left"]) == (40.0, 90.0)
    assert [(w["worker"], w["state"], w["job"], w["epoch"]) for w in now["workers"]] == [
        ("worker-1", "busy", "trains elu(x)", 3),
        ("w", "idle", None, None),
    ]
    assert (now["metric"], now["best"]) == ("test_accuracy", pytest.approx(0.795))
    assert now["confirmed"] == "mean over 2 seeds, test split"
    assert (now["diverged"], now["failed"]) == (1, 1)
    assert {"n": 1, "text": "diverged: vanishing-gradient"} in now["causes"]
    assert {"n": 1, "text": "failed attempt: the worker died: out of memory"} in now["causes"]
    last = requests[-1]
    texts = [event["text"] for event in now["events"]]
    assert len(texts) == 15
    assert any(text.startswith(f"{last.function} failed for good: the worker died") for text in texts)
    assert any("started on worker-" in text for text in texts)


def test_a_function_is_named_with_the_rate_that_it_was_trained_at(run):
    store, _ = run
    confirmation = store.run(f"{NAME}-confirm")
    with serving(store) as port:
        now = json.loads(ask(port, f"{path_of(confirmation.name)}/status.json")[1])
    assert any(" with learning_rate*2" in event["text"] for event in now["events"])
    assert now["best_function"].endswith(" with learning_rate*2")


def test_all_runs_of_the_store_are_listed_with_the_last_note(run):
    store, lease = run
    store.add_note(lease.run_id, "an early one")
    store.add_note(lease.run_id, "with <b>augmentation</b>")
    with serving(store) as port:
        assert b'const LIVE = {"runs":true};' in ask(port, "/")[1]
        rows = json.loads(ask(port, "/runs.json")[1])["runs"]
    found = {row["run"]: row for row in rows}
    assert found.keys() == {each.name for each in store.runs()}
    assert found[NAME]["note"] == "with <b>augmentation</b>"
    assert (found[NAME]["status"], found["synthetic-confirm"]["status"]) == ("running", "finished")
    assert found["synthetic-confirm"]["kind"] == "confirm"
    assert (found[NAME]["evaluations"], found[NAME]["wanted"]) == (11, 12 + 8), "both count the eight baselines"
    assert (found["synthetic-confirm"]["evaluations"], found["synthetic-confirm"]["wanted"]) == (15, 4)


def test_a_note_is_stored_only_from_the_page_itself(run):
    store, lease = run
    with serving(store) as port:
        sent = json.dumps({"text": " a remark "})
        assert ask(port, f"{RUN}/note", sent, Content_Type="application/json")[0] == 200
        assert ask(port, f"{RUN}/note", sent, Content_Type="text/plain")[0] == 415, "as a form of another site sends it"
        assert ask(port, f"{RUN}/note", sent, Content_Type="application/json", Host="elsewhere.example")[0] == 403
        for wrong in ("{", "[]", '{"text": ""}', "{}", json.dumps({"text": "x" * 3000})):
            assert ask(port, f"{RUN}/note", wrong, Content_Type="application/json")[0] == 400, wrong[:20]
        body = json.loads(ask(port, DOCUMENT)[1])["body"]
    assert [note.text for note in store.notes(lease.run_id)] == ["a remark"]
    assert "a remark</li>" in body


def test_a_note_that_is_refused_says_why(run):
    store, lease = run
    kind, sent = "application/json", json.dumps({"text": "a remark"})
    cases = [
        (f"{RUN}/note", sent, "text/plain", None, 415, "a note must be application/json, got text/plain"),
        (f"{RUN}/note", sent, kind, "200000", 413, "a note may have 100000 bytes, got 200000"),
        (f"{RUN}/note", sent, kind, "-1", 400, "Content-Length must be a number of bytes, got '-1'"),
        (f"{RUN}/note", sent, kind, "ten", 400, "Content-Length must be a number of bytes, got 'ten'"),
        (f"{RUN}/note", '{"text": 1}', kind, None, 400, 'a note must be JSON such as {"text": "a remark"}'),
        (f"{path_of('nobody')}/note", sent, kind, None, 404, "nobody"),
        (f"{RUN}/other", sent, kind, None, 404, "only notes are accepted"),
    ]
    with serving(store) as port:
        for path, text, type_, size, expected, why in cases:
            size_header = {} if size is None else {"Content_Length": size}
            status, body = ask(port, path, text, Content_Type=type_, **size_header)
            assert (status, why in json.loads(body)["error"]) == (expected, True), (status, body)
    assert not store.notes(lease.run_id)


def test_a_browser_that_sends_less_than_it_announced_is_not_waited_for_without_end(run, monkeypatch, capfd):
    monkeypatch.setattr("aquasurf_ray.analysis.report.server.LONGEST_SILENCE", 0.2)
    head = (
        f"POST {RUN}/note HTTP/1.0\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 50\r\n\r\n{{"
    )
    with serving(run[0]) as port, socket.create_connection(("127.0.0.1", port), timeout=20) as silent:
        silent.sendall(head.encode())
        assert silent.recv(1) == b"", "the server closes the connection"
    assert "Traceback" not in capfd.readouterr().err


def test_a_page_from_elsewhere_gets_nothing_through_the_browser(run):
    with serving(run[0]) as port:
        assert ask(port, DOCUMENT, Host=f"elsewhere.example:{port}")[0] == 403
        assert ask(port, DOCUMENT, Host=f"localhost:{port}")[0] == 200


def test_it_listens_on_the_loopback_address_alone(run):
    found = server(LiveStore("", lambda: run[0], again))
    assert found.server_address[0] == "127.0.0.1"
    found.server_close()


def test_a_browser_that_goes_away_before_it_is_answered_is_no_error(run, capfd):
    with serving(run[0]) as port:
        with socket.create_connection(("127.0.0.1", port)) as impatient:
            impatient.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # a reset at once
            impatient.sendall(b"GET / HTTP/1.0\r\nHost: localhost\r\n\r\n")
            impatient.recv(1)
        assert ask(port, DOCUMENT)[0] == 200
    assert "Traceback" not in capfd.readouterr().err


def test_without_plotly_the_page_has_everything_but_charts(run, monkeypatch):
    def none():
        raise AnalysisError("a report needs Plotly")

    monkeypatch.setattr("aquasurf_ray.analysis.report.server.packed_plotly", none)
    with serving(run[0]) as port:
        assert ask(port, RUN)[0] == 200
        status, body = ask(port, "/plotly.gz")
        assert json.loads(ask(port, f"{RUN}/status.json")[1])["status"] == "running"
    assert status == 503
    assert json.loads(body) == {"waiting": "a report needs Plotly"}


def test_the_first_page_waits_for_a_database_that_cannot_be_read_yet(run, monkeypatch):
    def locked(*_):
        raise StoreBusy("the database is locked by another process")

    with serving(run[0]) as port:
        monkeypatch.setattr(Store, "run", locked)
        assert ask(port, RUN)[0] == 200
        for path in (DOCUMENT, f"{RUN}/status.json"):
            status, body = ask(port, path)
            assert (status, json.loads(body)) == (503, {"waiting": "the database is locked by another process"})
        monkeypatch.undo()
        assert ask(port, DOCUMENT)[0] == 200


def test_the_pages_wait_for_a_database_that_does_not_exist_yet(tmp_path, blank_cache, caplog):
    url, opened = f"sqlite:///{tmp_path}/soon.db", []

    def open_store():
        opened.append(Store.open(url, create=False))
        return opened[-1]

    live = LiveStore(url, open_store, again)
    with serving_live(live) as port:
        assert ask(port, "/")[0] == ask(port, RUN)[0] == 200
        for path in ("/runs.json", f"{RUN}/status.json", DOCUMENT):
            status, body = ask(port, path)
            assert (status, "no database at" in json.loads(body)["waiting"]) == (503, True)
        assert list(tmp_path.glob("*.db")) == [], "reading creates nothing"
        assert len(caplog.records) == 1, "said once, and not whenever a page asks"
        with Store.open(url) as store:
            status, body = ask(port, f"{RUN}/status.json")
            assert (status, "no run is named" in json.loads(body)["waiting"]) == (404, True)
            fill_store(store, n_candidates=14, n_trained=4)
        assert json.loads(ask(port, f"{RUN}/status.json")[1])["evaluations"] > 0
        assert len(json.loads(ask(port, "/runs.json")[1])["runs"]) == 2
    live.close()
    assert len(opened) == 1


def test_the_page_and_the_state_need_no_pytorch():
    """The first page comes at once; loading PyTorch takes seconds."""
    code = (
        "import sys, aquasurf_ray.analysis.report.server; sys.exit('torch' in sys.modules or 'pandas' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=120).returncode == 0


def test_the_page_stays_when_the_database_goes(run, tmp_path):
    report = LiveStore("", lambda: run[0], again).run(NAME)
    before = report.document()
    run[0].close()
    (tmp_path / "store.db").rename(tmp_path / "gone.db")
    assert report.document() == before
