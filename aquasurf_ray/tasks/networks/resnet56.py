"""ResNet-56 of He et al. 2016 (arXiv 1512.03385, section 4.2), for 32x32 images.

6n + 2 layers with n = 9: three stages of nine blocks, 16, 32 and 64 channels wide, batch norm after every convolution,
and parameter-free shortcuts (option A: stride 2 by subsampling, new channels filled with zeros). 853,018 parameters at
10 classes.

Recipe of the paper: SGD, momentum 0.9, weight decay 1e-4, learning rate 0.1 divided by 10 at 32,000 and 48,000 of
64,000 steps in batches of 128, which is 182 epochs of the 45,000 images that are left to train on; padding by 4 pixels,
random crop, flip. Chosen here: momentum in Nesterov's form, and no warm-up, as the paper has one for 110 layers only.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import nn
from torch.nn import functional

from aquasurf_ray.tasks.data_sets import task_data
from aquasurf_ray.tasks.recipe import Recipe
from aquasurf_ray.tasks.task import ActivationFactory, Task

RECIPE = Recipe(
    epochs=182,
    batch_size=128,
    learning_rate=0.1,
    weight_decay=1e-4,
    schedule="step",
    warmup_fraction=0.0,
    milestones=(0.5, 0.75),  # 32,000 and 48,000 of 64,000 steps
    precision="auto",
    channels_last=True,
)


def on_cifar10() -> Task:
    """Return the task `resnet56/cifar10`."""
    return _task("cifar10")


def on_cifar100() -> Task:
    """Return the task `resnet56/cifar100`."""
    return _task("cifar100")


def on_fashion_mnist() -> Task:
    """Return the task `resnet56/fashion-mnist`."""
    return _task("fashion-mnist")


class BasicBlock(nn.Module):
    """Two 3x3 convolutions parallel to a shortcut, with one activation between them and one after the sum."""

    def __init__(self, n_in: int, n_out: int, stride: int, activation: ActivationFactory) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(n_in, n_out, 3, stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(n_out)
        self.activation1 = activation()
        self.conv2 = nn.Conv2d(n_out, n_out, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(n_out)
        self.activation2 = activation()
        self.stride = stride
        self.new_channels = n_out - n_in

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out = self.norm2(self.conv2(self.activation1(self.norm1(self.conv1(x)))))
        shortcut = x[:, :, :: self.stride, :: self.stride]
        # Option A has no parameters: channels of zeros on both sides.
        half = self.new_channels // 2
        shortcut = functional.pad(shortcut, (0, 0, 0, 0, half, self.new_channels - half))
        result: torch.Tensor = self.activation2(out + shortcut)
        return result


def resnet56(
    activation: ActivationFactory, n_classes: int = 10, blocks_a_stage: int = 9, n_channels: int = 3
) -> nn.Module:
    """Return the network: inputs (n, n_channels, 32, 32), logits (n, n_classes). He initialisation (fan-out)."""
    layers: list[nn.Module] = [nn.Conv2d(n_channels, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), activation()]
    n_in = 16
    for n_out in (16, 32, 64):
        for block in range(blocks_a_stage):
            stride = 2 if n_out > n_in and block == 0 else 1
            layers.append(BasicBlock(n_in, n_out, stride, activation))
            n_in = n_out
    network = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, n_classes))
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    return network


def _task(data_set: str) -> Task:
    name = f"resnet56/{data_set}"
    data = task_data(data_set, name)
    return data.task(name, partial(resnet56, n_classes=data.n_classes, n_channels=data.shape[0]), RECIPE)
