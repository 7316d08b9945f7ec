"""Batches depend on seed and epoch alone, whoever makes them."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

from aquasurf_ray.activations import Activation
from aquasurf_ray.tasks import Recipe, Splits, Task, TaskError
from aquasurf_ray.workers.engine.batches import Share, batch_source
from aquasurf_ray.workers.engine.feed import TrainingFeed
from aquasurf_ray.workers.training import train

CPU = torch.device("cpu")
TANH = Activation("tanh(x)")
NUMBERS = TensorDataset(torch.arange(23.0)[:, None], torch.arange(23))


class Listed(Dataset):
    """The same examples one by one, with noise from all three global generators if asked."""

    def __init__(self, noise=False):
        self.noise = noise

    def __len__(self):
        return 23

    def __getitem__(self, index):
        value = torch.tensor([float(index)])
        if self.noise:
            value = value + torch.rand(1) + np.random.rand() + random.random()
        return value.float(), index


def passed(source, seed=0, epoch=0):
    """One epoch as lists of (inputs, targets)."""
    order = torch.Generator().manual_seed(seed)
    return [(b.inputs.flatten().tolist(), b.targets.tolist()) for b in source.shuffled(order, epoch)]


def global_states():
    return torch.random.get_rng_state().tolist(), random.getstate(), np.random.get_state()[1].tolist()


def test_data_sets_read_one_by_one_give_the_batches_of_tensors():
    tensors = passed(batch_source(NUMBERS, 5, CPU))
    assert [len(targets) for _, targets in tensors] == [5, 5, 5, 5, 3]
    assert sorted(t for _, targets in tensors for t in targets) == list(range(23))
    assert passed(batch_source(Listed(), 5, CPU)) == tensors
    assert passed(batch_source(Listed(), 5, CPU), seed=1) != tensors


@pytest.mark.parametrize("examples", [NUMBERS, Listed(noise=True)], ids=["tensors", "listed"])
def test_the_first_batch_of_an_epoch_can_be_had_alone(examples):
    source = batch_source(examples, 5, CPU)
    first = source.first(torch.Generator().manual_seed(3), 2)
    assert (first.inputs.flatten().tolist(), first.targets.tolist()) == passed(source, 3, 2)[0]


@pytest.mark.parametrize("examples", [NUMBERS, Listed()], ids=["tensors", "listed"])
def test_a_last_batch_of_a_single_example_is_left_out_of_training_alone(examples):
    source = batch_source(examples, 11, CPU)
    assert [len(targets) for _, targets in passed(source)] == [11, 11]
    assert source.n_batches == 2
    assert [len(batch.targets) for batch in source.in_order()] == [11, 11, 1]
    assert len(passed(batch_source(examples, 1, CPU))) == 23


def test_random_transformations_do_not_depend_on_the_number_of_processes():
    before = global_states()
    here, elsewhere = (passed(batch_source(Listed(noise=True), 5, CPU, loader_workers=n)) for n in (0, 2))
    assert here == elsewhere
    assert here == passed(batch_source(Listed(noise=True), 5, CPU))
    assert here != passed(batch_source(Listed(noise=True), 5, CPU), epoch=1)
    assert global_states() == before


@pytest.mark.parametrize("own_generator", [True, False])
def test_a_custom_loader_is_used_as_it_is_in_an_order_of_seed_and_epoch(own_generator):
    generator = torch.Generator().manual_seed(77) if own_generator else None
    loader = DataLoader(NUMBERS, batch_size=4, shuffle=True, drop_last=True, generator=generator)
    source = batch_source(loader, 999, CPU)
    assert source.n_batches == 5
    state = generator.get_state() if own_generator else None

    def one_pass(epoch):
        torch.manual_seed(epoch)
        return passed(source, epoch=epoch)

    first = one_pass(3)
    assert [len(targets) for _, targets in first] == [4] * 5
    assert one_pass(3) == first
    assert one_pass(4) != first
    assert not own_generator or torch.equal(generator.get_state(), state)


def network(activation):
    return nn.Sequential(nn.Linear(1, 8), activation(), nn.Dropout(0.2), nn.Linear(8, 23))


def task_on(train_split):
    data = Splits(train_split, NUMBERS, DataLoader(NUMBERS, batch_size=10))
    return Task("numbers", network, lambda: data, Recipe(epochs=3, batch_size=6, learning_rate=0.01))


@pytest.mark.parametrize("own_generator", [True, False])
def test_trainings_on_a_loader_repeat_and_leave_the_generators_alone(own_generator):
    generator = torch.Generator() if own_generator else None
    task = task_on(DataLoader(NUMBERS, batch_size=6, shuffle=True, generator=generator))
    before = global_states()
    first, again, other = (train(task, TANH, seed=seed) for seed in (0, 0, 1))
    assert global_states() == before
    curves = [[e.train_loss for e in r.epochs] for r in (first, again, other)]
    assert curves[0] == curves[1] != curves[2]
    assert len({e.train_loss for e in first.epochs}) == 3


def test_the_running_mean_counts_the_examples_that_the_loader_gave():
    dropped = DataLoader(NUMBERS, batch_size=20, drop_last=True)
    result = train(replace(task_on(dropped), recipe=Recipe(epochs=1, learning_rate=1e-9)), TANH)
    assert result.train_accuracy * 20 == pytest.approx(round(result.train_accuracy * 20))
    assert result.examples_per_second * result.seconds >= 20


def test_a_loader_without_a_length_is_refused():
    class Stream(IterableDataset):
        def __iter__(self):
            yield from NUMBERS

    with pytest.raises(TaskError, match="a DataLoader must have a length"):
        batch_source(DataLoader(Stream(), batch_size=4), 4, CPU)


@pytest.mark.parametrize(
    "examples", [NUMBERS, Listed(), DataLoader(NUMBERS, batch_size=7)], ids=["tensors", "listed", "loader"]
)
def test_shares_of_each_batch_together_are_the_batch(examples):
    whole = list(batch_source(examples, 7, CPU).shuffled(torch.Generator().manual_seed(0), 0))
    shares = [batch_source(examples, 7, CPU, share=Share(i, 3)) for i in range(3)]
    parts = [list(source.shuffled(torch.Generator().manual_seed(0), 0)) for source in shares]
    for batch, *mine in zip(whole, *parts, strict=True):
        assert sum(part.n for part in mine) == pytest.approx(len(batch.targets))
        assert {part.n_together for part in mine} == {len(batch.targets)}
        if len(batch.targets) >= 6:
            assert torch.cat([part.inputs for part in mine]).equal(batch.inputs)
        else:
            assert all(part.inputs.equal(batch.inputs) for part in mine)


def test_processes_draw_masks_of_their_own_and_agree_on_the_order_of_a_users_loader():
    recipe = Recipe(epochs=1, batch_size=5)
    task = Task("own", nn.Identity, lambda: Splits(NUMBERS, NUMBERS, NUMBERS), recipe)
    feeds = [TrainingFeed(task, task.splits(), CPU, seed=3, share=Share(i, 2)) for i in (0, 1)]
    masks = [torch.rand(8, generator=torch.Generator().manual_seed(feed.epoch_seed(1))).tolist() for feed in feeds]
    assert masks[0] != masks[1]
    orders = []
    for seed in (1, 2):  # the global generators of two processes
        torch.manual_seed(seed)
        orders.append(passed(batch_source(DataLoader(NUMBERS, batch_size=5, shuffle=True), 5, CPU)))
    assert orders[0] == orders[1]
