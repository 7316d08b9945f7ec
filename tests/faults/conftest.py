"""A folder for a run, and the real command started in it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

REAL = ("-m", "aquasurf_ray")
LIGHT = (str(Path(__file__).parents[1] / "programs/light_driver.py"),)


@pytest.fixture
def folder(tmp_path):
    """Where the command runs, with a config file of a short lease."""
    (tmp_path / "short.yaml").write_text("lease_seconds: 3\n")
    return tmp_path


@pytest.fixture
def started(folder):
    """Starts Python programs in the folder; whatever is left of them at the end is killed."""
    processes = []

    def run(*arguments, **environment):
        environment = {**os.environ, "OMP_NUM_THREADS": "1", **environment}
        environment.pop("AQUASURF_STORE", None)
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        command = [sys.executable, *arguments]
        processes.append(subprocess.Popen(command, cwd=folder, env=environment, start_new_session=True, **pipes))
        return processes[-1]

    yield run
    for process in processes:
        if process.poll() is None:
            process.send_signal(signal.SIGCONT)
            process.kill()
        process.communicate()


@pytest.fixture
def start(started):
    """Starts the command."""
    return lambda *arguments, **environment: started(*REAL, *arguments, **environment)


@pytest.fixture
def light(started):
    """Starts the command with workers that answer without Ray and without training."""
    return lambda *arguments, **environment: started(*LIGHT, *arguments, **environment)


@pytest.fixture
def killed_at_every_fifth(tmp_path, injections):
    """Searches twice, undisturbed and with a driver that dies at every fifth training, and returns what both have."""

    def run(search, record_of, n_trainings):
        undisturbed, url = f"sqlite:///{tmp_path}/undisturbed.db", f"sqlite:///{tmp_path}/killed.db"
        process = search(undisturbed)
        _, err = process.communicate(timeout=300)
        assert process.returncode == 0, err
        lives = 0
        while (process := search(url, LIGHT_KILL="5")).wait(timeout=300) == -signal.SIGKILL:
            lives += 1
            injections.add()
            assert lives <= n_trainings / 4, "each life ends four trainings"
        assert process.returncode == 0
        assert lives >= 5
        found = record_of(url)
        assert found == record_of(undisturbed)
        return found

    return run
