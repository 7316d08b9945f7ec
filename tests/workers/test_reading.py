"""The time of reading is that of a training's own passes over its data, from a few batches of them."""

from __future__ import annotations

import time
from dataclasses import replace

import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, TensorDataset

from aquasurf_ray.tasks import Recipe, Splits, Task
from aquasurf_ray.workers import reading
from aquasurf_ray.workers.actor import Worker
from aquasurf_ray.workers.messages import WorkerSettings
from aquasurf_ray.workers.reading import reading_time

CPU = torch.device("cpu")
EACH = 0.004


class Slow(Dataset):
    """Counts what is read of it, and takes its time, as a decoder of images does."""

    def __init__(self, n, first=0.0):
        self.n, self.first, self.n_read = n, first, 0

    def __len__(self):
        return self.n

    def __getitem__(self, i):
        time.sleep(EACH if self.n_read else self.first + EACH)
        self.n_read += 1
        return torch.full((3,), float(i)), i % 2


def task_of(train, validation, test, **recipe):
    def network(activation):
        return nn.Sequential(nn.Linear(3, 4), activation(), nn.Linear(4, 2))

    recipe = {"epochs": 3, "batch_size": 40, "learning_rate": 0.1, **recipe}
    return Task("mine", network, lambda: Splits(train, validation, test), Recipe(**recipe))


def measured(task, **options):
    splits = task.splits()
    return reading_time(task, splits, CPU, **options)


def test_a_training_reads_two_splits_in_each_epoch_and_the_test_split_once():
    found = measured(task_of(Slow(300, first=2.0), Slow(100), Slow(50)))
    slept = EACH * (3 * (300 + 100) + 50)
    assert slept <= found.training_seconds < 3 * slept  # more on a busy machine; an import of two seconds is no part
    assert 40 * EACH <= found.batch_seconds < 120 * EACH
    assert not found.overlaps


def test_a_sample_of_a_large_split_is_enough(monkeypatch):
    monkeypatch.setattr(reading, "SECONDS_PER_SPLIT", 0.1)
    train, few = Slow(1_000_000), Slow(50)
    found = measured(task_of(train, few, few, batch_size=1_000))
    assert train.n_read < 200
    assert 3 * 1_000_000 * EACH <= found.training_seconds < 3 * 3 * 1_000_000 * EACH


def test_the_batches_of_a_loader_are_its_own():
    loader = DataLoader(Slow(120), batch_size=30)
    found = measured(task_of(loader, Slow(20), Slow(20)))
    slept = EACH * (3 * (120 + 20) + 20)
    assert slept <= found.training_seconds < 3 * slept
    assert 30 * EACH <= found.batch_seconds < 90 * EACH


def test_data_in_memory_take_the_time_of_their_augmentation_alone():
    data = TensorDataset(torch.zeros(400, 3), torch.arange(400) % 2)
    task = task_of(data, data, data)
    started = time.monotonic()
    assert measured(task).training_seconds < 0.5
    assert time.monotonic() - started < 0.5

    def augment(inputs, draws):
        time.sleep(0.02)
        return inputs

    found = measured(replace(task, augment=augment))
    assert 3 * 10 * 0.02 <= found.training_seconds < 3 * 3 * 10 * 0.02


def test_processes_read_at_once_and_while_the_network_computes():
    found = measured(task_of(Slow(640), Slow(20), Slow(20)), loader_workers=2)
    assert found.overlaps
    alone = measured(task_of(Slow(640), Slow(20), Slow(20)))
    # The start of the processes counts in each of the three epochs.
    assert 0.4 * alone.training_seconds < found.training_seconds < 0.75 * alone.training_seconds + 3 * 4


def test_a_worker_tells_the_time_of_reading_with_its_first_cost():
    data = Slow(60)
    worker = Worker(WorkerSettings(task_of(data, data, data)))
    first, second = worker.costs(["relu(x)", "tanh(x)"])
    assert first.reading.training_seconds >= EACH * 7 * 60
    assert second.reading is None
    assert worker.costs(["elu(x)"])[0].reading is None
