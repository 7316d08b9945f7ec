"""Sending runs to a cluster: what is sent, what is refused, and a log whose connection breaks; without a cluster."""

from __future__ import annotations

import os
import subprocess
from types import SimpleNamespace

import pytest

from aquasurf_ray.cli.main import main
from aquasurf_ray.driver.cluster import jobs
from aquasurf_ray.driver.cluster.jobs import Jobs, check_command, entrypoint
from aquasurf_ray.driver.errors import BadUse, RunFailed


@pytest.fixture
def shell(tmp_path):
    """Runs a line as the cluster's shell would, with a command `aquasurf` that tells what it was given."""
    program = tmp_path / "aquasurf"
    program.write_text('#!/bin/sh\necho "$AQUASURF_STORE"\nfor word in "$@"; do echo "$word"; done\n')
    program.chmod(0o755)

    def run(line, **environment):
        path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
        environment = {"PATH": path, "HOME": "/home/one", **environment}
        return subprocess.run(line, shell=True, env=environment, capture_output=True, text=True, check=True).stdout

    return run


def test_the_cluster_runs_the_words_of_the_command_on_its_own_store(shell):
    command = ["evaluate", "mul(x,relu(x))", "--name", "it's $HOME; `date`"]
    store, *words = shell(entrypoint(command), AQUASURF_STORE="postgresql+psycopg://head/db").splitlines()
    assert store == "postgresql+psycopg://head/db"
    assert words == [*command, "--address", "auto"]


def test_without_a_store_of_its_own_the_cluster_keeps_runs_in_the_home_folder(shell):
    assert shell(entrypoint(["resume", "one"])).splitlines()[0] == "sqlite:////home/one/aquasurf.db"


@pytest.mark.parametrize(
    ("command", "text"),
    [
        (["search", "digits", "--store", "postgresql+psycopg://me:secret@host/db"], "has a password in it"),
        (["search", "digits", "--store=postgresql://host/db?password=secret"], "has a password in it"),
        (["search", "digits", "--address", "10.0.0.1:6379"], "is set on the cluster"),
        (["search", "digits", "--address=auto"], "is set on the cluster"),
        (["search", "mine:task"], "'mine:task' is in this folder"),
        (["search", "package.mine:task"], "'package.mine:task' is in this folder"),
        (["search", "digits", "--modules", "mine"], "'mine' is in this folder"),
        (["search", "digits", "--modules=mine"], "'mine' is in this folder"),
        (["search", "digits", "--config", "settings.yaml"], "'settings.yaml' is in this folder"),
    ],
)
def test_what_cannot_work_there_is_refused_and_no_password_is_repeated(tmp_path, command, text):
    (tmp_path / "mine.py").touch()
    (tmp_path / "package").mkdir()
    (tmp_path / "settings.yaml").touch()
    with pytest.raises(BadUse, match=text) as refused:
        check_command(command, tmp_path)
    assert "secret" not in str(refused.value)
    if "folder" in text:
        check_command(command, None)  # it is shipped


@pytest.mark.parametrize(
    "command",
    [
        ["search", "digits", "--name", "mine", "--store", "postgresql+psycopg://me@host:5432/db"],
        ["evaluate", "mul(x,relu(x))", "--task", "elsewhere.tasks:net"],
        ["resume", "mine"],
    ],
)
def test_what_is_not_only_here_goes_through(tmp_path, command):
    (tmp_path / "mine.py").touch()
    check_command(command, tmp_path)


@pytest.mark.parametrize("address", ["127.0.0.1:6379", "ray://host:10001", "http://host:8265/path", "http://a b"])
def test_an_address_that_is_no_dashboard_is_refused(address):
    with pytest.raises(BadUse, match="takes jobs at its dashboard"):
        Jobs(address)


@pytest.mark.parametrize(
    "words",
    [["submit", "--", "search", "digits"], ["job", "list"], ["job", "attach", "one"], ["job", "stop", "one"]],
    ids=" ".join,
)
def test_without_the_job_client_the_command_says_what_to_install(monkeypatch, capsys, words):
    monkeypatch.setattr(jobs, "find_spec", lambda name: None)
    assert main(words) == 2
    told = capsys.readouterr().err
    get = "get it with: pip install 'ray[default]' aiohttp requests"
    assert told == f"aquasurf: Ray's job client is not installed; {get}\n"


@pytest.mark.parametrize(
    "words", [["status"], ["stop", "one"], ["serach", "digits"], ["benchmark"], ["benchmark", "x"], ["--help"]]
)
def test_a_command_that_does_nothing_on_a_cluster_is_refused_before_it_is_sent(capsys, words):
    assert main(["submit", "--", *words]) == 2
    assert f"'{words[0]}' cannot be submitted" in capsys.readouterr().err


@pytest.mark.parametrize("words", [["search", "digits"], ["resume", "one"], ["benchmark", "build", "digits"]])
def test_commands_that_do_are_sent(monkeypatch, capsys, words):
    sent = []
    monkeypatch.setattr(Jobs, "submit", lambda self, command, folder: sent.append(command) or "one-1")
    assert main(["submit", "--detach", "--", *words]) == 0
    assert (sent, capsys.readouterr().out) == ([words], "one-1\n")


class BrokenLine:
    """A client whose log breaks off at the given places, and whose job ends when all was read."""

    def __init__(self, log, breaks):
        self.log, self.breaks = log, list(breaks)

    def get_job_info(self, id):
        return details("RUNNING" if self.breaks else "SUCCEEDED")

    async def tail_job_logs(self, id):
        end = self.breaks.pop(0) if self.breaks else None
        for start in range(0, len(self.log[:end]), 7):
            yield self.log[:end][start : start + 7]
        if end is not None:
            raise RuntimeError("WebSocket connection closed unexpectedly")


def details(status):
    return SimpleNamespace(
        submission_id="one",
        status=SimpleNamespace(value=status),
        entrypoint=entrypoint(["search", "digits"]),
        start_time=1_700_000_000_000,
        driver_exit_code=0 if status == "SUCCEEDED" else None,
        message=None,
    )


@pytest.fixture
def following(monkeypatch):
    """Jobs that speak to the given client, and lose no time between two tries."""

    async def at_once(seconds):
        return None

    def make(client):
        made = Jobs("http://127.0.0.1:1")
        made.__dict__["_client"] = client
        return made

    monkeypatch.setattr(jobs.asyncio, "sleep", at_once)
    monkeypatch.setattr(jobs, "_broken_connections", lambda: (RuntimeError,))  # the real client may not be installed
    return make


def test_a_log_whose_connection_breaks_is_written_once(following):
    log = "".join(f"line {number}\n" for number in range(20))
    written = []
    job = following(BrokenLine(log, [30, 3, 100])).follow("one", written.append)
    assert "".join(written) == log
    assert (job.status, job.exit_code, job.command) == ("SUCCEEDED", 0, "aquasurf search digits")


def test_a_cluster_that_stays_away_is_reported(following, monkeypatch):
    clock = iter(range(0, 10_000, 10))
    monkeypatch.setattr(jobs.time, "monotonic", lambda: float(next(clock)))
    with pytest.raises(RunFailed, match=r"does not answer any more: .* job 'one' may still be running"):
        following(BrokenLine("", [0] * 100)).follow("one", str)
