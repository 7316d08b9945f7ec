"""Tables of distinct functions on disk, so that a space is enumerated only once on each machine.

A table is one uncompressed .npz file of plain arrays (nothing pickled), named by everything that decides its content:
the space's digest, the rule, the sample, the version of PyTorch and the processor's instruction set. It is written to a
temporary file and moved into place, so that readers see a whole file or none; zip's checksums detect a damaged one.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import numpy as np
import torch

from aquasurf_ray.activations.identity import DIGEST_BYTES, Rule, digest, sample
from aquasurf_ray.activations.spaces.space import SearchSpace
from aquasurf_ray.activations.spaces.table import FunctionTable

_FORMAT = 2
_ARRAYS = {"digests": np.uint8, "canonical": np.int32, "classes": np.int32}


def default_folder() -> Path:
    """Return `$AQUASURF_CACHE` if it is set, else `~/.cache/aquasurf-ray`."""
    return Path(os.environ.get("AQUASURF_CACHE") or Path.home() / ".cache" / "aquasurf-ray")


@contextmanager
def whole_file(path: Path) -> Iterator[IO[bytes]]:
    """Open a temporary file that replaces `path` once it is completely written; its folder is created. If writing
    fails, nothing is left of it.

    Raises:
        OSError: the file cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=path.stem, suffix=".part", delete=False) as file:
        try:
            yield file
            file.flush()
            # On disk before it gets its name, or a power cut could leave an empty file under it.
            os.fsync(file.fileno())
            os.replace(file.name, path)
        except BaseException:
            os.unlink(file.name)
            raise


def path_for(space_digest: str, rule: Rule, folder: Path | None) -> Path:
    """Return the path of a table's file."""
    arithmetic = (_FORMAT, rule, digest(sample()).hex(), torch.__version__, torch.backends.cpu.get_cpu_capability())
    key = hashlib.blake2b(repr((space_digest, arithmetic)).encode(), digest_size=16).hexdigest()
    return (default_folder() if folder is None else Path(folder)) / f"functions-{key}.npz"


def read(path: Path, space: SearchSpace) -> FunctionTable | None:
    """Return the table of a space from its file; None if there is no file, or, with a warning, if it is damaged."""
    if not path.exists():
        return None
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            table = FunctionTable(space, **{name: stored[name] for name in _ARRAYS})
        _check(table)
    except Exception as error:  # damage shows as any of a dozen errors of zip, NumPy and the system
        warnings.warn(f"cached table {str(path)!r} is damaged ({error}) and is computed again", stacklevel=3)
        return None
    return table


def write(path: Path, table: FunctionTable) -> None:
    """Store a table; a folder that cannot be written is a warning, because the table can be computed again."""
    try:
        with whole_file(path) as file:
            np.savez(file, **{name: getattr(table, name) for name in _ARRAYS})
    except OSError as error:
        warnings.warn(f"table cannot be stored in {str(path.parent)!r}: {error.strerror or error}", stacklevel=3)


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
