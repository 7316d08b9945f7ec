"""A user's loader decides which examples there are, in which order, and what a batch is made of."""

from __future__ import annotations

import random
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    DistributedSampler,
    IterableDataset,
    RandomSampler,
    Sampler,
    SequentialSampler,
    SubsetRandomSampler,
    TensorDataset,
    WeightedRandomSampler,
    default_collate,
)

from aquasurf_ray.tasks import Recipe, Splits, Task, TaskError
from aquasurf_ray.tasks.identity import data_identity
from aquasurf_ray.tasks.loaders import drawn_batch, given_batches, is_plain, leading_batches, n_examples, some_batches

N = 60
WHOLE = TensorDataset(torch.arange(float(N))[:, None], torch.arange(N) % 3)
HELD_OUT = range(40, N)


class Bucketed(Sampler):
    """Batches of neighbours, in an order drawn again at each pass, from a generator of its own kind."""

    def __init__(self, n, size, generator=None):
        self.n, self.size, self.generator = n, size, generator

    def __len__(self):
        return -(-self.n // self.size)

    def __iter__(self):
        starts = list(range(0, self.n, self.size))
        if isinstance(self.generator, random.Random):
            self.generator.shuffle(starts)
        elif self.generator is not None:
            starts = self.generator.permutation(starts).tolist()
        else:
            random.shuffle(starts)
        yield from (list(range(start, min(start + self.size, self.n))) for start in starts)


class Counting(Sampler):
    """Shuffles with a generator of its own, set from the number of its pass."""

    def __init__(self, n):
        self.n, self.passes = n, 0

    def __len__(self):
        return self.n

    def __iter__(self):
        order = torch.randperm(self.n, generator=torch.Generator().manual_seed(self.passes))
        self.passes += 1
        return iter(order.tolist())


SAMPLERS = {
    "subset": lambda n: {"sampler": SubsetRandomSampler(range(n)), "batch_size": 8},
    "weighted": lambda n: {
        "sampler": WeightedRandomSampler([1.0] * n + [0.0] * (N - n), 2 * N, replacement=True),
        "batch_size": 8,
    },
    "sequential": lambda n: {"sampler": SequentialSampler(range(n)), "batch_size": 8},
    "random": lambda n: {"sampler": RandomSampler(range(n), replacement=True, num_samples=N), "batch_size": 8},
    "list": lambda n: {"sampler": list(range(n)), "batch_size": 8},
    "counting": lambda n: {"sampler": Counting(n), "batch_size": 8},
    "distributed": lambda n: {
        "sampler": DistributedSampler(TensorDataset(torch.zeros(n)), num_replicas=1, rank=0),
        "batch_size": 8,
    },
    "batches": lambda n: {"batch_sampler": Bucketed(n, 8)},
    "batches by Python": lambda n: {"batch_sampler": Bucketed(n, 8, random.Random(5))},
    "batches by NumPy": lambda n: {"batch_sampler": Bucketed(n, 8, np.random.default_rng(5))},
    "batches by NumPy's old one": lambda n: {"batch_sampler": Bucketed(n, 8, np.random.RandomState(5))},
    "list of batches": lambda n: {"batch_sampler": [list(range(i, i + 8)) for i in range(0, n, 8)]},
    "batch sampler of torch": lambda n: {"batch_sampler": BatchSampler(SubsetRandomSampler(range(n)), 8, True)},
}


def network(activation):
    return nn.Sequential(nn.Linear(1, 4), activation(), nn.Linear(4, 3))


def task(train):
    return Task("parts", network, lambda: Splits(train(), WHOLE, WHOLE), Recipe(epochs=1, batch_size=8))


@pytest.mark.parametrize("kind", SAMPLERS)
def test_the_sampler_says_which_examples_there_are(kind):
    loader = DataLoader(WHOLE, **SAMPLERS[kind](40))
    assert not is_plain(loader)
    assert n_examples(loader) == sum(len(targets) for _, targets in loader)
    inputs, targets = drawn_batch(loader, 30, seed=0)
    assert len(inputs) == 30
    assert not set(inputs.flatten().int().tolist()) & set(HELD_OUT), "held-out examples in a spectrum's batch"
    assert targets.equal((inputs[:, 0] % 3).long())
    seen = torch.cat([inputs for inputs, _ in leading_batches(loader, 8)]).flatten().int().tolist()
    assert set(seen) <= set(range(40))
    cut = torch.cat([inputs for inputs, _ in some_batches(loader, 2, 4)]).flatten().int().tolist()
    assert len(cut) == 8
    assert set(cut) <= set(range(40))


@pytest.mark.parametrize("kind", SAMPLERS)
def test_an_edit_of_the_sampler_is_another_task(kind):
    digests = {n: task(lambda n=n: DataLoader(WHOLE, **SAMPLERS[kind](n))).digest for n in (32, 40)}
    again = {n: task(lambda n=n: DataLoader(WHOLE, **SAMPLERS[kind](n))).digest for n in (32, 40)}
    assert digests == again, "the same in each process"
    assert digests[32] != digests[40]


@pytest.mark.parametrize("kind", SAMPLERS)
def test_a_pass_repeats_and_leaves_generators_and_counters_alone(kind):
    loader = DataLoader(WHOLE, **SAMPLERS[kind](40))
    before = random.getstate(), np.random.get_state()[1].tolist(), torch.random.get_rng_state().tolist()
    first = given_batches(loader, 3)
    random.random()
    torch.rand(1)
    assert given_batches(loader, 3) == first
    random.setstate(before[0])
    torch.random.set_rng_state(torch.tensor(before[2], dtype=torch.uint8))
    sampler = loader.batch_sampler if kind.startswith("batches") else loader.sampler
    assert getattr(sampler, "passes", 0) == 0
    generator = getattr(sampler, "generator", None)
    if isinstance(generator, np.random.Generator):
        assert generator.bit_generator.state == np.random.default_rng(5).bit_generator.state
    if isinstance(generator, random.Random):
        assert generator.getstate() == random.Random(5).getstate()
    if isinstance(generator, np.random.RandomState):
        assert generator.get_state()[1].tolist() == np.random.RandomState(5).get_state()[1].tolist()


def test_weights_of_a_sampler_are_those_of_a_spectrums_batch():
    weights = torch.where(torch.arange(N) < 6, 9.0, 1.0)  # half of all draws are of the first six
    loader = DataLoader(WHOLE, sampler=WeightedRandomSampler(weights, 2000), batch_size=8)
    inputs, _ = drawn_batch(loader, 1000, seed=0)
    assert (inputs < 6).double().mean().item() == pytest.approx(0.5, abs=0.05)
    edited = DataLoader(WHOLE, sampler=WeightedRandomSampler(weights.flip(0), 2000), batch_size=8)
    assert task(lambda: loader).digest != task(lambda: edited).digest


@pytest.mark.parametrize(
    "loader",
    [
        WHOLE,
        DataLoader(WHOLE, batch_size=8),
        DataLoader(WHOLE, batch_size=5, shuffle=True, drop_last=True, generator=torch.Generator()),
        DataLoader(WHOLE, batch_sampler=BatchSampler(RandomSampler(WHOLE), 4, False)),
        DataLoader(
            WHOLE, batch_size=8, collate_fn=lambda items: [torch.stack(part) for part in zip(*items, strict=True)]
        ),
    ],
    ids=["data set", "in order", "shuffled", "batch sampler", "collate_fn"],
)
def test_loaders_that_give_each_example_as_it_is_have_the_digest_of_version_0_1(loader):
    splits = {"train": loader, "validation": WHOLE, "test": WHOLE}
    expected = {"train": N, "validation": N, "test": N, "digest": "dc5f40ca88fa0b9257c9938092796f14"}
    assert data_identity(splits) == expected
    inputs, _ = drawn_batch(loader, 7, seed=2)
    drawn = torch.randperm(N, generator=torch.Generator().manual_seed(2))[:7]
    assert inputs.flatten().int().tolist() == drawn.tolist(), "the examples of version 0.1's spectra"


class Texts(Dataset):
    def __init__(self, n=N):
        self.n = n

    def __len__(self):
        return self.n

    def __getitem__(self, i):
        return "a" * (1 + i % 5), i % 3


def tokens(items, length=None):
    ids = [torch.tensor(list(text.encode())) for text, _ in items]
    if length:
        ids.append(torch.zeros(length, dtype=torch.int64))
    padded = nn.utils.rnn.pad_sequence(ids, batch_first=True)[: len(items)]
    return {"ids": padded, "mask": padded != 0, "labels": torch.tensor([label for _, label in items])}


def test_a_collate_fn_makes_the_batch_of_a_spectrum_and_of_a_check():
    loader = DataLoader(Texts(), batch_size=8, collate_fn=tokens)
    inputs, targets = drawn_batch(loader, 30, seed=0)
    assert {key: tuple(tensor.shape) for key, tensor in inputs.items()} == {"ids": (30, 5), "mask": (30, 5)}
    assert inputs["mask"].sum(1).equal(1 + torch.randperm(N, generator=torch.Generator().manual_seed(0))[:30] % 5)
    assert targets.shape == (30,)
    (batch,) = some_batches(loader, 1, 4)
    assert batch["ids"].shape == (4, 4)
    longer = DataLoader(Texts(), batch_size=8, collate_fn=partial(tokens, length=9))
    assert task(lambda: loader).digest != task(lambda: longer).digest


def test_a_collate_fn_that_draws_is_seeded():
    def noisy(items):
        inputs, targets = default_collate(items)
        return inputs + torch.rand(1) + random.random() + np.random.rand(), targets

    loader = DataLoader(WHOLE, batch_size=8, collate_fn=noisy)
    first, again, other = (drawn_batch(loader, 9, seed=seed)[0] for seed in (0, 0, 1))
    assert first.equal(again)
    assert not first.equal(other)
    assert task(lambda: loader).digest == task(lambda: DataLoader(WHOLE, batch_size=8, collate_fn=noisy)).digest


def test_a_loader_of_ready_batches_gives_its_first_to_a_spectrum():
    class Ready(Dataset):
        def __len__(self):
            return 5

        def __getitem__(self, i):
            return WHOLE[12 * i : 12 * (i + 1)]

    loader = DataLoader(Ready(), batch_size=None, shuffle=True)
    inputs, targets = drawn_batch(loader, 8, seed=0)
    assert (inputs[:, 0] % 3).long().equal(targets)
    assert len(inputs) == 8
    assert [len(t) for _, t in leading_batches(loader, 10)] == [10] * 5
    assert len(list(some_batches(loader, 2, 10))) == 2


class Opened(Dataset):
    """Can be read only where `open_it` was called, which is in a loader's processes."""

    is_open = False

    def __len__(self):
        return N

    def __getitem__(self, i):
        if not self.is_open:
            raise OSError("not open")
        return WHOLE[i]


def open_it(_):
    torch.utils.data.get_worker_info().dataset.is_open = True


def test_examples_are_read_in_processes_that_a_worker_init_fn_prepares():
    loader = DataLoader(Opened(), batch_size=8, num_workers=2, worker_init_fn=open_it, sampler=list(range(20)))
    inputs, _ = drawn_batch(loader, 7, seed=0)
    assert len(inputs) == 7
    assert sum(len(targets) for _, targets in some_batches(loader, 2, 4)) == 8
    inputs, _ = next(leading_batches(loader, 4))
    assert inputs.flatten().int().tolist() == [0, 1, 2, 3]
    assert task(lambda: loader).digest == task(lambda: loader).digest


def test_a_split_drawn_with_numpy_or_python_is_the_same_in_each_process():
    def data():
        parts = np.random.permutation(N)[:40].tolist(), random.sample(range(N), 9), range(9)
        return Splits(*(DataLoader(WHOLE, sampler=SubsetRandomSampler(part)) for part in parts))

    before = random.getstate(), np.random.get_state()[1].tolist()
    made = Task("drawn", network, data, Recipe())
    assert made.digest == Task("drawn", network, data, Recipe()).digest
    assert (random.getstate(), np.random.get_state()[1].tolist()) == before


def test_unaugmented_examples_may_come_through_a_loader_too():
    held = DataLoader(WHOLE, batch_size=8, sampler=SubsetRandomSampler(range(9)))
    splits = Splits(WHOLE, WHOLE, WHOLE, unaugmented=held)
    inputs, _ = drawn_batch(splits.for_spectrum(), 9, seed=0)
    assert sorted(inputs.flatten().int().tolist()) == list(range(9))


class Stream(IterableDataset):
    def __iter__(self):
        yield from WHOLE


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: DataLoader(Stream(), batch_size=4), "must be indexable and have a length, got the iterable Stream"),
        (Stream, "must be indexable and have a length, got the iterable Stream"),
        (
            lambda: DataLoader(WHOLE, sampler=DistributedSampler(WHOLE, num_replicas=2, rank=1)),
            "a DistributedSampler must have num_replicas=1, got 2",
        ),
    ],
    ids=["iterable in a loader", "iterable", "distributed"],
)
def test_examples_that_cannot_be_asked_for_are_refused_in_a_sentence(make, says):
    with pytest.raises(TaskError, match=says):
        _ = task(make).digest
    with pytest.raises(TaskError, match=says):
        drawn_batch(make(), 4, seed=0)
    assert replace(task(lambda: WHOLE), name="other").digest


@pytest.mark.parametrize(
    "item",
    [lambda x, y: {"x": x, "label": y}, lambda x, y: ({"x": x}, y), lambda x, y: ((x, x), y)],
    ids=["dict", "dict and label", "two inputs"],
)
def test_items_of_other_forms_have_an_identity_of_form_and_labels(item):
    class Items(Dataset):
        def __init__(self, shift=0, width=1):
            self.shift, self.width = shift, width

        def __len__(self):
            return N

        def __getitem__(self, i):
            return item(torch.full((self.width,), float(i)), (i + self.shift) % 3)

    digests = {
        key: data_identity({"train": Items(*key), "validation": Items(*key), "test": WHOLE})["digest"]
        for key in ((0, 1), (1, 1), (0, 2))
    }
    assert len(set(digests.values())) == 3
    assert data_identity({"train": Items(), "validation": Items(), "test": WHOLE})["digest"] == digests[0, 1]
