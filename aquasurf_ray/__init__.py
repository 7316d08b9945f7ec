"""Search for a better activation function for your network.

    from aquasurf_ray import Activation, parse, SearchSpace, Task, search

Importing the package is cheap: `__init__.pyi` lists the public names, and each is imported from its room when it is
first used, so that PyTorch, Ray and UMAP are loaded only when they are needed.
"""

import lazy_loader

_find, _names, _public = lazy_loader.attach_stub(__name__, __file__)

__all__ = [*_public, "__version__"]


def __getattr__(name: str) -> object:
    if name == "__version__":  # read on demand: an uninstalled working tree has no version
        from importlib.metadata import version

        return version("aquasurf-ray")
    return _find(name)


def __dir__() -> list[str]:
    return [*_names(), "__version__"]
