"""The command that proposes, without a search: what it prints, and the limits that end it."""

from __future__ import annotations

import os
import sys
import time
from types import SimpleNamespace

import pytest

from aquasurf_ray.driver.suggestions import proposals
from aquasurf_ray.driver.suggestions.proposals import ProposalCommand


@pytest.fixture
def run(tmp_path):
    """Run a command until it has ended; return its lines, the notes, and how much it has written."""

    def run(code, document=None, clock=time.monotonic):
        (tmp_path / "propose.py").write_text(code)
        notes = []
        command = ProposalCommand(f"{sys.executable} {tmp_path}/propose.py", notes.append, clock)
        command.start(document or {})
        output = command._running.output
        patience = time.monotonic() + 60
        while command.is_running and time.monotonic() < patience:
            command.watch()  # as the driver's loop does
            time.sleep(0.01)
        written = os.fstat(output.fileno()).st_size
        return SimpleNamespace(lines=command.take(), notes=notes, written=written)

    return run


def test_lines_are_read_once_without_comments_and_at_most_a_thousand(run):
    ended = run("print('# a comment', 'relu(x)', '', ' relu(x) ', *map(str, range(1_000_000)), sep='\\n')")
    assert ended.lines[:3] == ["relu(x)", "0", "1"]
    assert (len(ended.lines), ended.notes) == (1000, [])


def test_an_endless_output_is_ended_before_it_fills_the_disk(run, monkeypatch):
    monkeypatch.setattr(proposals, "MOST_WRITTEN", 3_000_000)
    ended = run("import sys\nwhile True: sys.stdout.write('relu(x)\\n' * 1000)")
    assert ended.lines == []
    assert len(ended.notes) == 1
    assert "wrote more than 3 MB" in ended.notes[0]
    assert ended.written < 2e9, "of the tens of gigabytes that five minutes would give"


def test_so_is_an_endless_complaint(run, monkeypatch):
    monkeypatch.setattr(proposals, "MOST_WRITTEN", 3_000_000)
    ended = run("import sys\nwhile True: sys.stderr.write('no credit\\n' * 1000)")
    assert "wrote more than 3 MB" in ended.notes[0]


def test_a_command_that_takes_too_long_is_ended_with_those_that_it_started(run, tmp_path):
    clock = iter([0.0, 1.0, 299.0])
    code = (
        "import pathlib, subprocess, sys, time\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        f"pathlib.Path({str(tmp_path / 'child')!r}).write_text(str(child.pid))\n"
        "time.sleep(60)"
    )

    def now():
        if (tmp_path / "child").exists() and (tmp_path / "child").read_text():
            return next(clock, 300.0)
        return 0.0

    ended = run(code, clock=now)
    assert ended.lines == []
    assert "took longer than 300 s" in ended.notes[0]
    child = int((tmp_path / "child").read_text())
    patience = time.monotonic() + 10
    while is_alive(child) and time.monotonic() < patience:
        time.sleep(0.05)
    assert not is_alive(child)


def is_alive(pid):
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return False
