"""The `digits-mlp` task: the handwritten digits as a table, and a deep multilayer perceptron.

Every pixel is a column, standardised by itself; the positions of pixels are not used. Whether the six hidden layers
without normalisation train depends on the activation function. A training takes a third of a second on one CPU core.
The splits are stratified and seeded: 600 training, 800 validation and 397 test rows. The validation split is large, so
that scores separate functions.

The recipe is tuned for ReLU by a grid of learning rates and epochs with three seeds
(`benchmarks/evidence/recipes.py`); He initialisation makes no difference with it.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import nn
from torch.utils.data import TensorDataset

from aquasurf_ray.tasks.data_sets.cached_splits import cached
from aquasurf_ray.tasks.recipe import Recipe
from aquasurf_ray.tasks.task import ActivationFactory, Splits, Task

SPLIT_SEED = 0
WIDTHS = (64, 48, 48, 48, 48, 48, 48)  # 64 columns, then six hidden layers
RECIPE = Recipe(epochs=20, batch_size=32, learning_rate=0.01, optimizer="adamw", weight_decay=0.01)


def digits_mlp() -> Task:
    """Return the task: AdamW, 20 epochs of batches of 32."""
    return Task(name="digits-mlp", network=perceptron, data=digits_table, recipe=RECIPE, time_limit=300.0)


def perceptron(activation: ActivationFactory) -> nn.Module:
    """Return the network: six hidden layers of 48 units; inputs (n, 64), logits (n, 10)."""
    hidden: list[nn.Module] = []
    for n_in, n_out in pairwise(WIDTHS):
        hidden += [nn.Linear(n_in, n_out), activation()]
    return nn.Sequential(*hidden, nn.Linear(WIDTHS[-1], 10))


@cached("scikit-learn")
def digits_table() -> Splits:
    """Return the splits as in-memory tensors: inputs (n, 64) float32, targets (n,) int64."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split
    from sklearn.preprocessing import StandardScaler

    rows, labels = load_digits(return_X_y=True)
    train_x, rest_x, train_y, rest_y = train_test_split(
        rows, labels, train_size=600, random_state=SPLIT_SEED, stratify=labels
    )
    val_x, test_x, val_y, test_y = train_test_split(
        rest_x, rest_y, train_size=800, random_state=SPLIT_SEED, stratify=rest_y
    )
    scaler = StandardScaler().fit(train_x)

    def examples(x: object, y: object) -> TensorDataset:
        inputs = torch.as_tensor(scaler.transform(x), dtype=torch.float32)
        return TensorDataset(inputs, torch.as_tensor(y, dtype=torch.int64))

    return Splits(train=examples(train_x, train_y), validation=examples(val_x, val_y), test=examples(test_x, test_y))
