"""CI's step that installs a browser: it installs one only where there is none, and says why where it cannot."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / ".ci" / "chromium"
TOOLS = ("bash", "env", "mktemp", "rm", "tail", "timeout")


def machine(folder: Path, **programs: str) -> subprocess.CompletedProcess[str]:
    """Runs the step on a machine that has only these programs, each a script of bash."""
    for tool in TOOLS:
        (folder / tool).symlink_to(shutil.which(tool))
    for name, body in programs.items():
        (folder / name.replace("_", "-")).write_text(f"#!{shutil.which('bash')}\n{body}\n")
        (folder / name.replace("_", "-")).chmod(0o755)
    return subprocess.run([SCRIPT], env={"PATH": str(folder)}, capture_output=True, text=True, timeout=60, check=False)


def test_a_browser_that_is_there_is_left_alone(tmp_path: Path) -> None:
    done = machine(tmp_path, chromium="exit 9", apt_get="echo called >&2")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_root_installs_it_from_debian(tmp_path: Path) -> None:
    done = machine(tmp_path, id="echo 0", apt_get=f'echo "$@" >> {tmp_path}/calls')
    assert done.returncode == 0
    assert "installed Chromium" in done.stdout
    calls = (tmp_path / "calls").read_text().splitlines()
    assert calls == ["update", "install -y --no-install-recommends chromium fonts-liberation fonts-dejavu-core"]


@pytest.mark.parametrize(
    ("programs", "why"),
    [
        ({"id": "echo 1000", "apt_get": ""}, "only root can install it"),
        ({"id": "echo 0"}, "this machine has no apt-get"),
        ({"id": "echo 0", "apt_get": "echo 'E: no network'; exit 100"}, "apt-get failed: E: no network"),
    ],
    ids=["no root", "no apt", "no network"],
)
def test_a_machine_without_a_browser_says_why_and_tests_go_on(tmp_path: Path, programs: dict, why: str) -> None:
    done = machine(tmp_path, **programs)
    assert done.returncode == 0
    assert f"the tests of the report in a browser are skipped: {why}" in done.stderr
