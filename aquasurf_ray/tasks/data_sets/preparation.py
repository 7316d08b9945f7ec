"""The preparation of images from files, for training and for evaluation, by torchvision's transforms.

They draw from torch's global generator only, so a seeded worker process repeats them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torchvision.transforms import InterpolationMode, v2


@dataclass(frozen=True)
class Preparation:
    """The settings of the preparation; their text is part of a task's version.

    Args:
        size: the side of the square input, in pixels.
        resize: the length of the shorter side before the centre crop, outside of training.
        mean, std: the mean and deviation of the channels, after scaling to [0, 1]. The defaults are ImageNet's.
        interpolation: the interpolation of all resizing.
        crop_scale: the smallest and largest share of the area in a training crop; its aspect ratio is between 3:4 and
            4:3.
        rand_augment: the number of operations and their magnitude out of 30 (Cubuk et al. 2020, arXiv 1909.13719).
        erasing: the probability of erasing a rectangle (Zhong et al. 2020, arXiv 1708.04896).
    """

    size: int = 224
    resize: int = 256
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    std: tuple[float, ...] = (0.229, 0.224, 0.225)
    interpolation: Literal["bilinear", "bicubic"] = "bilinear"
    crop_scale: tuple[float, float] = (0.08, 1.0)
    rand_augment: tuple[int, int] | None = None
    erasing: float = 0.0

    def training(self) -> v2.Transform:
        """Return random resized crop, flip and the other settings: PIL image -> (3, size, size) float32."""
        steps: list[v2.Transform] = [
            v2.RandomResizedCrop(self.size, scale=self.crop_scale, interpolation=self._mode),
            v2.RandomHorizontalFlip(),
        ]
        if self.rand_augment:
            operations, magnitude = self.rand_augment
            steps.append(v2.RandAugment(operations, magnitude))
        # RandAugment works on PIL images and erasing on tensors, hence this order.
        steps += self._to_input()
        if self.erasing:
            steps.append(v2.RandomErasing(self.erasing))
        return v2.Compose(steps)

    def evaluation(self) -> v2.Transform:
        """Return resize and centre crop: PIL image -> (3, size, size) float32."""
        return v2.Compose(
            [v2.Resize(self.resize, interpolation=self._mode), v2.CenterCrop(self.size), *self._to_input()]
        )

    @property
    def _mode(self) -> InterpolationMode:
        return InterpolationMode(self.interpolation)

    def _to_input(self) -> list[v2.Transform]:
        return [
            v2.PILToTensor(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(list(self.mean), list(self.std)),
        ]
