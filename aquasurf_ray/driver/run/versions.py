"""Which versions a session of a run has, for the run's log: what one needs to make a run again exactly."""

from __future__ import annotations

import platform
from importlib.metadata import version

PACKAGES = ("aquasurf-ray", "torch", "ray", "numpy", "scikit-learn", "umap-learn")


def installed_versions() -> dict[str, str]:
    """By name: Python's, and those of the packages that results depend on.

    >>> list(installed_versions())[:3]
    ['python', 'aquasurf-ray', 'torch']
    """
    return {"python": platform.python_version(), **{package: version(package) for package in PACKAGES}}
