"""A folder for a run, and the real command started in it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest


@pytest.fixture
def folder(tmp_path):
    """Where the command runs, with a config file of a short lease."""
    (tmp_path / "short.yaml").write_text("lease_seconds: 3\n")
    return tmp_path


@pytest.fixture
def start(folder):
    """Starts the command in the folder; whatever is left of it at the end is killed."""
    started = []

    def run(*arguments):
        environment = {key: value for key, value in os.environ.items() if key != "AQUASURF_STORE"}
        command = [sys.executable, "-m", "aquasurf_ray", *arguments]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        started.append(subprocess.Popen(command, cwd=folder, env=environment, start_new_session=True, **pipes))
        return started[-1]

    yield run
    for process in started:
        if process.poll() is None:
            process.send_signal(signal.SIGCONT)
            process.kill()
        process.communicate()
