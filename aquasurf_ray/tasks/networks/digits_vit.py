"""The `digits-vit` task: a vision transformer of one block on the images of `digits`.

The network follows the vision transformer (Dosovitskiy et al. 2021, arXiv:2010.11929) with its later simplification
(Beyer et al. 2022, arXiv:2205.01580): patches of 2x4 pixels, a learned vector added at each of the eight positions, a
block with a layer norm before attention and before the feed-forward network, and a linear head on the mean of the
positions. The activation is in the feed-forward network. With one block and few positions, a training takes two to
three seconds on one CPU core.

The recipe is tuned for relu by a grid of learning rates and epochs with three seeds
(`benchmarks/evidence/recipes.py`; its output is `benchmarks/results/2-core-x86_64-vm/recipes.json`).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from aquasurf_ray.tasks.networks.digits import digits_data
from aquasurf_ray.tasks.networks.transformer import Block
from aquasurf_ray.tasks.recipe import Recipe
from aquasurf_ray.tasks.task import ActivationFactory, Task

PATCH, POSITIONS, WIDTH, HEADS = (2, 4), 8, 32, 4
RECIPE = Recipe(
    epochs=20,
    batch_size=32,
    learning_rate=0.02,
    optimizer="adamw",
    weight_decay=0.1,
    schedule="cosine",
    warmup_fraction=0.1,
    clip_norm=1.0,
)


def digits_vit() -> Task:
    """Return the task: AdamW with warm-up and cosine, batches of 32."""
    return Task(name="digits-vit", network=VisionTransformer, data=digits_data, recipe=RECIPE, time_limit=300.0)


class VisionTransformer(nn.Module):
    """The network: inputs (n, 1, 8, 8), logits (n, 10)."""

    def __init__(self, activation: ActivationFactory) -> None:
        super().__init__()
        self.patches = nn.Conv2d(1, WIDTH, PATCH, stride=PATCH)
        self.positions = nn.Embedding(POSITIONS, WIDTH)
        nn.init.normal_(self.positions.weight, std=0.02)  # as in GPT-2 (Radford et al. 2019)
        self.block = Block(activation, WIDTH, HEADS, causal=False)
        self.norm, self.head = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, 10)

    def forward(self, images: Tensor) -> Tensor:
        x = self.patches(images).flatten(2).transpose(1, 2)  # (n, 8, width)
        x = x + self.positions(torch.arange(POSITIONS, device=x.device))
        logits: Tensor = self.head(self.norm(self.block(x)).mean(1))
        return logits
