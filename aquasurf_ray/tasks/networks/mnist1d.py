"""The `mnist1d` task: MNIST-1D, and a small convolutional network with batch norm.

MNIST-1D (Greydanus and Kobak 2020, arXiv 2011.14439) draws signals of 40 samples from ten templates, one for each
digit, and pads, shifts, scales, shears and blurs them. A linear model reaches about 0.3 and a convolutional network
0.95, so that architectures differ visibly at a tenth of MNIST's cost. The package `mnist1d` (Apache-2.0) generates the
data on every machine from its own seed, so nothing is downloaded.

8,000 signals are generated with the package's default settings: 4,000 to train on, as in the paper, 2,000 for
validation and 2,000 for test. Larger validation and test splits than the paper's 1,000 separate functions better.

The recipe is tuned for ReLU, so that functions are compared with ReLU at its best: AdamW at the
learning rate and number of epochs with ReLU's best mean validation accuracy over a grid of both with three seeds
(`benchmarks/evidence/recipes.py`; its output is `benchmarks/results/2-core-x86_64-vm/recipes.json`).
"""

from __future__ import annotations

import random

import numpy as np
import torch
from torch import nn
from torch.utils.data import TensorDataset

from aquasurf_ray.tasks.data_sets.cached_splits import cached
from aquasurf_ray.tasks.recipe import Recipe
from aquasurf_ray.tasks.task import ActivationFactory, Splits, Task

SIZES = (4000, 2000, 2000)
RECIPE = Recipe(
    epochs=20,
    batch_size=100,
    learning_rate=0.04,
    optimizer="adamw",
    weight_decay=0.01,
    schedule="one-cycle",
)


def mnist1d() -> Task:
    """Return the task: AdamW, 20 epochs of batches of 100."""
    return Task(name="mnist1d", network=mnist1d_network, data=mnist1d_data, recipe=RECIPE, time_limit=300.0)


def mnist1d_network(activation: ActivationFactory) -> nn.Module:
    """Return the network: three convolutions of stride 2 with batch norm, and a dense layer; inputs (n, 1, 40), logits
    (n, 10)."""
    layers: list[nn.Module] = []
    for n_in, n_out, kernel in ((1, 24, 5), (24, 24, 3), (24, 24, 3)):
        layers += [
            nn.Conv1d(n_in, n_out, kernel, stride=2, padding=kernel // 2, bias=False),
            nn.BatchNorm1d(n_out),
            activation(),
        ]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(5 * 24, 10))  # 40 samples, halved three times


@cached("mnist1d", "scipy")
def mnist1d_data() -> Splits:
    """Return the splits as in-memory tensors: inputs (n, 1, 40) float32, targets (n,) int64."""
    from mnist1d.data import get_dataset_args, make_dataset

    arguments = get_dataset_args()
    arguments.num_samples, arguments.train_split = sum(SIZES), SIZES[0] / sum(SIZES)
    python, numpy = random.getstate(), np.random.get_state()
    try:
        data = make_dataset(arguments)
    finally:  # the package seeds the global generators
        random.setstate(python)
        np.random.set_state(numpy)

    # The package makes two parts; the second one becomes validation and test.
    inputs = torch.from_numpy(np.concatenate([data["x"], data["x_test"]])).float().unsqueeze(1)
    targets = torch.from_numpy(np.concatenate([data["y"], data["y_test"]])).long()
    parts = zip(torch.split(inputs, list(SIZES)), torch.split(targets, list(SIZES)), strict=True)
    train, validation, test = (TensorDataset(*part) for part in parts)
    return Splits(train=train, validation=validation, test=test)
