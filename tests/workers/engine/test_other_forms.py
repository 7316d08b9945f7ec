"""Inputs and outputs of other forms, and samplers of the user's, hold through a whole training as tensors do."""

from __future__ import annotations

import random
from collections import OrderedDict
from contextlib import suppress
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, Sampler, SubsetRandomSampler, TensorDataset, WeightedRandomSampler

from aquasurf_ray.activations import Activation
from aquasurf_ray.tasks import Recipe, Splits, Task, TaskError
from aquasurf_ray.workers.cost import measure_cost
from aquasurf_ray.workers.engine.checkpoints import CheckpointFolder
from aquasurf_ray.workers.engine.fast_form import fast_form
from aquasurf_ray.workers.engine.feed import TrainingFeed
from aquasurf_ray.workers.engine.health import HealthLimits
from aquasurf_ray.workers.inspection import inspect_training
from aquasurf_ray.workers.network import spectrum_batch, try_network
from aquasurf_ray.workers.training import train

CPU = torch.device("cpu")
TANH = Activation("tanh(x)")
N = 48
X = torch.randn(N, 6, generator=torch.Generator().manual_seed(0))
Y = X[:, 1:5].argmax(1)


class Items(Dataset):
    def __init__(self, form):
        self.form = form

    def __len__(self):
        return N

    def __getitem__(self, i):
        return self.form(X[i], int(Y[i]))


def padded(items):
    """What a tokeniser's collator does: a dictionary with the labels in it."""
    return {"left": torch.stack([x[:3] for x, _ in items]), "right": torch.stack([x[3:] for x, _ in items]),
            "labels": torch.tensor([y for _, y in items])}  # fmt: skip


FORMS = {
    "a pair": lambda x, y: (x, y),
    "a dictionary": lambda x, y: {"left": x[:3], "right": x[3:], "labels": y},
    "a dictionary and a label": lambda x, y: (OrderedDict(left=x[:3], right=x[3:]), y),
    "two inputs": lambda x, y: ((x[:3], x[3:]), y),
    "a list of inputs": lambda x, y: ([x[:3], x[3:]], y),
}


@dataclass
class Output:
    hidden: torch.Tensor
    logits: torch.Tensor


class Model(nn.Module):
    returned = staticmethod(lambda hidden, logits: logits)

    def __init__(self, activation):
        super().__init__()
        self.first, self.activation, self.last = nn.Linear(6, 8), activation(), nn.Linear(8, 4)

    def forward(self, left, right=None):
        x = left if right is None else torch.cat([left, right], 1)
        hidden = self.activation(self.first(x))
        return self.returned(hidden, self.last(hidden))


class OfDataclass(Model):
    returned = staticmethod(Output)


class OfTuple(Model):
    returned = staticmethod(lambda hidden, logits: (logits, hidden))


class OfDictionary(Model):
    returned = staticmethod(lambda hidden, logits: {"loss": None, "hidden": hidden, "logits": logits})


def task(data, network=Model, **recipe):
    settings = {"epochs": 2, "batch_size": 8, "learning_rate": 0.1, "channels_last": True, **recipe}
    return Task("forms", network, lambda: Splits(data(), data(), data()), Recipe(**settings))


def curve(result):
    assert result.status == "done", result.reason
    return [(e.train_loss, e.val_loss, e.train_score) for e in result.epochs], result.test_loss


@pytest.fixture(scope="module")
def expected():
    return curve(train(task(lambda: TensorDataset(X, Y)), TANH, gate=HealthLimits()))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.slow
def test_items_of_any_form_train_as_tensors_do(form, workers, expected):
    made = task(lambda: Items(FORMS[form]))
    try_network(made, made.splits(), device=CPU)
    found = train(made, TANH, gate=HealthLimits(), choose_form=fast_form, loader_workers=workers)
    epochs, test_loss = curve(found)
    for mine, theirs in zip(epochs, expected[0], strict=True):
        assert mine == pytest.approx(theirs, rel=1e-4)
    assert test_loss == pytest.approx(expected[1], rel=1e-4)


