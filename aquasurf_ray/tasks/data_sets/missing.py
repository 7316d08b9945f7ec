"""The errors for data that are missing or damaged, with the folder that was searched and the command to get them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from aquasurf_ray.tasks.errors import TaskError


def missing(data_set: str, what: str, folder: Path, task: str, *, remedy: str = "") -> TaskError:
    """Return the error to raise.

    >>> print(missing("cifar10", "no file test_batch", Path("/data/cifar-10-batches-py"), "resnet56/cifar10"))
    data set 'cifar10': no file test_batch in /data/cifar-10-batches-py
    get it with: aquasurf task check resnet56/cifar10 --download   (AQUASURF_DATA names another folder)
    """
    return TaskError(
        f"data set '{data_set}': {what} in {folder}\n"
        f"{remedy or 'get it with'}: aquasurf task check {task} --download   (AQUASURF_DATA names another folder)"
    )


def check_files(data_set: str, files: Sequence[tuple[str, str]], folder: Path, task: str) -> None:
    """Compare files with their MD5 digests, given as (name, MD5) pairs.

    Raises:
        TaskError: a file is missing or has other content.
    """
    from torchvision.datasets.utils import check_md5

    # Absent before damaged: the digests of large files take seconds each.
    absent = [name for name, _ in files if not (folder / name).is_file()]
    if absent:
        raise missing(data_set, f"no file {', '.join(absent)}", folder, task)
    damaged = [name for name, md5 in files if not check_md5(folder / name, md5)]
    if damaged:
        what = f"file {', '.join(damaged)} is incomplete or damaged (its MD5 is not the published one)"
        raise missing(data_set, what, folder, task)
