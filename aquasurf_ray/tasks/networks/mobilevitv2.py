"""MobileViTv2-0.5 of Mehta and Rastegari 2022 (arXiv 2206.02680): timm's `mobilevitv2_050`, and its recipes.

1,370,593 parameters at 1000 classes, 1,116,163 at 10. timm builds it with 25 activation modules; its nine attention
blocks call ReLU in their own code, so these are rewritten here: the separable self-attention of the paper's section 3.2
with any function in ReLU's place.

Recipe of the paper's section 4.1: AdamW, weight decay 0.05, learning rate 2e-3 after a warm-up of 20,000 steps, cosine
to 2e-4, 300 epochs of batches of 1024, label smoothing 0.1, an average of the weights with decay 0.9995, RandAugment,
MixUp, CutMix, random erasing. Left open there and chosen here: MixUp's alpha 0.2 and CutMix's 1.0, one of them in every
batch; two RandAugment operations of magnitude 9; erasing with probability 0.25; bicubic crops of 256 pixels, and pixels
in [0, 1] without standardisation, as timm has it. On Imagenette, with its 9,469 images, batches of 128 and 100 epochs
keep the number of steps useful (6,700), at a learning rate of 1e-3 and with a shorter memory of the weights.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from timm.models.mobilevit import LinearSelfAttention
from torch import Tensor, nn
from torch.nn import functional

from aquasurf_ray.tasks.data_sets import task_data
from aquasurf_ray.tasks.data_sets.preparation import Preparation
from aquasurf_ray.tasks.errors import TaskError
from aquasurf_ray.tasks.networks.timm_networks import timm_network
from aquasurf_ray.tasks.recipe import Recipe
from aquasurf_ray.tasks.replacement import ModelNetwork
from aquasurf_ray.tasks.task import Task

PREPARATION = Preparation(
    size=256,
    resize=288,
    interpolation="bicubic",
    mean=(0.0, 0.0, 0.0),
    std=(1.0, 1.0, 1.0),
    rand_augment=(2, 9),
    erasing=0.25,
)
IMAGENET = Recipe(
    epochs=300,
    batch_size=1024,
    learning_rate=2e-3,
    optimizer="adamw",
    weight_decay=0.05,
    schedule="cosine",
    warmup_fraction=0.056,  # 20,000 of 360,600 steps
    final_fraction=0.1,  # 2e-4
    label_smoothing=0.1,
    mixup=0.2,
    cutmix=1.0,
    ema_decay=0.9995,
    precision="auto",
    channels_last=True,
)
IMAGENETTE = replace(IMAGENET, epochs=100, batch_size=128, learning_rate=1e-3, ema_decay=0.998)


def on_imagenet() -> Task:
    """Return the task `mobilevitv2-050/imagenet`."""
    return _task("imagenet", IMAGENET)


def on_imagenette() -> Task:
    """Return the task `mobilevitv2-050/imagenette`."""
    return _task("imagenette", IMAGENETTE)


def mobilevitv2_050(n_classes: int = 1000, size: int = 256) -> ModelNetwork:
    """Return the network: inputs (n, 3, size, size), logits (n, n_classes)."""
    return timm_network("mobilevitv2_050", n_classes=n_classes, shape=(3, size, size))


def _task(data_set: str, recipe: Recipe) -> Task:
    name = f"mobilevitv2-050/{data_set}"
    data = task_data(data_set, name, PREPARATION)
    return data.task(name, mobilevitv2_050(data.n_classes), recipe)


class SearchedSelfAttention(LinearSelfAttention):
    """timm's attention block with a separate activation module instead of ReLU.

    Inputs and outputs are (n, channels, pixels of a patch, patches). One query a pixel weighs the keys over all
    patches, and the sum, one vector a pixel, scales the activated values.
    """

    activation: nn.Module

    def _forward_self_attn(self, x: Tensor) -> Tensor:
        query, key, value = self.qkv_proj(x).split([1, self.embed_dim, self.embed_dim], dim=1)
        weights = self.attn_drop(functional.softmax(query, dim=-1))
        context = (key * weights).sum(dim=-1, keepdim=True)
        out: Tensor = self.out_drop(self.out_proj(self.activation(value) * context))
        return out

    def _forward_cross_attn(self, x: Tensor, x_prev: Tensor | None = None) -> Tensor:
        raise NotImplementedError("cross-attention of mobilevitv2 is not rewritten for a searched activation")


def rewrite_attention(block: LinearSelfAttention, activation: nn.Module) -> None:
    """Replace the code of timm's block in place, after a test that both compute the same with ReLU.

    Raises:
        TaskError: they do not, because the installed timm has another block than the one rewritten here.
    """
    x = torch.linspace(-2.0, 2.0, 12 * block.embed_dim).reshape(1, block.embed_dim, 3, 4).to(block.out_proj.weight)
    mode = block.training
    with torch.no_grad():
        block.eval()  # dropout would make the two differ
        expected = block(x)
        block.__class__ = SearchedSelfAttention
        block.activation = nn.ReLU()
        got = block(x)
    if not torch.allclose(got, expected, rtol=1e-4, atol=1e-5):
        raise TaskError("timm's LinearSelfAttention is not the one that mobilevitv2.py expects; use timm 1.0.31")
    block.activation = activation
    block.train(mode)
