"""Fashion-MNIST (Xiao, Rasul and Vollgraf 2017, arXiv 1708.07747): 60,000 training and 10,000 test images of clothes.

Grey images of 28x28 pixels in ten classes, under the MIT licence. They are read from the archives that torchvision
downloads, or from those of Debian's package `dataset-fashion-mnist`. The two are packed differently, so the MD5 of
their content is checked. 5,000 training images are held out for validation, the same number of each class. Pixels are
standardised by their mean and deviation in the 55,000 others. Networks that read 32x32 images get them with a border
of two background pixels.
"""

from __future__ import annotations

import gzip
import hashlib
import zlib
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.data import TensorDataset
from torchvision import datasets

from aquasurf_ray.tasks.data_sets import data_folder
from aquasurf_ray.tasks.data_sets.augmentation import flip_and_shift
from aquasurf_ray.tasks.data_sets.cifar import channel_statistics, standardised
from aquasurf_ray.tasks.data_sets.held_out import held_out
from aquasurf_ray.tasks.data_sets.missing import missing
from aquasurf_ray.tasks.data_sets.preparation import Preparation
from aquasurf_ray.tasks.data_sets.source import Source
from aquasurf_ray.tasks.task import Splits

PACKAGED = Path("/usr/share/datasets/fashion-mnist")  # Debian's dataset-fashion-mnist
HELD_OUT = 1 / 12  # 5,000 of 60,000
BORDER = 2  # on each side, from 28 to 32 pixels
CONTENT_MD5 = {
    "train-images-idx3-ubyte": "f4a8712d7a061bf5bd6d2ca38dc4d50a",
    "train-labels-idx1-ubyte": "9018921c3c673c538a1fc5bad174d6f9",
    "t10k-images-idx3-ubyte": "8181f5470baa50b63fa0f6fddb340f0a",
    "t10k-labels-idx1-ubyte": "15d484375f8d13e6eb1aabb0c3f46965",
}


@dataclass(frozen=True)
class FashionMNIST:
    """The images as a data set for networks that read 32x32 images of one channel."""

    name: str = "fashion-mnist"

    def source(self, task: str, preparation: Preparation | None) -> Source:
        """Return the source of images (1, 32, 32), flipped and shifted by up to 2 pixels in training."""
        return Source(10, (1, 32, 32), partial(self.splits, task), augment=partial(flip_and_shift, pixels=2))

    def splits(self, task: str) -> Splits:
        """Return the splits as in-memory tensors: inputs (n, 1, 32, 32) float32, targets (n,) int64.

        Raises:
            TaskError: a file is missing or damaged.
        """
        images, labels = read_split("train", task)
        test_images, test_labels = read_split("t10k", task)
        images, test_images = (functional.pad(part, [BORDER] * 4) for part in (images, test_images))
        kept, out = held_out(labels, HELD_OUT)
        mean, std = channel_statistics(images[kept])
        return Splits(
            train=TensorDataset(standardised(images[kept], mean, std), labels[kept]),
            validation=TensorDataset(standardised(images[out], mean, std), labels[out]),
            test=TensorDataset(standardised(test_images, mean, std), test_labels),
        )

    def download(self, folder: Path) -> None:
        """Download the archives and check them, unless they exist or Debian's package is installed."""
        if not PACKAGED.is_dir():
            datasets.FashionMNIST(str(folder), download=True)


def read_split(part: str, task: str) -> tuple[Tensor, Tensor]:
    """Return the images (n, 1, 28, 28) uint8 and labels (n,) int64 of `train` or `t10k`.

    Args:
        part: the archives' prefix.
        task: the task's name, for messages that say how to get the data.

    Raises:
        TaskError: a file is missing or damaged.
    """
    downloaded = data_folder() / "FashionMNIST" / "raw"
    folder = downloaded if downloaded.is_dir() or not PACKAGED.is_dir() else PACKAGED
    # A header has 4 bytes for the type and 4 for each dimension: three of images, one of labels.
    images = _idx(folder, f"{part}-images-idx3-ubyte", 16, task).reshape(-1, 1, 28, 28)
    return images, _idx(folder, f"{part}-labels-idx1-ubyte", 8, task).long()


def _idx(folder: Path, name: str, header: int, task: str) -> Tensor:
    """Return the bytes of a packed IDX file (LeCun's format) after its header, as uint8."""
    if not (folder / f"{name}.gz").is_file():
        raise missing("fashion-mnist", f"no file {name}.gz", folder, task)
    try:
        content = gzip.decompress((folder / f"{name}.gz").read_bytes())
    except (OSError, EOFError, zlib.error):
        # Any unpacking error is damage, which the comparison below reports.
        content = b""
    if hashlib.md5(content, usedforsecurity=False).hexdigest() != CONTENT_MD5[name]:
        what = f"file {name}.gz is incomplete or damaged (its content's MD5 is not the published one)"
        raise missing("fashion-mnist", what, folder, task)
    # Copied, because tensors cannot be made of read-only memory without a warning.
    return torch.from_numpy(np.frombuffer(content, dtype=np.uint8, offset=header).copy())


FASHION_MNIST = FashionMNIST()
