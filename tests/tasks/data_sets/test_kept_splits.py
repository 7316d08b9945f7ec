"""Splits on disk are those that were made, to the last bit, and are made again where anything could be different."""

from __future__ import annotations

import subprocess  # a process that must not import a library
import sys
from importlib import metadata

import numpy as np
import pytest
import torch
from torch.utils.data import TensorDataset

from aquasurf_ray.tasks import load_task
from aquasurf_ray.tasks.data_sets import kept_splits
from aquasurf_ray.tasks.data_sets.kept_splits import kept
from aquasurf_ray.tasks.task import Splits


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("AQUASURF_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def made():
    """A function whose splits are kept, and the list of its calls."""
    calls = []

    @kept("scikit-learn")
    def make() -> Splits:
        calls.append(1)
        parts = [TensorDataset(torch.randn(n, 1, 2), torch.arange(n)) for n in (5, 4, 3)]
        return Splits(*parts)

    return make, calls


def tensors(splits):
    return [tensor for split in (splits.train, splits.validation, splits.test) for tensor in split.tensors]


def same(a, b):
    return all(x.dtype == y.dtype and torch.equal(x, y) for x, y in zip(tensors(a), tensors(b), strict=True))


@pytest.mark.parametrize("name", ["digits", "digits-mlp", "friedman", pytest.param("mnist1d", marks=pytest.mark.slow)])
def test_a_tasks_data_are_those_that_its_library_makes(folder, name):
    made = load_task(name).data.__wrapped__()
    first, second = load_task(name).splits(), load_task(name).splits()
    assert len(list(folder.glob("splits-*.npz"))) == 1
    assert same(first, made)
    assert same(second, made)
    second.train.tensors[0].add_(1)  # a process may write into its own
    assert same(load_task(name).splits(), made)


def test_the_second_process_does_not_import_the_library(folder):
    load_task("digits").splits()
    program = (
        "import sys; from aquasurf_ray.tasks import load_task; load_task('digits').splits();"
        "sys.exit('sklearn' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


@pytest.mark.parametrize("damage", ["empty", "truncated", "other"])
def test_a_damaged_file_is_a_warning_and_the_splits_are_made_again(folder, made, damage):
    make, calls = made
    make()
    (file,) = folder.iterdir()
    if damage == "other":
        np.savez(file, train_inputs=np.zeros(3))
    else:
        file.write_bytes(file.read_bytes()[: 0 if damage == "empty" else -100])
    with pytest.warns(UserWarning, match=r"cached data .* is damaged .* is computed again"):
        again = make()
    assert len(calls) == 2
    assert same(make(), again)
    assert len(calls) == 2


def test_a_folder_that_cannot_be_written_is_a_warning(folder, made):
    make, calls = made
    folder.write_text("a file")
    with pytest.warns(UserWarning, match="data cannot be stored in"):
        make()
    assert len(calls) == 1


@pytest.mark.parametrize("what", ["library", "source", "function"])
def test_what_may_change_the_splits_gives_them_another_file(folder, made, what, monkeypatch, tmp_path):
    make, calls = made
    make()
    if what == "library":
        monkeypatch.setattr(metadata, "version", lambda name: f"{name} of tomorrow")
    elif what == "source":
        (tmp_path / "changed.py").write_text("# another seed")
        monkeypatch.setattr(kept_splits.inspect, "getfile", lambda _: tmp_path / "changed.py")
    else:
        monkeypatch.setattr(make.__wrapped__, "__qualname__", "another")
    make()
    assert len(calls) == 2
    assert len(list(folder.iterdir())) == 2


def test_without_the_library_its_own_error_is_raised(folder):
    @kept("no-such-distribution")
    def make() -> Splits:
        raise ModuleNotFoundError("No module named 'no_such_module'")

    with pytest.raises(ModuleNotFoundError, match="no_such_module"):
        make()
    assert not folder.exists()
