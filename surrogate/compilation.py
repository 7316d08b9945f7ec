"""numba's functions, compiled once a machine instead of once a process.

numba can keep compiled code in a cache on disk, under the processor's name and the source file's time and size; it is
switched on here from outside; the code that runs is the same. umap-learn compiles most of what a layout needs at its
first use, which takes eight seconds of a core in each process.
"""

from __future__ import annotations

import functools
import importlib
import logging
from collections.abc import Sequence
from typing import Any

MODULES = ("umap.umap_", "umap.layouts", "umap.utils")

logger = logging.getLogger(__name__)


@functools.cache
def keep_umap_compiled() -> int:
    """Turn on the cache for umap-learn, once a process, and return the number of cached functions."""
    from numba.core.registry import CPUDispatcher

    modules = [importlib.import_module(name) for name in MODULES]
    return keep_compiled([f for module in modules for f in vars(module).values() if isinstance(f, CPUDispatcher)])


def keep_compiled(functions: Sequence[Any]) -> int:
    """Turn on the cache for functions of numba's `njit`, and return their number: 0 where no folder is writable."""
    try:
        for function in functions:
            function.enable_caching()
    except RuntimeError as error:  # numba finds no folder that it can write to
        logger.info("numba compiles again in each process: %s", error)
        return 0
    return len(functions)
