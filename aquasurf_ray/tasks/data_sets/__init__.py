"""The data sets, by name: where they are looked for, how they are fetched, what they supply to a task.

All lie in one folder, each in the layout that torchvision's own class for it makes there. Nothing is ever downloaded
but by `download`. A new data set is one file and one line in `DATA_SETS`. Importing this loads no PyTorch.
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
    "imagenet": "aquasurf_ray.tasks.data_sets.imagenet:IMAGENET",
    "imagenette": "aquasurf_ray.tasks.data_sets.imagenette:IMAGENETTE",
}
BUNDLED = {"digits"}  # nothing to fetch


def data_folder() -> Path:
    """Where data sets are looked for: the folder of `AQUASURF_DATA`, else `data` in the working folder."""
    return Path(os.environ.get("AQUASURF_DATA") or "data").absolute()


def download(name: str, folder: Path | None = None) -> None:
    """Fetches a data set into a folder, by default `data_folder()`, with a progress bar, and checks its MD5.

    What is there already and whole is left as it is.

    Raises:
        TaskError: there is no such data set, it cannot be fetched, or what came is damaged.
    """
    data_set = _data_set(name)
    folder = folder or data_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        data_set.download(folder)
    except (OSError, RuntimeError) as error:
        reason = " ".join(f"{error}".split())
        raise TaskError(f"cannot fetch data set '{name}' into {folder}: {reason}") from error


def task_data(name: str, task: str, preparation: Preparation | None = None) -> Source:
    """What a data set supplies to a task; nothing is read before its splits are asked for.

    Args:
        name: of the data set.
        task: the task's name, for messages that say how to get the data.
        preparation: of images that are read from files, by default ImageNet's usual one; others come as they are.

    Raises:
        TaskError: there is no such data set.
    """
    return _data_set(name).source(task, preparation)


def _data_set(name: str) -> DataSet:
    if name not in DATA_SETS:
        raise TaskError(f"unknown data set '{name}'; there are: {', '.join(sorted(DATA_SETS))}")
    module, _, attribute = DATA_SETS[name].partition(":")
    data_set: DataSet = getattr(import_module(module), attribute)
    return data_set
