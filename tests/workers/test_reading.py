"""The time of reading is that of a training's own passes over its data, from a few batches of them."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest
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


class Clock:
    """Time that passes only in `sleep`, so that a busy machine makes no difference."""

    now = 0.0

    def sleep(self, seconds):
        self.now += seconds


CLOCK = Clock()


@pytest.fixture(autouse=True)
def clock(monkeypatch):
    monkeypatch.setattr(reading, "time", SimpleNamespace(monotonic=lambda: CLOCK.now))


class Slow(Dataset):
    """Counts what is read of it, and takes its time, as a decoder of images does."""

    def __init__(self, n, first=0.0):
        self.n, self.first, self.n_read = n, first, 0

    def __len__(self):
        return self.n

    def __getitem__(self, i):
        CLOCK.sleep(EACH if self.n_read else self.first + EACH)
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
    found = measured(task_of(Slow(320, first=2.0), Slow(96), Slow(48)))
    # The two seconds, of an import for instance, happen once and are no part.
    assert found.training_seconds == pytest.approx(EACH * (3 * (320 + 96) + 48))
    assert found.batch_seconds == pytest.approx(40 * EACH)
    assert not found.overlaps


def test_a_sample_of_a_large_split_is_enough(monkeypatch):
    monkeypatch.setattr(reading, "SECONDS_PER_SPLIT", 0.1)
    train, few = Slow(1_000_000), Slow(48)
    found = measured(task_of(train, few, few, batch_size=1_000))
    assert train.n_read < 200
    assert found.training_seconds == pytest.approx(EACH * (3 * (1_000_000 + 48) + 48))


def test_the_batches_of_a_loader_are_its_own():
    loader = DataLoader(Slow(120), batch_size=30)
    found = measured(task_of(loader, Slow(32), Slow(32)))
    assert found.training_seconds == pytest.approx(EACH * (3 * (120 + 32) + 32))
    assert found.batch_seconds == pytest.approx(30 * EACH)


def test_data_in_memory_take_the_time_of_their_augmentation_alone():
    data = TensorDataset(torch.zeros(400, 3), torch.arange(400) % 2)
    task = task_of(data, data, data)
    assert measured(task).training_seconds == 0.0

    def augment(inputs, draws):
        CLOCK.sleep(0.02)
        return inputs

    assert measured(replace(task, augment=augment)).training_seconds == pytest.approx(3 * 10 * 0.02)


def test_processes_read_while_the_network_computes():
    assert measured(task_of(Slow(64), Slow(16), Slow(16)), loader_workers=2).overlaps


def test_a_worker_tells_the_time_of_reading_with_its_first_cost():
    data = Slow(64)
    worker = Worker(WorkerSettings(task_of(data, data, data)))
    first, second = worker.costs(["relu(x)", "tanh(x)"])
    assert first.reading.training_seconds == pytest.approx(EACH * 7 * 64)
    assert second.reading is None
    assert worker.costs(["elu(x)"])[0].reading is None
