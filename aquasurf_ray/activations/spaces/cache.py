"""Tables of distinct functions on disk, so that a space is enumerated only once on each machine.

A table's file is named by everything that decides its content: the space's digest, the rule, the sample, the version of
PyTorch and the processor's instruction set.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from aquasurf_ray.activations.identity import DIGEST_BYTES, Rule, digest, sample
from aquasurf_ray.activations.spaces.space import SearchSpace
from aquasurf_ray.activations.spaces.table import FunctionTable
from aquasurf_ray.cached_files import Arrays, default_folder, key_of, read_arrays, write_arrays

_FORMAT = 2
_ARRAYS = {"digests": np.uint8, "canonical": np.int32, "classes": np.int32}


def path_for(space_digest: str, rule: Rule, folder: Path | None) -> Path:
    """Return the path of a table's file."""
    arithmetic = (_FORMAT, rule, digest(sample()).hex(), torch.__version__, torch.backends.cpu.get_cpu_capability())
    name = f"functions-{key_of((space_digest, arithmetic))}.npz"
    return (default_folder() if folder is None else Path(folder)) / name


def read(path: Path, space: SearchSpace) -> FunctionTable | None:
    """Return the table of a space from its file; None if there is no file, or, with a warning, if it is damaged."""

    def table_of(stored: Arrays) -> FunctionTable:
        table = FunctionTable(space, **{name: stored[name] for name in _ARRAYS})
        _check(table)
        return table

    return read_arrays(path, "table", table_of)


def write(path: Path, table: FunctionTable) -> None:
    """Store a table; a folder that cannot be written is a warning, because the table can be computed again."""
    write_arrays(path, "table", {name: getattr(table, name) for name in _ARRAYS})


def _check(table: FunctionTable) -> None:
    n, n_names = len(table.digests), table.space.n_names
    shapes = {"digests": (n, DIGEST_BYTES), "canonical": (n,), "classes": (n_names,)}
    for name, dtype in _ARRAYS.items():
        array = getattr(table, name)
        if array.dtype != dtype or array.shape != shapes[name]:
            raise ValueError(f"{name} is {array.dtype} of shape {array.shape}")
    for name, bound in (("canonical", n_names), ("classes", n)):
        array = getattr(table, name)
        if array.min() < 0 or array.max() >= bound:
            raise ValueError(f"{name} is out of range")
