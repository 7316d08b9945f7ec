"""Splits that a library generates, cached on disk, so that the next process reads them.

A driver needs the splits, and so does every worker: MNIST-1D takes six seconds to generate, and importing scikit-learn
takes two. A file is named by the source of the module that makes the splits and by the versions of the libraries; the
last bits of its numbers are those of the machine that made it.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import torch
from torch.utils.data import TensorDataset

from aquasurf_ray.cached_files import Arrays, default_folder, key_of, read_arrays, write_arrays
from aquasurf_ray.tasks.task import Splits

_FORMAT = 1
_NAMES = ("train", "validation", "test")

MakeSplits = Callable[[], Splits]


def cached(*distributions: str) -> Callable[[MakeSplits], MakeSplits]:
    """Return a decorator for a function that makes three splits of in-memory tensors, (inputs, targets) each: it is
    called where the folder of cached files has no such splits, and they are stored there.

    Args:
        distributions: those that generate the data, next to NumPy and PyTorch; where one is not installed, nothing is
            cached.
    """

    def decorator(make: MakeSplits) -> MakeSplits:
        try:
            # Now, because the file may change after its code was loaded.
            source = Path(inspect.getfile(make)).read_bytes()
        except OSError:  # an installation without sources
            return make

        @functools.wraps(make)
        def from_cache() -> Splits:
            try:
                versions = {name: metadata.version(name) for name in (*distributions, "numpy", "torch")}
            except metadata.PackageNotFoundError:
                return make()
            content = (_FORMAT, make.__module__, make.__qualname__, source, versions)
            path = default_folder() / f"splits-{key_of(content)}.npz"
            splits = read_arrays(path, "data", _splits)
            if splits is None:
                splits = make()
                write_arrays(path, "data", _arrays(splits))
            return splits

        return from_cache

    return decorator


def _arrays(splits: Splits) -> Arrays:
    given = tuple(name for name, split in vars(splits).items() if split is not None)
    if given != _NAMES:
        raise ValueError(f"splits {', '.join(given)} cannot be cached, only {', '.join(_NAMES)}")
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
