"""Search for a better activation function for your network.

    from aquasurf_ray import Activation, parse, SearchSpace, Task, search

Importing the package starts nothing heavy: `__init__.pyi` lists the public names, and each is imported from its room
when it is first used, so that neither PyTorch nor Ray nor UMAP is loaded before it is needed.
"""

from importlib.metadata import version

import lazy_loader

_find, _names, _public = lazy_loader.attach_stub(__name__, __file__)

__all__ = [*_public, "__version__"]


def __getattr__(name: str) -> object:
    if name == "__version__":  # a working tree that is not installed has none, and works without
        return version("aquasurf-ray")
    return _find(name)


def __dir__() -> list[str]:
    return [*_names(), "__version__"]
