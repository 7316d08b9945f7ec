"""What the image's build does with our own code, without the image: a wheel of what is copied, installed by itself."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile

import pytest
from test_manifests import ROOT, copied

pytestmark = [pytest.mark.deploy, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Built of the files that the Dockerfile copies, and of nothing else."""
    folder = tmp_path_factory.mktemp("source")
    for name in copied():
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, folder)
    pip(["wheel", "--no-deps", "--wheel-dir", str(folder / "made"), str(folder)])
    (made,) = (folder / "made").glob("*.whl")
    return made


def pip(arguments):
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", *arguments]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_wheel_has_all_of_the_code_and_the_data_that_it_reads(wheel):
    with zipfile.ZipFile(wheel) as file:
        there = set(file.namelist())
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    rooms = ("aquasurf_ray/", "store/", "surrogate/", "workers/")
    wanted = {name for name in tracked if name.startswith(rooms)}
    assert len(wanted) > 200
    assert wanted - there == {"store/migrations/alembic.ini"}, "which is for developers"
    assert not [name for name in there if name.startswith(("tests/", "deploy/", "benchmarks/"))]


def test_the_installed_command_works_away_from_the_repository(wheel, tmp_path):
    pip(["install", "--no-deps", "--no-compile", "--target", str(tmp_path / "installed"), str(wheel)])
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    script = "import sys, aquasurf_ray.cli.main as cli; print(cli.__file__); sys.exit(cli.main(sys.argv[1:]))"
    search = ["search", "digits", "--name", "one", "--evaluations", "1", "--candidates", "8", "--workers", "1"]
    done = subprocess.run(
        [sys.executable, "-c", script, *search],
        cwd=tmp_path,
        env=environment | {"PYTHONPATH": str(tmp_path / "installed")},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(str(tmp_path / "installed"))
    assert (tmp_path / "aquasurf.db").exists()
