"""Search for a better activation function for your network.

    from aquasurf_ray import Activation, parse, SearchSpace, Task, search

Importing the package starts nothing heavy: each name is imported from its room when it is first used, so that neither
PyTorch nor Ray nor UMAP is loaded before it is needed.
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aquasurf_ray.activations import Activation as Activation
    from aquasurf_ray.activations import SearchSpace as SearchSpace
    from aquasurf_ray.activations import parse as parse
    from aquasurf_ray.analysis.benchmarks.parquet import load_benchmark as load_benchmark
    from aquasurf_ray.driver import search as search
    from aquasurf_ray.tasks import Task as Task

    __version__: str

_ROOMS = {
    "Activation": "aquasurf_ray.activations",
    "SearchSpace": "aquasurf_ray.activations",
    "Task": "aquasurf_ray.tasks",
    "load_benchmark": "aquasurf_ray.analysis.benchmarks.parquet",
    "parse": "aquasurf_ray.activations",
    "search": "aquasurf_ray.driver",
}

__all__ = ["Activation", "SearchSpace", "Task", "__version__", "load_benchmark", "parse", "search"]


def __getattr__(name: str) -> Any:
    if name == "__version__":  # a working tree that is not installed has none, and computes all the same
        return version("aquasurf-ray")
    if name not in _ROOMS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_ROOMS[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
