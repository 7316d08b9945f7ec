"""ImageNet-1k (ILSVRC 2012): 1,281,167 training and 50,000 validation images of 1,000 classes, from a folder.

The tree is `imagenet/train/CLASS/*.JPEG` and `imagenet/val/CLASS/*.JPEG`. Its licence forbids redistribution, so it
cannot be downloaded; torchvision's class checks and unpacks archives in the folder `imagenet`. A twenty-fifth of each
class's training images, about 51,000, is held out for validation, and the published validation images are the test
split.
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
from aquasurf_ray.tasks.data_sets.source import DAY, Source
from aquasurf_ray.tasks.errors import TaskError
from aquasurf_ray.tasks.task import Splits

FOLDER = "imagenet"
N_CLASSES = 1000
# As many images as the test split has (50,000), so that both estimates are equally precise.
HELD_OUT = 0.04
ARCHIVES = "ILSVRC2012_img_train.tar, ILSVRC2012_img_val.tar and ILSVRC2012_devkit_t12.tar.gz"


@dataclass(frozen=True)
class ImageNet:
    """The data set ImageNet."""

    def source(self, task: str, preparation: Preparation | None) -> Source:
        """Return the source of images (3, size, size)."""
        preparation = preparation or Preparation()
        return Source(
            N_CLASSES,
            (3, preparation.size, preparation.size),
            partial(self.splits, task, preparation),
            version=f"1 {preparation}",
            time_limit=7 * DAY,
        )

    def splits(self, task: str, preparation: Preparation) -> Splits:
        """Return the splits, which are read from files on demand.

        Raises:
            TaskError: the tree is missing or incomplete.
        """
        folder = data_folder() / FOLDER
        try:
            return image_folder_splits(folder, preparation, n_classes=N_CLASSES, held_out_share=HELD_OUT)
        except TaskError as error:
            remedy = f"put train/ and val/ there, or the archives {ARCHIVES}, and unpack these with"
            raise missing("imagenet", str(error), folder, task, remedy=remedy) from error

    def download(self, folder: Path) -> None:
        """Unpack the archives in `folder/imagenet`, unless they are unpacked."""
        for split in ("train", "val"):
            # Unpacking 1.3 million files takes long and is not resumed, so a tree that exists is left alone.
            if not (folder / FOLDER / split).is_dir():
                datasets.ImageNet(str(folder / FOLDER), split=split)


IMAGENET = ImageNet()
