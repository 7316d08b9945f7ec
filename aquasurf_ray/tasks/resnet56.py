"""ResNet-56 of He et al. 2016 (arXiv 1512.03385, section 4.2), for 32x32 colour images.

6n + 2 layers with n = 9: three stages of nine blocks, 16, 32 and 64 channels wide, batch norm after every convolution,
and parameter-free shortcuts (option A: stride 2 by subsampling, new channels filled with zeros). 853,018 parameters at
10 classes.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from aquasurf_ray.tasks.task import ActivationFactory


class BasicBlock(nn.Module):
    """Two 3x3 convolutions beside a shortcut, with one activation between them and one after the sum."""

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
        half = self.new_channels // 2
        shortcut = functional.pad(shortcut, (0, 0, 0, 0, half, self.new_channels - half))
        result: torch.Tensor = self.activation2(out + shortcut)
        return result


def resnet56(activation: ActivationFactory, n_classes: int = 10, blocks_a_stage: int = 9) -> nn.Module:
    """The network for inputs of shape (n, 3, 32, 32); logits of shape (n, n_classes). He initialisation (fan-out)."""
    layers: list[nn.Module] = [nn.Conv2d(3, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), activation()]
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
