"""The `digits` task: 1,797 real 8x8 images of handwritten digits, and a small all-convolutional network.

The images come inside scikit-learn (the test part of the UCI set "Optical Recognition of Handwritten Digits"), so the
task runs anywhere, offline, in about a second a training on one CPU core. The splits are stratified and seeded:
899 training, 449 validation and 449 test images, standardised by the training pixels' mean and deviation.

The network has no norms, so it starts with He initialisation (He et al. 2015, arXiv:1502.01852), without which ReLU
trains badly; over half of all functions of the three-node space still do not train. The recipe is tuned for ReLU by a
grid of learning rates and epochs with three seeds (`benchmarks/evidence/recipes.py`): at twice the rate ReLU is level,
and at four times it diverges.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.utils.data import TensorDataset

from aquasurf_ray.tasks.data_sets.cached_splits import cached
from aquasurf_ray.tasks.data_sets.source import Source
from aquasurf_ray.tasks.recipe import Recipe
from aquasurf_ray.tasks.task import ActivationFactory, Splits, Task

if TYPE_CHECKING:
    from aquasurf_ray.tasks.data_sets.preparation import Preparation

SPLIT_SEED = 0


def digits() -> Task:
    """Return the task: 16 epochs of batches of 64."""
    return Task(
        name="digits",
        network=digits_network,
        data=digits_data,
        recipe=Recipe(epochs=16, batch_size=64, learning_rate=0.1, weight_decay=5e-4),
        time_limit=300.0,
        version="2",  # version 1 had PyTorch's default weights, which are no part of the task's description
    )


def digits_network(activation: ActivationFactory) -> nn.Module:
    """Return the network: inputs (n, 1, 8, 8), logits (n, 10). Three 3x3 convolutions, the second and third with
    stride 2, a 1x1 convolution, global average pooling. He initialisation (fan-in)."""
    network = nn.Sequential(
        nn.Conv2d(1, 24, 3, padding=1),
        activation(),
        nn.Conv2d(24, 48, 3, stride=2, padding=1),
        activation(),
        nn.Conv2d(48, 48, 3, stride=2, padding=1),
        activation(),
        # No activation after the last convolution: its outputs are averaged to logits, which must be able to be
        # negative.
        nn.Conv2d(48, 10, 1),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
    )
    for module in network:
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
    return network


@cached("scikit-learn")
def digits_data() -> Splits:
    """Return the splits as in-memory tensors: inputs (n, 1, 8, 8) float32, targets (n,) int64."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    images, labels = load_digits(return_X_y=True)
    # Two cuts, both stratified: with 45 test images a class, a random cut would leave the classes out of balance.
    train_x, rest_x, train_y, rest_y = train_test_split(
        images, labels, test_size=898, random_state=SPLIT_SEED, stratify=labels
    )
    val_x, test_x, val_y, test_y = train_test_split(
        rest_x, rest_y, test_size=449, random_state=SPLIT_SEED, stratify=rest_y
    )
    # Of the training pixels only, or the test images would take part in the preparation.
    mean, deviation = train_x.mean(), train_x.std()

    def examples(x: object, y: object) -> TensorDataset:
        inputs = torch.as_tensor(x, dtype=torch.float32).reshape(-1, 1, 8, 8)
        return TensorDataset((inputs - mean) / deviation, torch.as_tensor(y, dtype=torch.int64))

    return Splits(train=examples(train_x, train_y), validation=examples(val_x, val_y), test=examples(test_x, test_y))


@dataclass(frozen=True)
class Digits:
    """The images as a data set that other networks can be put on."""

    def source(self, task: str, preparation: Preparation | None) -> Source:
        """Return the source of images (1, 8, 8), without preparation."""
        return Source(10, (1, 8, 8), digits_data)

    def download(self, folder: Path) -> None:
        """Do nothing: the images are part of scikit-learn."""


DIGITS = Digits()
