"""The report of a running search, served to a browser on the same machine.

The page polls `document.json` every few seconds and gets a new document when the run's log has grown. The server
listens on the loopback address only and answers only requests that name it as their host, so that no other web page can
read the run through the browser. When the database cannot be read, the page keeps its last state.
"""

from __future__ import annotations

import json
import logging
import threading
from html import escape
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from aquasurf_ray.analysis.errors import AnalysisError
from aquasurf_ray.analysis.report.page import document, page
from aquasurf_ray.analysis.studies.findings import read_findings
from aquasurf_ray.store import Store, StoreError

LOOPBACK = "127.0.0.1"
_NAMES = {LOOPBACK, "localhost"}

WAITING = """<!doctype html><html lang="en"><head><meta charset="utf-8"><meta http-equiv="refresh" content="3">
<title>Waiting for the run</title></head><body style="font-family: sans-serif; margin: 3rem">
<h1>Waiting for the run</h1><p>{why}</p><p>This page looks again every three seconds.</p></body></html>"""

logger = logging.getLogger(__name__)


class LiveReport:
    """The document of a run, built again when the run's log has grown since the last request.

    Args:
        store: an open store.
        name: the name of the run.
        again: the command that repeats the run.
    """

    def __init__(self, store: Store, name: str, again: str) -> None:
        self._store = store
        self._name = name
        self._again = again
        self._lock = threading.Lock()
        self._seq = -1
        self._shown: dict[str, Any] = {}

    def document(self) -> dict[str, Any]:
        """Return `page.document` with a `version` that changes with it.

        Raises:
            StoreError: there is no document yet, and the database cannot be read.
        """
        # One thread at a time: the first of several requests builds the document, the others get it.
        with self._lock:
            try:
                self._poll()
            except StoreError as error:
                if not self._shown:
                    raise
                logger.warning("the page keeps its last state: %s", error)
            return self._shown

    def _poll(self) -> None:
        run = self._store.run(self._name)
        new = self._store.events(run.id, after=max(self._seq, 0))
        if self._shown and not new:
            return
        findings = read_findings(self._store, self._name, self._again, quick=run.status in ("new", "running"))
        # Read before the findings: a line that comes in between is found again by the next request.
        self._seq = new[-1].seq if new else self._seq
        self._shown = document(findings) | {"version": f"{self._seq}-{run.status}"}


def server(report: LiveReport, port: int = 0) -> ThreadingHTTPServer:
    """Return a server of the page on a port of this machine, a free one by default; `serve_forever` runs it.

    Raises:
        OSError: the port is taken.
    """

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            try:
                self._answer_request()
            except ConnectionError as error:
                logger.debug("the browser closed the connection before the answer: %s", error)
            except StoreError as error:
                logger.warning("no page yet: %s", error)
                self._wait(str(error))
            except AnalysisError as error:
                logger.warning("no page: %s", error)
                self.send_error(503, "no page", str(error))

        def _answer_request(self) -> None:
            host = (self.headers.get("Host") or "").rsplit(":", 1)[0]
            # A page of another site can make the browser come here under its own name (DNS rebinding), not under ours.
            if host not in _NAMES:
                self.send_error(403, "only requests from this machine are answered")
            elif self.path == "/":
                self._answer("text/html; charset=utf-8", page(report.document(), live=True))
            elif self.path == "/document.json":
                self._answer_document(report.document())
            else:
                self.send_error(404)

        def _answer_document(self, shown: dict[str, Any]) -> None:
            if self.headers.get("If-None-Match") == shown["version"]:
                self.send_response(304)
                self.end_headers()
            else:
                self._answer("application/json", json.dumps(shown, allow_nan=False))

        def _wait(self, why: str) -> None:
            """Answer a browser with a page that asks again, since a run that begins has no document yet."""
            if self.path == "/":
                self._answer("text/html; charset=utf-8", WAITING.format(why=escape(why)))
            else:
                self.send_error(503, "no document yet", why)

        def _answer(self, kind: str, text: str) -> None:
            data = text.encode()
            self.send_response(200)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(data)))
            self.send_header("Cache-Control", "no-store")
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *args: Any) -> None:
            logger.debug(format, *args)

    return ThreadingHTTPServer((LOOPBACK, port), Handler)
