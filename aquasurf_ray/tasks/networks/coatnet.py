"""CoAtNet of Dai et al. 2021 (arXiv 2106.04803): timm's `coatnet_0_224`, the paper's CoAtNet-0, and its recipe.

25,036,820 parameters at 1000 classes. `coatnet_nano_rw_224` (15,141,244) is a smaller relative for short runs. Their
activations sit in norm layers, squeeze-and-excitation, feed-forward blocks and, in CoAtNet-0, in the head; the gates of
squeeze-and-excitation stay sigmoids.

Recipe of the paper's table 9 for ImageNet-1k: AdamW, weight decay 0.05, learning rate 1e-3 for batches of 4096 after a
warm-up of 10,000 steps, cosine, 300 epochs, RandAugment of two operations of magnitude 15, MixUp 0.8, label smoothing
0.1, stochastic depth 0.2, gradients clipped at norm 1. Chosen here for Imagenette's 9,469 images: batches of 128 with
the learning rate scaled by the root of the batch, as suits Adam (2e-4), 100 epochs, warm-up in the first tenth.
"""

from __future__ import annotations

from aquasurf_ray.tasks.data_sets import task_data
from aquasurf_ray.tasks.data_sets.preparation import Preparation
from aquasurf_ray.tasks.networks.timm_networks import timm_network
from aquasurf_ray.tasks.recipe import Recipe
from aquasurf_ray.tasks.replacement import ModelNetwork
from aquasurf_ray.tasks.task import Task

# timm's mean and deviation, and its centre crop of 95% of the shorter side.
PREPARATION = Preparation(
    size=224, resize=236, interpolation="bicubic", mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5), rand_augment=(2, 15)
)
RECIPE = Recipe(
    epochs=100,
    batch_size=128,
    learning_rate=2e-4,
    optimizer="adamw",
    weight_decay=0.05,
    schedule="cosine",
    warmup_fraction=0.1,
    label_smoothing=0.1,
    mixup=0.8,
    clip_norm=1.0,
    precision="auto",
    channels_last=True,
)


def on_imagenette() -> Task:
    """Return the task `coatnet/imagenette`."""
    return _task("coatnet/imagenette", "coatnet_0_224")


def nano_on_imagenette() -> Task:
    """Return the task `coatnet-nano/imagenette`."""
    return _task("coatnet-nano/imagenette", "coatnet_nano_rw_224")


def coatnet(variant: str = "coatnet_0_224", n_classes: int = 1000, size: int = 224) -> ModelNetwork:
    """Return the network: inputs (n, 3, size, size), size a multiple of 32; logits (n, n_classes)."""
    return timm_network(variant, n_classes=n_classes, shape=(3, size, size), drop_path_rate=0.2)


def _task(name: str, variant: str) -> Task:
    data = task_data("imagenette", name, PREPARATION)
    return data.task(name, coatnet(variant, data.n_classes), RECIPE)
