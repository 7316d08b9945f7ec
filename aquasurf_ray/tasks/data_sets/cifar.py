"""CIFAR-10 and CIFAR-100 (Krizhevsky 2009): 50,000 training and 10,000 test images of 32x32 pixels, in memory.

torchvision's classes read them from the folder that their archives unpack to, after a check of every file's MD5. 5,000
training images are held out for validation, the same number of each class. Each channel is standardised by the mean
and deviation of its pixels in the 45,000 others. Training batches are flipped and shifted on their device: a shift is
the padding with zeros and the crop of He et al. 2016, section 4.2, where zero is the mean colour.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import TensorDataset
from torchvision import datasets

from aquasurf_ray.tasks.data_sets import data_folder
from aquasurf_ray.tasks.data_sets.augmentation import flip_and_shift
from aquasurf_ray.tasks.data_sets.held_out import held_out
from aquasurf_ray.tasks.data_sets.missing import check_files
from aquasurf_ray.tasks.data_sets.preparation import Preparation
from aquasurf_ray.tasks.data_sets.source import Source
from aquasurf_ray.tasks.task import Splits

HELD_OUT = 0.1  # 5,000 of 50,000


@dataclass(frozen=True)
class Cifar:
    """One of the two data sets. `reader` is torchvision's class for it."""

    name: str
    n_classes: int
    reader: type[datasets.CIFAR10]

    def source(self, task: str, preparation: Preparation | None) -> Source:
        """Return the source of images (3, 32, 32), shifted by up to 4 pixels in training, without preparation."""
        return Source(
            self.n_classes, (3, 32, 32), partial(self.splits, task), augment=partial(flip_and_shift, pixels=4)
        )

    def splits(self, task: str) -> Splits:
        """Return the splits as in-memory tensors: inputs (n, 3, 32, 32) float32, targets (n,) int64.

        Raises:
            TaskError: a file is missing or damaged.
        """
        folder = data_folder()
        files = [
            *self.reader.train_list,
            *self.reader.test_list,
            (self.reader.meta["filename"], self.reader.meta["md5"]),
        ]
        # Before torchvision does the same, because its message names no file.
        check_files(self.name, [(f, md5) for f, md5 in files], folder / self.reader.base_folder, task)
        images, labels = self._read(folder, train=True)
        kept, out = held_out(labels, HELD_OUT)
        mean, std = channel_statistics(images[kept])
        test_images, test_labels = self._read(folder, train=False)
        return Splits(
            train=TensorDataset(standardised(images[kept], mean, std), labels[kept]),
            validation=TensorDataset(standardised(images[out], mean, std), labels[out]),
            test=TensorDataset(standardised(test_images, mean, std), test_labels),
        )

    def download(self, folder: Path) -> None:
        """Download, check and unpack the archive, unless everything is there."""
        self.reader(folder, download=True)

    def _read(self, folder: Path, *, train: bool) -> tuple[Tensor, Tensor]:
        data = self.reader(folder, train=train)
        return torch.from_numpy(data.data).permute(0, 3, 1, 2), torch.tensor(data.targets, dtype=torch.int64)


def channel_statistics(images: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and deviation of each channel's pixels, in [0, 255]: (c,) float32 each. Images (n, c, h, w) uint8.

    They are computed from the counts of the 256 values, and are therefore exact and independent of the order.
    """
    values = torch.arange(256, dtype=torch.float64)
    counts = torch.stack([torch.bincount(c.flatten(), minlength=256) for c in images.unbind(1)]).double()
    mean = counts @ values / counts.sum(1)
    variance = (counts * (values - mean[:, None]).square()).sum(1) / counts.sum(1)
    return mean.float(), variance.sqrt().float()


def standardised(images: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """Convert (n, c, h, w) uint8 to contiguous float32, in place after the conversion: CIFAR is 0.7 GB as float32."""
    out = images.to(torch.float32, memory_format=torch.contiguous_format)
    return out.sub_(mean[:, None, None]).div_(std[:, None, None])


CIFAR10 = Cifar("cifar10", 10, datasets.CIFAR10)
CIFAR100 = Cifar("cifar100", 100, datasets.CIFAR100)
