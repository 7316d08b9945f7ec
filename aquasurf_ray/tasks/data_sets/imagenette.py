"""Imagenette (Howard 2019): ten easy classes of ImageNet, 9,469 training and 3,925 validation images.

The version with a shorter side of 320 pixels, in torchvision's layout: `imagenette2-320/train` and `.../val`. A tenth
of each class's training images is held out for validation, and the published validation images are the test split.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path

from torchvision import datasets

from aquasurf_ray.tasks.data_sets import data_folder
from aquasurf_ray.tasks.data_sets.image_folders import image_folder_splits
from aquasurf_ray.tasks.data_sets.missing import missing
from aquasurf_ray.tasks.data_sets.preparation import Preparation
from aquasurf_ray.tasks.data_sets.source import Source
from aquasurf_ray.tasks.errors import TaskError
from aquasurf_ray.tasks.task import Splits

FOLDER = "imagenette2-320"
N_CLASSES = 10
HELD_OUT = 0.1


@dataclass(frozen=True)
class Imagenette:
    """The data set Imagenette."""

    def source(self, task: str, preparation: Preparation | None) -> Source:
        """Return the source of images (3, size, size)."""
        preparation = preparation or Preparation()
        shape = (3, preparation.size, preparation.size)
        return Source(N_CLASSES, shape, partial(self.splits, task, preparation), version=f"1 {preparation}")

    def splits(self, task: str, preparation: Preparation) -> Splits:
        """Return the splits, which are read from files on demand.

        Raises:
            TaskError: the tree is missing or incomplete.
        """
        try:
            return image_folder_splits(
                data_folder() / FOLDER, preparation, n_classes=N_CLASSES, held_out_share=HELD_OUT
            )
        except TaskError as error:
            raise missing("imagenette", str(error), data_folder(), task) from error

    def download(self, folder: Path) -> None:
        """Download, check and unpack the archive, unless the folder exists."""
        datasets.Imagenette(folder, size="320px", download=True)


IMAGENETTE = Imagenette()