@pytest.mark.parametrize("network", [OfDataclass, OfTuple, OfDictionary])
def test_models_that_return_more_than_their_logits_train_as_if_they_did_not(network, expected):
    made = task(lambda: Items(FORMS["a dictionary"]), network)
    try_network(made, made.splits(), device=CPU)
    assert curve(train(made, TANH, gate=HealthLimits())) == expected
    averaged = task(lambda: Items(FORMS["a dictionary"]), network, ema_decay=0.5, precision="bfloat16")
    assert train(averaged, TANH).status == "done"
    feed = TrainingFeed(made, made.splits(), CPU, seed=0)
    assert measure_cost(feed, TANH).memory_ratio > 0
    inspection = inspect_training(made, TANH)
    assert [site.name for site in inspection.before.sites] == ["activation"]


def test_a_collator_of_a_loader_may_make_dictionaries(expected):
    made = task(lambda: DataLoader(Items(FORMS["a pair"]), batch_size=8, collate_fn=padded))
    try_network(made, made.splits(), device=CPU)
    result = train(made, TANH)
    in_order = task(lambda: DataLoader(TensorDataset(X, Y), batch_size=8))
    assert curve(result) == curve(train(in_order, TANH))


def test_an_augmentation_gets_the_inputs_in_their_form():
    seen = []

    def augment(inputs, generator):
        seen.append(sorted(inputs))
        return {key: tensor + torch.rand((), generator=generator) for key, tensor in inputs.items()}

    made = replace(task(lambda: Items(FORMS["a dictionary"])), augment=augment)
    first, again = (curve(train(made, TANH)) for _ in range(2))
    assert first == again
    assert set(map(tuple, seen)) == {("left", "right")}


def test_mixing_takes_images_only():
    made = task(lambda: Items(FORMS["a dictionary"]), mixup=0.2)
    with pytest.raises(TaskError, match=r"mixup and cutmix take images .*, got \{'left': \(8, 3\) float32"):
        train(made, TANH)


def test_inputs_may_be_numbers_of_shape_n():
    class Looked(nn.Module):
        def __init__(self, activation):
            super().__init__()
            self.layers = nn.Sequential(nn.Embedding(5, 4), nn.Linear(4, 6), activation(), nn.Linear(6, 5))

        def forward(self, ids):
            return self.layers(ids)

    ids = torch.arange(N) % 5
    made = Task("ids", Looked, lambda: Splits(*[TensorDataset(ids, (ids + 1) % 5)] * 3),
                Recipe(epochs=20, batch_size=8, learning_rate=0.2))  # fmt: skip
    try_network(made, made.splits(), device=CPU)
    assert train(made, TANH, gate=HealthLimits()).score == 1.0


def test_a_data_set_of_three_tensors_is_refused_and_not_cut_to_two():
    three = task(lambda: TensorDataset(X, Y, Y))
    for refused in (lambda: train(three, TANH), lambda: try_network(three, three.splits(), device=CPU)):
        with pytest.raises(TaskError, match=r"must be \(input, target\) pairs, got 3 parts"):
            refused()


class Halved(TensorDataset):
    """A data set in memory that changes its items as they are read."""

    def __getitem__(self, i):
        x, y = super().__getitem__(i)
        return x / 2, y

    def __getitems__(self, indices):
        return [self[i] for i in indices]


def test_items_that_a_subclass_changes_are_trained_on_as_it_gives_them():
    plain = TensorDataset(X / 2, Y)
    assert curve(train(task(lambda: Halved(X, Y)), TANH)) == curve(train(task(lambda: plain), TANH))
    inputs, _ = spectrum_batch(task(lambda: Halved(X, Y)), Splits(Halved(X, Y), plain, plain), seed=0, device=CPU)
    assert {tuple(row) for row in inputs.tolist()} == {tuple(row) for row in (X / 2).tolist()}


class Bucketed(Sampler):
    """Batches of neighbours in an order drawn from a generator of its own, or from global ones."""

    def __init__(self, generator=None):
        self.generator, self.epoch = generator, 0

    def __len__(self):
        return N // 8

    def __iter__(self):
        starts = list(range(0, N, 8))
        if self.generator is None:
            random.shuffle(starts)
            starts = [starts[i] for i in torch.randperm(len(starts)).tolist()]
        else:
            starts = self.generator.permutation(starts).tolist()
        return iter([list(range(start, start + 8)) for start in starts])


