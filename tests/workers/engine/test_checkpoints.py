"""Checkpoints are whole or ignored, and reading one runs nothing that is planted in it."""

from __future__ import annotations

import hashlib
import io
import pickle

import pytest
import torch

from aquasurf_ray.workers.engine.checkpoints import MAGIC, CheckpointError, CheckpointFolder

IDENTITY = {"task": "t", "function": "relu(x)", "seed": 0}
CPU = torch.device("cpu")


@pytest.fixture
def folder(tmp_path):
    checkpoints = CheckpointFolder(str(tmp_path / "run"), IDENTITY)
    for epoch in (1, 2, 3):
        checkpoints.save(epoch, {"weights": torch.full((4,), float(epoch))})
    return checkpoints


def files(tmp_path):
    return sorted((tmp_path / "run").iterdir())


def test_the_newest_is_loaded_and_older_ones_are_dropped(folder, tmp_path):
    epoch, state = folder.load_latest(CPU)
    assert epoch == 3
    assert torch.equal(state["weights"], torch.full((4,), 3.0))
    assert [f.name for f in files(tmp_path)] == ["epoch-00002.ckpt", "epoch-00003.ckpt"]


def damage(kind, data):
    middle = len(data) // 2
    return {
        "cut short": data[:middle],
        "empty": b"",
        "altered": data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :],
        "of another version": b"AQSCKPT9" + data[8:],
    }[kind]


@pytest.mark.parametrize("kind", ["cut short", "empty", "altered", "of another version"])
@pytest.mark.reliability("checkpoint-damaged")
def test_a_damaged_checkpoint_is_ignored_with_a_warning_for_the_one_before(folder, tmp_path, caplog, kind):
    newest = files(tmp_path)[-1]
    newest.write_bytes(damage(kind, newest.read_bytes()))
    epoch, _ = folder.load_latest(CPU)
    assert epoch == 2
    assert "epoch-00003.ckpt ignored" in caplog.text


def test_a_checkpoint_of_another_training_is_not_loaded(folder, tmp_path):
    assert CheckpointFolder(str(tmp_path / "run"), {**IDENTITY, "seed": 1}).load_latest(CPU) is None


@pytest.mark.parametrize(
    "content", [torch.ones(2), [], {"identity": IDENTITY}, {"identity": IDENTITY, "epoch": 9}, {"epoch": 9}]
)
def test_a_whole_file_with_something_else_inside_is_ignored(folder, tmp_path, caplog, content):
    buffer = io.BytesIO()
    torch.save(content, buffer)
    payload = buffer.getvalue()
    (tmp_path / "run" / "epoch-00009.ckpt").write_bytes(MAGIC + hashlib.sha256(payload).digest() + payload)
    epoch, _ = folder.load_latest(CPU)
    assert epoch == 3
    assert "epoch-00009.ckpt ignored" in caplog.text


def test_memory_exhausted_while_loading_is_not_taken_for_a_bad_file(folder, monkeypatch):
    def exhausted(*_, **__):
        raise torch.OutOfMemoryError("tried to allocate 80 GiB")

    monkeypatch.setattr(torch, "load", exhausted)
    with pytest.raises(torch.OutOfMemoryError):
        folder.load_latest(CPU)


class Bomb:
    def __reduce__(self):
        return (open, ("planted", "w"))


@pytest.mark.parametrize("writer", ["torch", "pickle"])
@pytest.mark.reliability("hostile-files")
def test_a_planted_pickle_is_never_run(folder, tmp_path, monkeypatch, writer):
    monkeypatch.chdir(tmp_path)
    buffer = io.BytesIO()
    content = {"identity": IDENTITY, "epoch": 9, "state": Bomb()}
    if writer == "torch":
        torch.save(content, buffer)
    else:
        pickle.dump(content, buffer, protocol=2)
    payload = buffer.getvalue()
    (tmp_path / "run" / "epoch-00009.ckpt").write_bytes(MAGIC + hashlib.sha256(payload).digest() + payload)
    epoch, _ = folder.load_latest(CPU)
    assert epoch == 3
    assert not (tmp_path / "planted").exists()


def test_a_storage_path_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "run").write_text("a file, not a folder")
    with pytest.raises(CheckpointError, match="cannot be written"):
        CheckpointFolder(str(tmp_path / "run"), IDENTITY).save(1, {})


def test_removal_leaves_nothing_and_may_be_repeated(folder, tmp_path):
    folder.remove()
    folder.remove()
    assert not (tmp_path / "run").exists()
    assert folder.load_latest(CPU) is None


def test_any_fsspec_storage_serves():
    checkpoints = CheckpointFolder("memory://runs/one", IDENTITY)
    checkpoints.save(1, {"weights": torch.ones(2)})
    epoch, state = checkpoints.load_latest(CPU)
    assert epoch == 1
    assert state["weights"].sum() == 2
