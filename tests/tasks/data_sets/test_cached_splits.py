"""Splits on disk are those that were made, to the last bit, and are made again where anything could be different."""

from __future__ import annotations

import importlib
import os
import subprocess  # processes that must not import a library, or belong to another user
import sys
from importlib import metadata

import numpy as np
import pytest
import torch
from torch.utils.data import TensorDataset

from aquasurf_ray.tasks import load_task
from aquasurf_ray.tasks.data_sets import cached_splits
from aquasurf_ray.tasks.data_sets.cached_splits import cached
from aquasurf_ray.tasks.task import Splits


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("AQUASURF_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def made():
    """A function whose splits are cached, and the list of its calls."""
    calls = []

    @cached("scikit-learn")
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


@pytest.mark.parametrize("what", ["scikit-learn", "numpy", "torch", "source", "function", "module"])
def test_what_may_change_the_splits_gives_them_another_file(folder, made, what, monkeypatch, tmp_path):
    make, calls = made
    make()
    version = metadata.version
    if what == "source":
        (tmp_path / "changed.py").write_text("# another seed")
        monkeypatch.setattr(cached_splits.inspect, "getfile", lambda _: tmp_path / "changed.py")
        make = cached("scikit-learn")(make.__wrapped__)
    elif what in ("function", "module"):
        monkeypatch.setattr(make.__wrapped__, {"function": "__qualname__", "module": "__module__"}[what], "another")
    else:
        monkeypatch.setattr(metadata, "version", lambda name: "of tomorrow" if name == what else version(name))
    make()
    assert len(calls) == 2
    assert len(list(folder.iterdir())) == 2


def test_a_source_that_changes_after_its_code_was_loaded_does_not_name_the_file(folder, tmp_path, monkeypatch):
    (tmp_path / "seeded.py").write_text(
        "import torch\nfrom torch.utils.data import TensorDataset\nfrom aquasurf_ray.tasks import Splits\n"
        "from aquasurf_ray.tasks.data_sets.cached_splits import cached\nSEED = 1\n@cached()\ndef data():\n"
        "    return Splits(*(TensorDataset(torch.full((2,), SEED), torch.zeros(2)) for _ in range(3)))\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    seeded = importlib.import_module("seeded")
    (tmp_path / "seeded.py").write_text((tmp_path / "seeded.py").read_text().replace("SEED = 1", "SEED = 22"))
    assert tensors(seeded.data())[0].tolist() == [1, 1]
    monkeypatch.delitem(sys.modules, "seeded")
    assert tensors(importlib.import_module("seeded").data())[0].tolist() == [22, 22]


@pytest.mark.parametrize("what", ["library", "source"])
def test_without_the_library_or_the_source_nothing_is_cached(folder, what, monkeypatch, tmp_path):
    def make() -> Splits:
        raise ModuleNotFoundError("No module named 'no_such_module'")

    if what == "source":
        monkeypatch.setattr(cached_splits.inspect, "getfile", lambda _: tmp_path / "no.py")
    make = cached("no-such-distribution" if what == "library" else "scikit-learn")(make)
    with pytest.raises(ModuleNotFoundError, match="no_such_module"):
        make()
    assert not folder.exists()


def test_further_splits_are_refused(folder):
    @cached()
    def make() -> Splits:
        split = TensorDataset(torch.zeros(2), torch.zeros(2))
        return Splits(split, split, split, unaugmented=split)

    with pytest.raises(ValueError, match="train, validation, test, unaugmented cannot be cached"):
        make()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may become another user")
@pytest.mark.parametrize("home", [None, "/root"])
def test_a_user_without_a_home_has_the_data_too(home):
    """A container's user, or a service's: no entry in the list of users, and a home that is not there or not his."""
    program = (
        "import os, sklearn.datasets; from aquasurf_ray.tasks import load_task;"
        "task = load_task('friedman'); os.setgid(12345); os.setuid(12345); print(len(task.splits().train))"
    )
    environment = {name: value for name, value in os.environ.items() if name not in ("HOME", "AQUASURF_CACHE")}
    ran = subprocess.run(
        [sys.executable, "-c", program],
        env=environment | ({} if home is None else {"HOME": home}),
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.stdout == "2000\n", ran.stderr
