"""All-CNN-C of Springenberg et al. 2015 (arXiv 1412.6806), for 32x32 images.

Nine convolutions and nothing else: no pooling but the last average, no batch norm, the activation also after the last
convolution. 1,369,738 parameters at 10 classes. Dropout is 0.2 on the input and 0.5 after each strided convolution.

Recipe: the paper trains for 350 epochs with a step schedule and one of four learning rates for each network. To rank
functions a short recipe is enough. It has 50 epochs of one cycle up to a learning rate of 0.05 in batches of
128, momentum 0.9, and the paper's weight decay of 1e-3. Images are standardised instead of whitened, flipped, and
shifted by up to 5 pixels as in the paper.

The paper does not name its initial weights, and without normalisation they decide whether anything is learned. In 450
steps at width 32 on the digits' images scaled to 16x16, ReLU reached 76% with He's (He et al. 2015, arXiv 1502.01852)
and stayed at chance with PyTorch's own, swish reached 99% with He's and stayed at chance with Glorot's. So He's are
used for all functions.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from torch import nn

from aquasurf_ray.tasks.data_sets import task_data
from aquasurf_ray.tasks.data_sets.augmentation import flip_and_shift
from aquasurf_ray.tasks.recipe import Recipe
from aquasurf_ray.tasks.task import ActivationFactory, Task

RECIPE = Recipe(epochs=50, batch_size=128, learning_rate=0.05, weight_decay=1e-3, precision="auto", channels_last=True)
SHIFT = 5  # pixels, as in the paper


def on_cifar10() -> Task:
    """Return the task `all-cnn-c/cifar10`."""
    return _task("cifar10")


def on_cifar100() -> Task:
    """Return the task `all-cnn-c/cifar100`."""
    return _task("cifar100")


def on_fashion_mnist() -> Task:
    """Return the task `all-cnn-c/fashion-mnist`."""
    return _task("fashion-mnist")


def all_cnn_c(activation: ActivationFactory, n_classes: int = 10, width: int = 96, n_channels: int = 3) -> nn.Module:
    """Return the network: inputs (n, n_channels, 32, 32), logits (n, n_classes). He initialisation (fan-in).

    `width` is 96 in the paper, and `n_channels` 3.
    """
    w, v = width, 2 * width
    convolutions = [  # channels in, channels out, kernel, stride
        (n_channels, w, 3, 1),
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
    network = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())
    for module in network.modules():
        if isinstance(module, nn.Conv2d) and module.bias is not None:
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            nn.init.zeros_(module.bias)
    return network


def _task(data_set: str) -> Task:
    name = f"all-cnn-c/{data_set}"
    data = task_data(data_set, name)
    network = partial(all_cnn_c, n_classes=data.n_classes, n_channels=data.shape[0])
    return replace(data.task(name, network, RECIPE), augment=partial(flip_and_shift, pixels=SHIFT))
