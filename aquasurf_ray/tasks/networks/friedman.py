"""The `friedman` task: regression on a table, with a multilayer perceptron with layer norm.

Friedman's first problem (Friedman 1991, "Multivariate adaptive regression splines", Annals of Statistics 19, section
4.3), as scikit-learn generates it: ten columns from U(0, 1), of which five count,

    y = 10 sin(pi x1 x2) + 20 (x3 - 1/2)^2 + 10 x4 + 5 x5 + noise      noise ~ N(0, 1)

so the best possible error is 1 before scaling. 2,000 rows train, 2,000 validate and 2,000 test. Columns and target are
standardised by the training rows; the metric is the root mean squared error in deviations of the target, about 0.2 at
best.

The recipe is tuned for relu by a grid of learning rates and epochs with three seeds
(`benchmarks/evidence/recipes.py`; its output is `benchmarks/results/2-core-x86_64-vm/recipes.json`).
"""

from __future__ import annotations

import torch
from torch import nn
from torch.utils.data import TensorDataset

from aquasurf_ray.tasks.data_sets.cached_splits import cached
from aquasurf_ray.tasks.objective import regression
from aquasurf_ray.tasks.recipe import Recipe
from aquasurf_ray.tasks.task import ActivationFactory, Splits, Task

SIZES = (2000, 2000, 2000)
DATA_SEED = 0
RECIPE = Recipe(epochs=20, batch_size=64, learning_rate=0.2, optimizer="adamw", weight_decay=0.01)


def friedman() -> Task:
    """Return the task: AdamW, one cycle, batches of 64."""
    return Task(
        name="friedman",
        network=normed_perceptron,
        data=friedman_data,
        recipe=RECIPE,
        objective=regression(),
        time_limit=300.0,
    )


def normed_perceptron(activation: ActivationFactory) -> nn.Module:
    """Return the network: three hidden layers of 48 units, each with layer norm before its activation; inputs (n, 10),
    outputs (n, 1)."""
    layers: list[nn.Module] = []
    for n_in in (10, 48, 48):
        layers += [nn.Linear(n_in, 48), nn.LayerNorm(48), activation()]
    return nn.Sequential(*layers, nn.Linear(48, 1))


@cached("scikit-learn")
def friedman_data() -> Splits:
    """Return the splits as in-memory tensors: inputs (n, 10) float32, targets (n, 1) float32."""
    from sklearn.datasets import make_friedman1

    columns, target = make_friedman1(sum(SIZES), n_features=10, noise=1.0, random_state=DATA_SEED)
    inputs, targets = torch.from_numpy(columns), torch.from_numpy(target)[:, None]
    # By the training rows alone, which come first.
    standardised = [(part - part[: SIZES[0]].mean(0)) / part[: SIZES[0]].std(0) for part in (inputs, targets)]
    parts = zip(*(torch.split(part.float(), list(SIZES)) for part in standardised), strict=True)
    train, validation, test = (TensorDataset(*part) for part in parts)
    return Splits(train=train, validation=validation, test=test)
