"""Epoch checkpoints of one evaluation, in a local folder or under any fsspec URI.

A checkpoint file is `epoch-00012.ckpt`: a magic word, the SHA-256 of the rest, and torch's own zip, which is read with
`weights_only=True` so that a planted pickle is never run. It is written under a temporary name and moved into place.
A file that is cut short, altered or of another training is ignored with a warning, and the one before it is used.
"""

from __future__ import annotations

import hashlib
import io
import logging
import re
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import fsspec
import torch
from fsspec.implementations.local import LocalFileSystem

MAGIC = b"AQSCKPT1"
KEPT = 2  # the newest, and the one before in case the newest is damaged
BAD_FILE = (OSError, ValueError, RuntimeError, EOFError, TypeError, LookupError, UnpicklingError)

logger = logging.getLogger(__name__)


class CheckpointError(RuntimeError):
    """The storage path cannot be written or read."""


def check_storage(url: str) -> None:
    """Write and delete a small file under `url`, or, so that no folder is left, in the folder that `url` would be in.

    Raises:
        CheckpointError: the file cannot be written or deleted.
    """
    with mark_storage(url, f"{uuid.uuid4().hex}.tmp"):
        pass


@contextmanager
def mark_storage(url: str, name: str) -> Iterator[str]:
    """Create a small file where `check_storage` would write one, give its path or URI, and delete it on exit.

    Raises:
        CheckpointError: it cannot be written or deleted.
    """
    try:
        fs, folder = fsspec.core.url_to_fs(url)
        if isinstance(fs, LocalFileSystem):
            # The nearest folder that exists: checking a path must not create it.
            folder = next(str(path) for path in (Path(folder), *Path(folder).parents) if path.exists())
        else:
            fs.makedirs(folder, exist_ok=True)
        mark = f"{folder}/{name}"
        fs.pipe_file(mark, b"")
    except (OSError, ValueError, ImportError) as error:
        raise CheckpointError(f"storage '{url}' cannot be written: {error}") from error
    try:
        yield fs.unstrip_protocol(mark)
    finally:
        _remove_mark(fs, mark, url)


def _remove_mark(fs: Any, mark: str, url: str) -> None:
    try:
        fs.rm_file(mark)
    except OSError as error:
        raise CheckpointError(f"storage '{url}' cannot be written: {error}") from error


def folder_of(storage: str, task_digest: str, fingerprint: str, seed: int, recipe_change: str = "") -> str:
    """Return the folder of one evaluation's checkpoints under a storage path."""
    # A change's * and = are not allowed in file names everywhere.
    change = f"-{re.sub('[*=]', '-', recipe_change)}" if recipe_change else ""
    return f"{storage}/{task_digest}/{fingerprint}-{seed}{change}"


def newest_epoch(url: str) -> int:
    """Return the epoch of the newest checkpoint in a folder, by its name; 0 where this machine sees none."""
    try:
        paths = CheckpointFolder(url, {})._paths()
    except (OSError, ValueError, ImportError) as error:
        logger.info("checkpoints %s cannot be seen from here: %s", url, error)
        return 0
    return int(paths[-1][-len("00000.ckpt") : -len(".ckpt")]) if paths else 0


class CheckpointFolder:
    """The checkpoints of one evaluation.

    Args:
        url: the folder, a local path or an fsspec URI such as `s3://bucket/run`.
        identity: the training's task digest, function and seed. They are stored in each file, and a file with another
            identity is not loaded.

    `after_last` says whether the state after the last epoch is saved too, although no training resumes from it.
    """

    after_last = False

    def __init__(self, url: str, identity: Mapping[str, str | int]) -> None:
        self.identity = dict(identity)
        self._fs, self._folder = fsspec.core.url_to_fs(url)

    def save(self, epoch: int, state: Mapping[str, Any]) -> None:
        """Write the state after `epoch`, atomically where the file system can move, and delete older ones.

        Raises:
            CheckpointError: the storage path is gone, full or not writable.
        """
        buffer = io.BytesIO()
        torch.save({"identity": self.identity, "epoch": epoch, "state": dict(state)}, buffer)
        payload = buffer.getvalue()
        path = f"{self._folder}/epoch-{epoch:05d}.ckpt"
        temporary = f"{path}.{uuid.uuid4().hex}.tmp"
        try:
            self._fs.makedirs(self._folder, exist_ok=True)
            self._put(MAGIC + hashlib.sha256(payload).digest() + payload, temporary, path)
            for old in self._paths()[:-KEPT]:
                self._fs.rm_file(old)
        except OSError as error:
            raise CheckpointError(f"checkpoint '{path}' cannot be written: {error}; free or remount it") from error

    def _put(self, data: bytes, temporary: str, path: str) -> None:
        """Write a temporary file and move it into place; delete a part that was written before the disk was full."""
        try:
            self._fs.pipe_file(temporary, data)
            self._fs.mv(temporary, path)
        except OSError:
            with suppress(OSError):
                self._fs.rm_file(temporary)
            raise

    def load_latest(self, device: torch.device) -> tuple[int, dict[str, Any]] | None:
        """Return (epoch, state) of the newest whole checkpoint of this training, or None."""
        for path in reversed(self._paths()):
            try:
                content = self._read(path, device)
            except torch.OutOfMemoryError:  # the device is full, and the file is whole
                raise
            except BAD_FILE as error:
                logger.warning("checkpoint %s ignored: %s", path, error)
                continue
            return content
        return None

    def remove(self) -> None:
        """Delete the folder, if there is one."""
        try:
            if self._fs.exists(self._folder):
                self._fs.rm(self._folder, recursive=True)
        except OSError as error:
            logger.warning("checkpoints %s not removed: %s", self._folder, error)

    def _paths(self) -> list[str]:
        if not self._fs.exists(self._folder):
            return []
        return sorted(p for p in self._fs.ls(self._folder, detail=False) if re.search(r"/epoch-\d{5}\.ckpt$", p))

    def _read(self, path: str, device: torch.device) -> tuple[int, dict[str, Any]]:
        data = self._fs.cat_file(path)
        header, payload = data[: len(MAGIC) + 32], data[len(MAGIC) + 32 :]
        if header != MAGIC + hashlib.sha256(payload).digest():
            raise ValueError("cut short, altered or of another version")
        content = torch.load(io.BytesIO(payload), map_location=device, weights_only=True)
        if content["identity"] != self.identity:
            raise ValueError(f"of another training, {content['identity']}")
        return content["epoch"], content["state"]
