"""Splits that a library makes, kept on disk, so that the next process reads them instead of making them again.

A driver needs the splits, and so does every worker: MNIST-1D takes six seconds to generate, and importing scikit-learn
takes two. A file is named by everything that decides its content: the module that makes the splits, as it is written,
and the versions of the libraries.
"""

from __future__ import annotations

import functools
import hashlib
import inspect
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import torch
from torch.utils.data import TensorDataset

from aquasurf_ray.cached_files import Arrays, default_folder, read_arrays, write_arrays
from aquasurf_ray.tasks.task import Splits

_FORMAT = 1
_NAMES = ("train", "validation", "test")

MakeSplits = Callable[[], Splits]


def kept(*libraries: str) -> Callable[[MakeSplits], MakeSplits]:
    """Return a decorator for a function that makes three splits of in-memory tensors with these distributions."""

    def decorator(make: MakeSplits) -> MakeSplits:
        @functools.wraps(make)
        def kept_splits() -> Splits:
            try:
                versions = [metadata.version(name) for name in (*libraries, "numpy", "torch")]
            except metadata.PackageNotFoundError:
                return make()  # whose import raises the error that says what is missing
            path = default_folder() / f"splits-{_key(make, versions)}.npz"
            splits = read_arrays(path, "data", _splits)
            if splits is None:
                splits = make()
                write_arrays(path, "data", _arrays(splits))
            return splits

        return kept_splits

    return decorator


def _key(make: MakeSplits, versions: list[str]) -> str:
    source = Path(inspect.getfile(make)).read_bytes()
    content = (_FORMAT, make.__module__, make.__qualname__, source, versions)
    return hashlib.blake2b(repr(content).encode(), digest_size=16).hexdigest()


def _arrays(splits: Splits) -> Arrays:
    return {
        f"{name}_{part}": tensor.numpy()
        for name in _NAMES
        for part, tensor in zip(("inputs", "targets"), getattr(splits, name).tensors, strict=True)
    }


def _splits(stored: Arrays) -> Splits:
    parts = {
        name: TensorDataset(*(torch.from_numpy(stored[f"{name}_{part}"]) for part in ("inputs", "targets")))
        for name in _NAMES
    }
    return Splits(**parts)
