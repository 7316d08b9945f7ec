"""The page of a run in progress: served to this machine only, up to date, and still there when the database is not."""

from __future__ import annotations

import http.client
import json
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from synthetic_run import NAME, done, fill_store

from aquasurf_ray.analysis.errors import AnalysisError
from aquasurf_ray.analysis.report.server import LiveReport, server
from aquasurf_ray.store import Lease, Store, StoreBusy


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Store, Lease]]:
    monkeypatch.setenv("AQUASURF_CACHE", str(tmp_path / "cache"))
    with Store.open(f"sqlite:///{tmp_path}/store.db") as store:
        yield store, fill_store(store, n_candidates=14, n_trained=4)


@contextmanager
def serving(report: LiveReport) -> Iterator[int]:
    found = server(report)
    thread = threading.Thread(target=found.serve_forever)
    thread.start()
    try:
        yield found.server_address[1]
    finally:
        found.shutdown()
        found.server_close()
        thread.join()


def ask(port: int, path: str, **headers: str) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("GET", path, headers={name.replace("_", "-"): value for name, value in headers.items()})
    answer = connection.getresponse()
    found = answer.status, answer.read()
    connection.close()
    return found


def test_the_document_grows_with_the_run_and_is_sent_only_when_it_did(run):
    store, lease = run
    with serving(LiveReport(store, NAME, "again")) as port:
        first = json.loads(ask(port, "/document.json")[1])
        assert ask(port, "/document.json", If_None_Match=first["version"]) == (304, b"")
        candidate = store.candidates(lease.run_id)[-1]
        claim = store.claim(lease, candidate.id, 0, origin="suggestion")
        store.record_result(lease, claim.evaluation_id, done(0.97))
        status, body = ask(port, "/document.json", If_None_Match=first["version"])
    assert status == 200
    second = json.loads(body)
    assert second["version"] != first["version"]
    assert "0.9700" in second["sections"][0]["html"]
    assert "0.9700" not in first["sections"][0]["html"]


def test_the_page_is_live_and_only_two_addresses_are_known(run):
    with serving(LiveReport(run[0], NAME, "again")) as port:
        status, body = ask(port, "/")
        assert status == 200
        assert b"const LIVE = true;" in body
        assert ask(port, "/etc/passwd")[0] == 404


def test_a_page_from_elsewhere_gets_nothing_through_the_browser(run):
    with serving(LiveReport(run[0], NAME, "again")) as port:
        assert ask(port, "/document.json", Host=f"elsewhere.example:{port}")[0] == 403
        assert ask(port, "/document.json", Host=f"localhost:{port}")[0] == 200


def test_it_listens_on_the_loopback_address_alone(run):
    found = server(LiveReport(run[0], NAME, "again"))
    assert found.server_address[0] == "127.0.0.1"
    found.server_close()


def test_a_browser_that_goes_away_before_it_is_answered_is_no_error(run, capfd):
    with serving(LiveReport(run[0], NAME, "again")) as port:
        with socket.create_connection(("127.0.0.1", port)) as impatient:
            impatient.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # a reset at once
            impatient.sendall(b"GET / HTTP/1.0\r\nHost: localhost\r\n\r\n")
            impatient.recv(1)
        assert ask(port, "/document.json")[0] == 200
    assert "Traceback" not in capfd.readouterr().err


def test_a_page_that_cannot_be_made_is_reported_to_the_browser(run, monkeypatch):
    def none(*_, **__):
        raise AnalysisError("the page needs Plotly <here>")

    monkeypatch.setattr("aquasurf_ray.analysis.report.server.page", none)
    with serving(LiveReport(run[0], NAME, "again")) as port:
        status, body = ask(port, "/")
    assert status == 503
    assert b"the page needs Plotly &lt;here&gt;" in body


def test_the_first_page_waits_for_a_database_that_cannot_be_read_yet(run, monkeypatch):
    report = LiveReport(run[0], NAME, "again")

    def locked():
        raise StoreBusy("the database is locked by <another> process")

    with serving(report) as port:
        monkeypatch.setattr(report, "document", locked)
        status, body = ask(port, "/")
        assert status == 200
        assert b'http-equiv="refresh"' in body
        assert b"the database is locked by &lt;another&gt; process" in body
        assert ask(port, "/document.json")[0] == 503
        monkeypatch.undo()
        assert b"const LIVE = true;" in ask(port, "/")[1]


def test_the_page_stays_when_the_database_goes(run, tmp_path):
    report = LiveReport(run[0], NAME, "again")
    before = report.document()
    run[0].close()
    (tmp_path / "store.db").rename(tmp_path / "gone.db")
    assert report.document() == before
