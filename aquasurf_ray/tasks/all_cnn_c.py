"""All-CNN-C of Springenberg et al. 2015 (arXiv 1412.6806), for 32x32 colour images.

Nine convolutions and nothing else: no pooling but the last average, no batch norm, the activation also after the last
convolution. 1,369,738 parameters at 10 classes. Dropout is 0.2 on the input and 0.5 after each strided convolution.
"""

from __future__ import annotations

from torch import nn

from aquasurf_ray.tasks.task import ActivationFactory


def all_cnn_c(activation: ActivationFactory, n_classes: int = 10, width: int = 96) -> nn.Module:
    """The network for inputs of shape (n, 3, 32, 32); logits of shape (n, n_classes). `width` is 96 in the paper."""
    w, v = width, 2 * width
    convolutions = [
        (3, w, 3, 1),
        (w, w, 3, 1),
        (w, w, 3, 2),
        (w, v, 3, 1),
        (v, v, 3, 1),
        (v, v, 3, 2),
        (v, v, 3, 1),
        (v, v, 1, 1),
        (v, n_classes, 1, 1),
    ]
    layers: list[nn.Module] = [nn.Dropout(0.2)]
    for n_in, n_out, kernel, stride in convolutions:
        layers += [nn.Conv2d(n_in, n_out, kernel, stride, padding=kernel // 2), activation()]
        if stride == 2:
            layers.append(nn.Dropout(0.5))
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())
