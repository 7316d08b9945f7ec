"""Ray starts whatever the temporary folder is."""

from __future__ import annotations

import os
import socket
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from aquasurf_ray.driver.cluster import session_folder as module
from aquasurf_ray.driver.cluster.session_folder import IN_THE_FOLDER, session_folder
from aquasurf_ray.driver.errors import DriverError

LONG = "slurm_jobdir/1234567/tmp.node0016_" + "x" * 40
START = """
import ray, sys
from aquasurf_ray.driver.cluster.connection import connected
with connected(None):
    print(ray.get(ray.remote(lambda: 6 * 7).remote()), ray._private.worker._global_node.get_session_dir_path())
"""


@pytest.fixture(autouse=True)
def _no_setting(monkeypatch):
    monkeypatch.delenv("RAY_TMPDIR", raising=False)


def folder_of(monkeypatch, place):
    monkeypatch.setenv("TMPDIR", str(place))
    with session_folder() as folder:
        if folder is not None:
            parent = Path(folder).parent
            assert stat.S_IMODE(parent.stat().st_mode) == 0o700
    assert folder is None or not parent.exists()
    return folder


def test_the_longest_folder_that_is_left_to_ray_has_room_for_a_socket(monkeypatch):
    """The system is asked: one byte more is refused where the process has the largest id."""
    longest = "/tmp/" + "x" * (107 - len(IN_THE_FOLDER) - len("/tmp//ray"))
    assert folder_of(monkeypatch, longest) is None
    assert folder_of(monkeypatch, longest + "x") is not None
    with socket.socket(socket.AF_UNIX) as taken:
        with pytest.raises(FileNotFoundError):  # the length is accepted, the folder is missing
            taken.bind(f"{longest}/ray{IN_THE_FOLDER}")
        with pytest.raises(OSError, match="too long"):
            taken.bind(f"{longest}x/ray{IN_THE_FOLDER}")


def test_rays_own_setting_decides_before_tmpdir(monkeypatch, tmp_path):
    monkeypatch.setenv("RAY_TMPDIR", "/tmp")
    assert folder_of(monkeypatch, tmp_path / LONG) is None


def test_a_folder_that_ray_can_make_is_left_to_it(monkeypatch):
    assert folder_of(monkeypatch, "/tmp/not there yet") is None


def test_a_folder_that_cannot_be_written_is_replaced(monkeypatch):
    assert folder_of(monkeypatch, "/proc/self/status/no folder") is not None
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert folder_of(monkeypatch, "/tmp") is not None


def test_without_any_folder_the_message_says_what_to_set(monkeypatch, tmp_path):
    monkeypatch.setenv("TMPDIR", str(tmp_path / LONG))
    monkeypatch.setattr(module, "SHORT_PLACE", "/nowhere")
    said = (
        r"its folder '.*/ray' has \d+ bytes, 43 at most .* set RAY_TMPDIR or TMPDIR to a folder .* of at most 39 bytes"
    )
    with pytest.raises(DriverError, match=said), session_folder():
        pass


@pytest.mark.slow
def test_ray_starts_under_a_long_folder_with_spaces_and_leaves_nothing(tmp_path):
    deep = tmp_path / "with spaces" / LONG
    deep.mkdir(parents=True)
    environment = {**os.environ, "TMPDIR": str(deep)}
    done = subprocess.run([sys.executable, "-c", START], env=environment, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    answer, folder = done.stdout.split()
    assert answer == "42"
    assert folder.startswith("/tmp/aquasurf-")
    assert not Path(folder).parents[1].exists()


@pytest.mark.slow
def test_ray_starts_in_a_short_folder_with_spaces():
    with tempfile.TemporaryDirectory(prefix="a b ", dir="/tmp", ignore_cleanup_errors=True) as place:
        environment = {**os.environ, "TMPDIR": place}
        done = subprocess.run(
            [sys.executable, "-c", START], env=environment, capture_output=True, text=True, timeout=240
        )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"42 {place}/ray/session_")
