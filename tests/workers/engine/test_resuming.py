"""A training resumes exactly, whatever its loaders, samplers, data sets and collate functions hold."""

from __future__ import annotations

import random
from dataclasses import asdict

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, Sampler, TensorDataset, default_collate

from aquasurf_ray.activations import Activation
from aquasurf_ray.tasks import Recipe, Splits, Task
from aquasurf_ray.workers.engine.checkpoints import CheckpointFolder
from aquasurf_ray.workers.training import train

TANH = Activation("tanh(x)")


class Interrupted(Exception):
    pass


def stop_in_the_third(epoch):
    if epoch.epoch == 3:
        raise Interrupted


def tensors(seed):
    x = torch.randn(48, 6, generator=torch.Generator().manual_seed(seed))
    return TensorDataset(x, x[:, :3].argmax(1))


class Drawing(Dataset):
    """Draws noise for each item from a generator of its own."""

    def __init__(self, seed):
        self.examples, self.draws = tensors(seed), np.random.default_rng(seed)

    def __len__(self):
        return len(self.examples)

    def __getitem__(self, index):
        x, y = self.examples[index]
        return x + torch.from_numpy(self.draws.normal(size=6)).float(), y


class GlobalNoise(Drawing):
    def __getitem__(self, index):
        x, y = self.examples[index]
        return x + torch.randn(6), y


class Collated:
    def __init__(self):
        self.draws = torch.Generator().manual_seed(0)

    def __call__(self, items):
        x, y = default_collate(items)
        return x + torch.randn(x.shape, generator=self.draws), y


class Shuffled(Sampler):
    """Shuffles its own list."""

    def __init__(self):
        self.order = list(range(48))

    def __iter__(self):
        random.shuffle(self.order)
        return iter(self.order)

    def __len__(self):
        return 48


class Curriculum(Shuffled):
    """Gives more examples in each pass, and counts them in a list."""

    def __init__(self):
        self.passes = []

    def __iter__(self):
        self.passes.append(0)
        return iter(random.sample(range(48), 16 * min(3, len(self.passes))))


def layers(activation):
    return nn.Sequential(nn.Linear(6, 8), activation(), nn.Linear(8, 3))


def loaders(train):
    return lambda: Splits(train(), DataLoader(tensors(1), batch_size=16), tensors(2))


DRAWING = {
    "processes that outlive an epoch": loaders(
        lambda: DataLoader(GlobalNoise(0), 8, shuffle=True, num_workers=1, persistent_workers=True)
    ),
    "sampler with a list": loaders(lambda: DataLoader(tensors(0), 8, sampler=Shuffled())),
    "sampler that counts in a list": loaders(lambda: DataLoader(tensors(0), 8, sampler=Curriculum())),
    "data set with a generator": lambda: Splits(Drawing(0), Drawing(1), Drawing(2)),
    "loader of such a data set": loaders(lambda: DataLoader(Drawing(0), 8, shuffle=True)),
    "collate_fn with a generator": loaders(lambda: DataLoader(tensors(0), 8, shuffle=True, collate_fn=Collated())),
}


@pytest.mark.parametrize("data", DRAWING)
@pytest.mark.slow
def test_what_loaders_and_data_sets_hold_does_not_keep_a_training_from_resuming_exactly(tmp_path, data):
    """The resumed part begins with loaders of its own, as in another process."""

    def given():
        return Task("drawn", layers, DRAWING[data], Recipe(epochs=4, batch_size=8, learning_rate=0.05))

    whole = train(given(), TANH, seed=2)
    folder = CheckpointFolder(str(tmp_path), {"seed": 2})
    with pytest.raises(Interrupted):
        train(given(), TANH, seed=2, checkpoints=folder, checkpoint_interval=0.0, on_epoch=stop_in_the_third)
    resumed = train(given(), TANH, seed=2, checkpoints=folder)
    curves = [[asdict(epoch) | {"seconds": 0} for epoch in result.epochs] for result in (resumed, whole)]
    assert curves[0] == curves[1]
    assert (resumed.test_loss, resumed.score) == (whole.test_loss, whole.score)
    assert len({epoch.train_loss for epoch in whole.epochs}) == 4
