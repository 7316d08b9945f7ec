"""The wheel, and the package as users have it: `aquasurf_ray` is its only name in site-packages.

The folders `workers`, `surrogate` and `store` are links in `aquasurf_ray/`. Users have files of these names beside
their tasks, and other distributions have packages of these names.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from installed_package import ROOT, build_sdist, build_wheel, install, without_the_repository

AQUASURF = str(Path(sys.executable).with_name("aquasurf"))
OURS_ONCE = ("store", "surrogate", "workers")

USERS_FILES = {
    "store.py": """
import torch

def arrays(n, seed):
    inputs = torch.randn(n, 2, generator=torch.Generator().manual_seed(seed))
    return inputs, (inputs.norm(dim=1) < 1.18).long()
""",
    "workers.py": """
from torch import nn

def network(activation):
    return nn.Sequential(nn.Linear(2, 16), activation(), nn.Linear(16, 2))
""",
    "surrogate.py": "EPOCHS = 3\n",
    "rings.py": """
from torch.utils.data import TensorDataset
from aquasurf_ray.tasks import Recipe, Splits, Task
from store import arrays
from surrogate import EPOCHS
from workers import network

def splits():
    return Splits(*(TensorDataset(*arrays(n, seed)) for n, seed in ((200, 0), (100, 1), (100, 2))))

def task():
    return Task("rings", network, splits, Recipe(epochs=EPOCHS, batch_size=32, learning_rate=0.1))
""",
    "script.py": """
import store, surrogate, workers
from aquasurf_ray import Activation
from aquasurf_ray.store import Store
from aquasurf_ray.surrogate.spectra import compress
from aquasurf_ray.workers.spectrum import fisher_spectrum

with Store.open("sqlite:///aquasurf.db", create=False) as opened:
    run = opened.run("mine")
    print(run.status, opened.leaderboard(run_id=run.id)[0].score > 0.5)
layers = fisher_spectrum(workers.network(lambda: Activation("elu(x)")), store.arrays(50, 0)[0])
print(surrogate.EPOCHS, compress(layers).quantiles[0].shape)
""",
}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_wheel(tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment of a user who has installed the wheel."""
    folder = tmp_path_factory.mktemp("installed")
    install(wheel, folder)
    return without_the_repository() | {"PYTHONPATH": str(folder)}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A user's folder, with files of the names that are ours inside `aquasurf_ray`."""
    for name, text in USERS_FILES.items():
        (tmp_path / name).write_text(text)
    return tmp_path


def output(command: list[str], folder: Path, environment: dict[str, str]) -> str:
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout


@pytest.mark.slow
def test_a_wheel_has_one_name_and_every_file_that_the_code_reads(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as file:
        packed = set(file.namelist())
        (names,) = (file.read(name).decode().split() for name in packed if name.endswith("/top_level.txt"))
    assert names == ["aquasurf_ray"]
    assert {name.split("/")[0] for name in packed} == {"aquasurf_ray", "aquasurf_ray-0.1.0.dist-info"}
    folders = os.walk(ROOT / "aquasurf_ray", followlinks=True)
    files = (Path(folder, name).relative_to(ROOT) for folder, _, names in folders for name in names)
    wanted = {str(path) for path in files if "__pycache__" not in path.parts}
    assert {Path(path).suffix for path in wanted} >= {".py", ".mako", ".ini", ".css", ".js", ".html"}
    assert wanted == {name for name in packed if name.startswith("aquasurf_ray/")}


@pytest.mark.slow
def test_a_wheel_of_the_source_archive_is_the_wheel_of_the_repository(wheel: Path, tmp_path: Path) -> None:
    """In an archive the links are folders."""

    def packed(path: Path) -> dict[str, bytes]:
        with zipfile.ZipFile(path) as file:
            return {name: file.read(name) for name in file.namelist() if not name.endswith("/RECORD")}

    rebuilt = packed(build_wheel(tmp_path, build_sdist(tmp_path)))
    assert len(rebuilt) > 400
    assert rebuilt == packed(wheel)


def test_outside_the_repository_no_other_name_of_ours_can_be_imported(tmp_path: Path) -> None:
    code = f"""
from importlib.util import find_spec
print([name for name in {("aquasurf_ray", *OURS_ONCE)} if find_spec(name)])
"""
    assert output([sys.executable, "-c", code], tmp_path, without_the_repository()) == "['aquasurf_ray']\n"


@pytest.mark.slow
def test_a_users_own_store_workers_and_surrogate_are_used_beside_ours(
    folder: Path, environment: dict[str, str]
) -> None:
    checked = output([sys.executable, "-m", "aquasurf_ray", "task", "check", "rings:task"], folder, environment)
    assert re.search(r"training\s+ok", checked)
    small = ["--candidates", "8", "--evaluations", "1", "--workers", "1", "--cpus-per-worker", "0.5"]
    output([AQUASURF, "search", "rings:task", "--name", "mine", *small], folder, environment)
    assert output([sys.executable, "script.py"], folder, environment).splitlines() == ["finished True", "3 (512,)"]
