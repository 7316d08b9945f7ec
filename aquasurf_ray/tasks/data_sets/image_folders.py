"""Splits from trees of image files: `train/CLASS/*.jpeg` and `val/CLASS/*.jpeg`, read one by one on demand.

The labels of the published validation tree are public, so it serves as the test split, and validation images are held
out of the training tree. Only file names are read before an image is needed.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import Dataset
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

from aquasurf_ray.tasks.data_sets.held_out import held_out
from aquasurf_ray.tasks.data_sets.preparation import Preparation
from aquasurf_ray.tasks.errors import TaskError
from aquasurf_ray.tasks.task import Splits


class PreparedImages(Dataset[tuple[Tensor, ...]]):
    """A subset of the images of a tree: (input (3, size, size) float32, label int64).

    Args:
        images: the tree, without a transform.
        chosen: indices into the tree.
        transform: the transform from a PIL image to an input.
    """

    def __init__(self, images: ImageFolder, chosen: Tensor, transform: v2.Transform) -> None:
        self.images = images
        self.chosen = chosen
        self.transform = transform

    def __len__(self) -> int:
        return len(self.chosen)

    def __getitem__(self, index: int) -> tuple[Tensor, ...]:
        position = int(self.chosen[index])
        try:
            image, label = self.images[position]
        except (OSError, SyntaxError) as error:  # what Pillow raises, depending on the format
            path = self.images.samples[position][0]
            raise TaskError(f"image {path} is damaged: {error}; download the data set again") from error
        return self.transform(image), torch.tensor(label)

    @property
    def labels(self) -> Tensor:
        """Return the labels, (n,) int64, without reading an image."""
        return torch.tensor(self.images.targets, dtype=torch.int64)[self.chosen]


def image_folder_splits(
    folder: Path, preparation: Preparation, *, n_classes: int | None = None, held_out_share: float = 0.1
) -> Splits:
    """Return the splits of a folder that has `train` and `val`, with one folder a class in each.

    Args:
        folder: the tree.
        preparation: the preparation of the images.
        n_classes: the largest number of classes that the network supports.
        held_out_share: the share of each class's training images that is held out for validation.

    Raises:
        TaskError: a folder is missing or empty, the two do not have the same classes, or there are too many.
    """
    train, test = _tree(folder / "train"), _tree(folder / "val")
    if train.classes != test.classes:
        odd = sorted(set(train.classes) ^ set(test.classes))
        raise TaskError(f"train and val in {folder} must have the same classes; in one only: {', '.join(odd[:5])}")
    if n_classes is not None and len(train.classes) > n_classes:
        raise TaskError(f"{folder / 'train'} has {len(train.classes)} classes, expected at most {n_classes}")
    kept, out = held_out(torch.tensor(train.targets, dtype=torch.int64), held_out_share)
    plain = preparation.evaluation()
    return Splits(
        train=PreparedImages(train, kept, preparation.training()),
        validation=PreparedImages(train, out, plain),
        test=PreparedImages(test, torch.arange(len(test)), plain),
        unaugmented=PreparedImages(train, kept, plain),
    )


def _tree(folder: Path) -> ImageFolder:
    if not folder.is_dir():
        raise TaskError(f"no folder {folder}; put the images there, a folder for each class")
    try:
        return ImageFolder(str(folder))
    except FileNotFoundError as error:
        raise TaskError(f"{folder}: {' '.join(str(error).split())}") from error
