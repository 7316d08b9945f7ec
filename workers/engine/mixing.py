"""Mixup and cutmix of a training batch, by torchvision's transforms (arXiv 1710.09412, 1905.04899).

With both, each batch gets one of them by a fair coin. They draw from torch's global generator, which is seeded for each
batch from the epoch's generator, and restored afterwards.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

import torch
from torch import Tensor

from aquasurf_ray.tasks import Recipe, TaskError
from aquasurf_ray.tasks.inputs import Inputs, form_of
from aquasurf_ray.workers.engine.seeding import seeded

CPU = torch.device("cpu")
SEEDS = 2**62  # well within int64, which randint draws


class BatchMixing:
    """Mixes images (n, c, h, w) and their labels (n,) int64, or probabilities (n, classes), with the next in the batch.

    Args:
        n_classes: the width of the network's outputs.

    Raises:
        TaskError: torchvision is not installed.
    """

    def __init__(self, recipe: Recipe, n_classes: int) -> None:
        try:
            v2 = import_module("torchvision.transforms.v2")
        except ImportError as error:
            raise TaskError("mixup and cutmix are torchvision's: pip install torchvision") from error
        alphas = [(v2.MixUp, recipe.mixup), (v2.CutMix, recipe.cutmix)]
        self._transforms: list[Callable[..., Any]] = [
            transform(alpha=alpha, num_classes=n_classes) for transform, alpha in alphas if alpha > 0
        ]

    def __call__(self, inputs: Inputs, targets: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return mixed inputs, and targets as probabilities (n, classes).

        Raises:
            TaskError: the data are not images with class labels.
        """
        if not isinstance(inputs, Tensor) or inputs.dim() != 4 or targets.dim() not in (1, 2):
            got = tuple(inputs.shape) if isinstance(inputs, Tensor) else form_of(inputs)
            raise TaskError(
                f"mixup and cutmix take images (n, c, h, w) and labels (n,), "
                f"got {got} and {tuple(targets.shape)}; set both to 0"
            )
        if not targets.is_floating_point() and targets.shape[1:].numel() == 1:
            targets = targets.flatten()
        seed, coin = torch.randint(SEEDS, (2,), generator=generator).tolist()
        with seeded(seed, CPU):
            mixed, probabilities = self._transforms[coin % len(self._transforms)](inputs, targets)
        return mixed, probabilities
