"""The webhook of docs/callbacks.md, against a server on this machine."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from scripted_worker import ScriptedWorker, score_of

from aquasurf_ray.activations import BASELINES
from aquasurf_ray.driver import evaluate

PAGE = Path(__file__).parents[3] / "docs" / "callbacks.md"


@pytest.fixture
def server():
    """The address of a server, and the JSON bodies that were posted to it."""
    bodies = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            bodies.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *arguments):
            return None

    http = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=http.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{http.server_port}/aquasurf", bodies
    http.shutdown()
    http.server_close()
    thread.join()


@pytest.fixture
def webhook():
    """The class that the page defines."""
    names = {}
    exec(PAGE.read_text().partition("```python\n# webhook.py\n")[2].partition("```")[0], names)
    return names["Webhook"]


def trained(tmp_path, callback, functions):
    where = {"store": f"sqlite:///{tmp_path}/a.db", "storage": str(tmp_path / "storage"), "name": "one", "workers": 1}
    return evaluate(functions, "digits", worker=ScriptedWorker, callbacks=[callback], **where)


@pytest.mark.usefixtures("ray_here")
def test_the_webhook_of_the_page_posts_each_new_best_and_the_end(tmp_path, server, webhook):
    url, bodies = server
    functions = BASELINES[:4]
    trained(tmp_path, webhook(url), functions)
    best, expected = float("-inf"), []
    for function in functions:  # one worker trains them in order
        if score_of(function) > best:
            best = score_of(function)
            expected.append({"text": f"{function}: {best:.4f}"})
    assert bodies == [*expected, {"text": "the run is finished"}]


@pytest.mark.usefixtures("ray_here")
@pytest.mark.slow
def test_a_server_that_is_not_there_keeps_nothing_from_being_trained(tmp_path, webhook, capsys):
    result = trained(tmp_path, webhook("http://127.0.0.1:9/nobody"), BASELINES[:2])
    assert result.evaluations == 2
    assert "webhook: " in capsys.readouterr().out
