"""The runs of a store, served to a browser on the same machine: a list of them, and a live report of each.

A page comes at once. Every two seconds it polls what it shows: the state of the run, which is read in a moment, and the
report, which is built when the run's log has grown. When the database cannot be read, a page keeps its last state; a
page may be opened before its run, or the database, exists.

The server listens on the loopback address only and answers only requests that name it as their host, so that no other
web page can read the runs through the browser.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from html import escape
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import quote, unquote

from aquasurf_ray.analysis.errors import AnalysisError
from aquasurf_ray.analysis.report.live_store import LiveStore
from aquasurf_ray.analysis.report.template import EMPTY, packed_plotly, plain_page, render
from aquasurf_ray.store import BadRecord, RunNotFound, StoreError

LOOPBACK = "127.0.0.1"
RELOAD_SECONDS = 2  # of a page whose run does not exist yet
LONGEST_BODY = 100_000  # bytes of a request
LONGEST_SILENCE = 30.0  # seconds in which a browser must send more of a request that it has begun
_NAMES = {LOOPBACK, "localhost"}
_JSON = "application/json"
Json = dict[str, Any]

NOW = """<p id="live" role="status"></p><section id="now" aria-labelledby="now-title"><h2 id="now-title">Now</h2>
<p><b id="now-status">reading the store</b></p>
<progress id="now-bar" aria-label="Results of the budget" max="1" value="0"></progress>
<p id="now-progress"></p><p id="now-best"></p><p id="now-failures"></p><ul id="now-causes"></ul>
<h3>Workers</h3><div id="now-workers"></div>
<h3>Last events</h3><ol class="events" id="now-events"></ol>
<form id="note-form"><label for="note">Note</label><input id="note" name="text" maxlength="2000" autocomplete="off">
<button>Add the note</button> <span id="note-refused" role="alert"></span></form></section>
<div id="report"><p>The report is being built.</p></div>"""
RUNS = """<p id="live" role="status"></p><section id="runs"><h2 class="hidden">Runs</h2>
<p id="none" hidden>No runs yet; start one with: aquasurf search digits</p></section>"""

logger = logging.getLogger(__name__)


def _home(live: LiveStore) -> str:
    return f'<a href="/">All runs of {escape(str(live))}</a>'


def path_of(name: str) -> str:
    """Return the path of a run's page.

    >>> path_of("a/b")
    '/run/a%2Fb'
    """
    return f"/run/{quote(name, safe='')}"


def server(live: LiveStore, port: int = 0) -> ThreadingHTTPServer:
    """Return a server of the pages on a port of this machine, a free one by default; `serve_forever` runs it.

    Raises:
        OSError: the port is taken.
    """

    class Handler(BaseHTTPRequestHandler):
        timeout = LONGEST_SILENCE  # a thread waits no longer for a body that is shorter than its header says

        def do_GET(self) -> None:
            self._guarded(self._get)

        def do_POST(self) -> None:
            self._guarded(self._post)

        def _guarded(self, answer: Callable[[], None]) -> None:
            host = (self.headers.get("Host") or "").rsplit(":", 1)[0]
            try:
                # A page of another site can make the browser come here under its own name (DNS rebinding), not ours.
                if host not in _NAMES:
                    self.send_error(403, "only requests from this machine are answered")
                else:
                    answer()
            except (ConnectionError, TimeoutError) as error:
                logger.debug("the browser closed the connection, or sent nothing more: %s", error)
            except RunNotFound as error:  # of a page that was opened before there was a database, and waits
                self._json({"waiting": str(error)}, 404)
            except (StoreError, AnalysisError) as error:
                live.note_failure(error)
                self._json({"waiting": str(error)}, 503)

        def _get(self) -> None:
            name, what = self._place()
            if self.path == "/":
                without = live.without_script()
                self._html(render(f"Runs of {live}", RUNS, shown=EMPTY, noscript=without, live={"runs": True}))
            elif self.path == "/runs.json":
                self._json(live.runs())
            elif self.path == "/plotly.gz":
                self._answer("application/gzip", packed_plotly())
            elif name is None:
                self._not_found(f"there is no page {self.path}")
            elif what == "":
                self._run(name)
            elif what == "status.json":
                self._json(live.run(name).now())
            elif what == "document.json":
                self._document(live.run(name).document())
            else:
                self._not_found(f"there is no page {self.path}")

        def _run(self, name: str) -> None:
            try:
                live.refuse_unknown(name)
            except RunNotFound as error:  # a search that was just started creates its run only after its candidates
                words = f"{error}. A run that has just been started appears here by itself."
                self._html(plain_page("No such run yet", words, _home(live), RELOAD_SECONDS))
                return
            except StoreError as error:  # the page waits for the database
                live.note_failure(error)
            without = live.without_script(name)
            at = {"run": path_of(name)}
            self._html(render(f"Run {name}", NOW, shown=EMPTY, noscript=without, live=at, home=_home(live)))

        def _place(self) -> tuple[str | None, str]:
            """Return the run's name in the path, and what is asked of it."""
            parts = self.path.split("/")
            if len(parts) not in (3, 4) or parts[1] != "run":
                return None, ""
            return unquote(parts[2]), parts[3] if len(parts) == 4 else ""

        def _post(self) -> None:
            name, what = self._place()
            if name is None or what != "note":
                self._json({"error": "only notes are accepted"}, 404)
            # Another site's page cannot send this type without asking first, and nobody answers that question.
            elif self.headers.get("Content-Type") != _JSON:
                self._json({"error": f"a note must be {_JSON}, got {self.headers.get('Content-Type')}"}, 415)
            else:
                try:
                    self._note(name)
                except RunNotFound as error:
                    self._json({"error": str(error)}, 404)
                except (ValueError, BadRecord) as error:
                    self._json({"error": str(error)}, 400)

        def _note(self, name: str) -> None:
            given = self.headers.get("Content-Length") or ""
            if not (given.isascii() and given.isdigit()):  # int() accepts -1, and to read -1 bytes never ends
                raise ValueError(f"Content-Length must be a number of bytes, got {given!r}")
            if int(given) > LONGEST_BODY:
                self._json({"error": f"a note may have {LONGEST_BODY} bytes, got {given}"}, 413)
                return
            sent = json.loads(self.rfile.read(int(given)))
            if not isinstance(sent, dict) or not isinstance(sent.get("text"), str):
                raise ValueError('a note must be JSON such as {"text": "a remark"}')
            live.add_note(name, sent["text"])
            self._json({"stored": True})

        def _document(self, shown: Json) -> None:
            if self.headers.get("If-None-Match") == shown["version"]:
                self.send_response(304)
                self.end_headers()
            else:
                self._json(shown)

        def _not_found(self, words: str) -> None:
            self._html(plain_page("Not found", words, _home(live)), 404)

        def _html(self, text: str, status: int = 200) -> None:
            self._answer("text/html; charset=utf-8", text.encode(), status)

        def _json(self, shown: Json, status: int = 200) -> None:
            self._answer(_JSON, json.dumps(shown, allow_nan=False, default=str).encode(), status)

        def _answer(self, kind: str, data: bytes, status: int = 200) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(data)))
            self.send_header("Cache-Control", "no-store")
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *args: Any) -> None:
            logger.debug(format, *args)

    return ThreadingHTTPServer((LOOPBACK, port), Handler)
