"""ResNet-50 of He et al. 2016 (arXiv 1512.03385): torchvision's, with the stride in the 3x3 convolutions.

25,557,032 parameters at 1000 classes. Recipe of the paper's section 3.4 as torchvision's reference training carries it
out: SGD, momentum 0.9, weight decay 1e-4, learning rate 0.1 divided by 10 every 30 of 90 epochs, batches of 256, random
resized crops of 224 pixels and flips; validation on the centre of images resized to 256. Chosen here: momentum in
Nesterov's form, bfloat16 where the GPU has it, and no warm-up.
"""

from __future__ import annotations

from dataclasses import dataclass

import torchvision
from torch import nn

from aquasurf_ray.tasks.data_sets import task_data
from aquasurf_ray.tasks.data_sets.preparation import Preparation
from aquasurf_ray.tasks.recipe import Recipe
from aquasurf_ray.tasks.replacement import ModelNetwork
from aquasurf_ray.tasks.task import Task

PREPARATION = Preparation(size=224, resize=256)
RECIPE = Recipe(
    epochs=90,
    batch_size=256,
    learning_rate=0.1,
    weight_decay=1e-4,
    schedule="step",
    warmup_fraction=0.0,
    milestones=(30 / 90, 60 / 90),
    precision="auto",
    channels_last=True,
)


def on_imagenet() -> Task:
    """Return the task `resnet50/imagenet`."""
    data = task_data("imagenet", "resnet50/imagenet", PREPARATION)
    return data.task("resnet50/imagenet", resnet50(data.n_classes), RECIPE)


def resnet50(n_classes: int = 1000, size: int = 224) -> ModelNetwork:
    """Return the network: inputs (n, 3, size, size), logits (n, n_classes)."""
    return ModelNetwork(_Torchvision(n_classes), example=(3, size, size))


# A class and not a lambda, because every built-in task can be pickled.
@dataclass(frozen=True)
class _Torchvision:
    n_classes: int

    def __call__(self) -> nn.Module:
        network: nn.Module = torchvision.models.resnet50(weights=None, num_classes=self.n_classes)
        return network
