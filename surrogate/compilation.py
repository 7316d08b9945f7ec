"""umap-learn's numba functions, compiled once a machine instead of once a process.

umap-learn compiles most of what a layout needs at its first use, which takes eight seconds of a core in each process.
numba can keep compiled code in a cache on disk, under the processor's name and the source file's time and size; it is
switched on here from outside; the code that runs is the same.
"""

from __future__ import annotations

import functools
import importlib
import logging

MODULES = ("umap.umap_", "umap.layouts", "umap.utils")

logger = logging.getLogger(__name__)


@functools.cache
def keep_umap_compiled() -> int:
    """Turn on the cache, once a process, and return the number of cached functions: 0 where no folder is writable."""
    from numba.core.registry import CPUDispatcher

    modules = [importlib.import_module(name) for name in MODULES]
    functions = [f for module in modules for f in vars(module).values() if isinstance(f, CPUDispatcher)]
    try:
        for function in functions:
            function.enable_caching()
    except RuntimeError as error:  # numba finds no folder that it can write to
        logger.info("UMAP is compiled again in each process: %s", error)
        return 0
    return len(functions)
