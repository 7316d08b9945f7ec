"""The `fashion-small` task: 10,000 images of Fashion-MNIST at 14x14 pixels, and a residual network with batch norm.

A small relative of `resnet56/fashion-mnist` that trains in about five seconds on one CPU core. Images are averaged over
blocks of 2x2 pixels. 6,000 of the training images train, 4,000 others validate, and the published 10,000 test images
test; training and validation images are drawn by class, with a fixed seed.

The recipe is tuned for relu by a grid of learning rates and epochs with three seeds
(`benchmarks/evidence/recipes.py`; its output is `benchmarks/results/2-core-x86_64-vm/recipes.json`).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import TensorDataset

from aquasurf_ray.tasks.data_sets.cifar import channel_statistics, standardised
from aquasurf_ray.tasks.data_sets.fashion_mnist import read_split
from aquasurf_ray.tasks.data_sets.held_out import held_out
from aquasurf_ray.tasks.networks.resnet56 import BasicBlock
from aquasurf_ray.tasks.recipe import Recipe
from aquasurf_ray.tasks.task import ActivationFactory, Splits, Task

NAME = "fashion-small"
N_TRAIN, N_VALIDATION = 6000, 4000
RECIPE = Recipe(epochs=8, batch_size=128, learning_rate=0.8, weight_decay=5e-4)


def fashion_small() -> Task:
    """Return the task: SGD, one cycle, batches of 128."""
    return Task(name=NAME, network=residual_network, data=fashion_small_data, recipe=RECIPE, time_limit=600.0)


def residual_network(activation: ActivationFactory) -> nn.Module:
    """Return the network: a convolution and three residual blocks, 12 to 48 channels wide; inputs (n, 1, 14, 14),
    logits (n, 10)."""
    network = nn.Sequential(
        nn.Conv2d(1, 12, 3, padding=1, bias=False),
        nn.BatchNorm2d(12),
        activation(),
        BasicBlock(12, 12, 1, activation),
        BasicBlock(12, 24, 2, activation),
        BasicBlock(24, 48, 2, activation),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(48, 10),
    )
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    return network


def fashion_small_data() -> Splits:
    """Return the splits as in-memory tensors: inputs (n, 1, 14, 14) float32, targets (n,) int64.

    Raises:
        TaskError: a file is missing or damaged.
    """
    images, labels = read_split("train", NAME)
    test_images, test_labels = read_split("t10k", NAME)
    # Both draws are by class: first the subset of the published images, then its validation part.
    _, chosen = held_out(labels, (N_TRAIN + N_VALIDATION) / len(labels))
    in_train, in_validation = (chosen[part] for part in held_out(labels[chosen], N_VALIDATION / len(chosen)))
    train, validation, test = (_halved(part) for part in (images[in_train], images[in_validation], test_images))
    mean, std = channel_statistics(train)
    return Splits(
        train=TensorDataset(standardised(train, mean, std), labels[in_train]),
        validation=TensorDataset(standardised(validation, mean, std), labels[in_validation]),
        test=TensorDataset(standardised(test, mean, std), test_labels),
    )


def _halved(images: Tensor) -> Tensor:
    """Halve images: (n, 1, 28, 28) uint8 -> (n, 1, 14, 14) uint8, each pixel the rounded mean of four."""
    # Bytes again, because `channel_statistics` counts the 256 values.
    return functional.avg_pool2d(images.float(), 2).round().to(torch.uint8)