class WithEpochs(Bucketed):
    def set_epoch(self, epoch):
        self.epoch = epoch

    def __iter__(self):
        order = torch.randperm(N // 8, generator=torch.Generator().manual_seed(self.epoch)).tolist()
        return iter([list(range(8 * i, 8 * i + 8)) for i in order])


class Counting(WithEpochs):
    """Counts its passes itself, and so gives another order at each."""

    set_epoch = property()  # it has none

    def __iter__(self):
        self.epoch += 1
        return super().__iter__()


SAMPLERS = {
    "subset": lambda: {"sampler": SubsetRandomSampler(range(0, N, 2)), "batch_size": 8},
    "weighted": lambda: {"sampler": WeightedRandomSampler(torch.ones(N), N), "batch_size": 8},
    "global": lambda: {"batch_sampler": Bucketed()},
    "NumPy": lambda: {"batch_sampler": Bucketed(np.random.default_rng(3))},
    "epochs": lambda: {"batch_sampler": WithEpochs()},
    "counting": lambda: {"batch_sampler": Counting()},
}


@pytest.mark.parametrize("kind", SAMPLERS)
def test_a_training_with_a_custom_sampler_repeats_and_resumes_exactly(kind, tmp_path):
    def made():
        return task(lambda: DataLoader(TensorDataset(X, Y), **SAMPLERS[kind]()), epochs=3)

    once = made()
    whole = curve(train(once, TANH))
    assert curve(train(once, TANH)) == whole, "a second training on the same loaders"
    losses = {round(train_loss, 6) for train_loss, _, _ in whole[0]}
    assert len(losses) == 3

    def interrupt(epoch):
        if epoch.epoch == 2:
            raise MemoryError("no memory left")

    folder = CheckpointFolder(str(tmp_path / "checkpoints"), {"seed": 0})
    with suppress(MemoryError):
        train(made(), TANH, checkpoints=folder, checkpoint_interval=0.0, on_epoch=interrupt)
    seen = []
    resumed = train(made(), TANH, checkpoints=folder, on_epoch=lambda epoch: seen.append(epoch.epoch))
    assert seen == [2, 3]
    assert curve(resumed) == whole


def test_the_orders_of_a_sampler_that_counts_differ_from_epoch_to_epoch():
    made = task(lambda: DataLoader(TensorDataset(X, Y), batch_sampler=Counting()))
    feed = TrainingFeed(made, made.splits(), CPU, seed=0)
    orders = [
        [step.inputs[0, 0].item() for step in feed.epoch(epoch, torch.Generator(), nn.Identity())]
        for epoch in (1, 2, 3, 2)
    ]
    assert orders[1] == orders[3]
    assert len({tuple(order) for order in orders}) == 3


def test_a_batch_sampler_that_gives_more_than_its_length_is_refused():
    class Long(Bucketed):
        def __len__(self):
            return 3

    made = task(lambda: DataLoader(TensorDataset(X, Y), batch_sampler=Long()))
    with pytest.raises(TaskError, match="gives more batches than its length, which is 3"):
        train(made, TANH)


def empty_or_padded(items):
    return padded(items) if items else {"left": X[:0, :3], "right": X[:0, 3:], "labels": Y[:0]}


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_an_empty_batch_of_a_batch_sampler_is_refused_before_any_training(split):
    examples = TensorDataset(X, Y)
    empty = DataLoader(examples, batch_sampler=[[0, 1, 2], [], [3, 4, 5]])
    splits = replace(Splits(examples, examples, examples), **{split: empty})
    made = replace(task(lambda: examples), data=lambda: splits)
    with pytest.raises(TaskError, match=rf"{split} split of task .*: its batch_sampler gives an empty batch"):
        try_network(made, made.splits(), device=CPU)


def test_an_empty_batch_that_a_collator_makes_something_of_is_no_step():
    whole = [list(range(start, start + 8)) for start in range(0, N, 8)]
    curves = []
    for batches in (whole, [*whole[:2], [], *whole[2:]]):
        loader = DataLoader(Items(FORMS["a pair"]), batch_sampler=batches, collate_fn=empty_or_padded)
        made = task(lambda loader=loader: loader, schedule="constant", warmup_fraction=0.0)
        try_network(made, made.splits(), device=CPU)
        curves.append(curve(train(made, TANH)))
    assert curves[0] == curves[1]


def test_a_loader_of_sparse_batches_is_refused_when_the_task_is_described():
    def sparse(items):
        return torch.stack([x for x, _ in items]).to_sparse(), torch.tensor([y for _, y in items])

    made = task(lambda: DataLoader(TensorDataset(X, Y), batch_size=8, collate_fn=sparse))
    for use in (lambda: made.digest, lambda: try_network(made, made.splits(), device=CPU)):
        with pytest.raises(TaskError, match="must be dense tensors, got a sparse_coo one; make it dense in collate_fn"):
            use()
