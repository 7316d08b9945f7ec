"""The data sets by name: their folder, their download, and their sources for tasks.

All are in one folder, each in the layout of torchvision's class for it. Only `download` ever downloads anything. A new
data set is one file and one line in `DATA_SETS`. Importing this package does not load PyTorch.
"""

from __future__ import annotations

import os
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from aquasurf_ray.tasks.errors import TaskError

if TYPE_CHECKING:
    from aquasurf_ray.tasks.data_sets.preparation import Preparation
    from aquasurf_ray.tasks.data_sets.source import DataSet, Source

DATA_SETS = {
    "cifar10": "aquasurf_ray.tasks.data_sets.cifar:CIFAR10",
    "cifar100": "aquasurf_ray.tasks.data_sets.cifar:CIFAR100",
    "digits": "aquasurf_ray.tasks.networks.digits:DIGITS",
    "fashion-mnist": "aquasurf_ray.tasks.data_sets.fashion_mnist:FASHION_MNIST",
    "imagenet": "aquasurf_ray.tasks.data_sets.imagenet:IMAGENET",
    "imagenette": "aquasurf_ray.tasks.data_sets.imagenette:IMAGENETTE",
}
BUNDLED = {"digits"}  # nothing to fetch
DATA_FOLDER = "AQUASURF_DATA"
"""The environment variable that names the folder of the data sets."""


def data_folder() -> Path:
    """Return the folder of the data sets: that of `DATA_FOLDER`, else `data` in the working folder."""
    return Path(os.environ.get(DATA_FOLDER) or "data").absolute()


def download(name: str, folder: Path | None = None) -> None:
    """Download a data set into a folder, by default `data_folder()`, with a progress bar, and check its MD5.

    A complete data set is left unchanged.

    Raises:
        TaskError: there is no such data set, or it cannot be downloaded, or the download is damaged.
    """
    data_set = _data_set(name)
    folder = folder or data_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        data_set.download(folder)
    except (OSError, RuntimeError) as error:
        from urllib.error import HTTPError

        if isinstance(error, HTTPError):
            error.close()  # it holds the server's answer open
        reason = " ".join(f"{error}".split())
        raise TaskError(f"cannot fetch data set '{name}' into {folder}: {reason}") from error


def task_data(name: str, task: str, preparation: Preparation | None = None) -> Source:
    """Return the source of a data set for a task; nothing is read before its splits are loaded.

    Args:
        name: the name of the data set.
        task: the task's name, for messages that say how to get the data.
        preparation: the preparation of images that are read from files, by default the usual one of ImageNet; other
            data need none.

    Raises:
        TaskError: there is no such data set.
    """
    return _data_set(name).source(task, preparation)


def _data_set(name: str) -> DataSet:
    if name not in DATA_SETS:
        raise TaskError(f"data set must be one of {', '.join(sorted(DATA_SETS))}, got '{name}'")
    module, _, attribute = DATA_SETS[name].partition(":")
    data_set: DataSet = getattr(import_module(module), attribute)
    return data_set
