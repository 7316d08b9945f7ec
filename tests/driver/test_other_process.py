"""A task that is another one in each process is refused by the check, by workers, and by `resume` with the cause."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest

from aquasurf_ray.driver.cluster.pool import Resources, WorkerPool
from aquasurf_ray.driver.errors import BadUse, TaskAtFault
from aquasurf_ray.driver.examine.task_check import check_task
from aquasurf_ray.driver.other_process import refuse_other_in_another_process
from aquasurf_ray.driver.settings.models import SearchConfig
from aquasurf_ray.driver.verbs.arguments import task_of_run
from aquasurf_ray.tasks import TaskError, load_task
from aquasurf_ray.workers.actor import Worker
from aquasurf_ray.workers.messages import WorkerSettings

MODULE = """
import os
import time

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, TensorDataset

from aquasurf_ray.tasks import Recipe, Splits, Task, regression

unseeded = np.random.default_rng()
names = ["north", "south", "east", "west", "up", "down", "left", "right"]
print("imported")


def rows(seed, labels=lambda x: (x[:, 0] > 0).long()):
    x = torch.tensor(np.random.default_rng(seed).standard_normal((60, 4)), dtype=torch.float32)
    return TensorDataset(x, labels(x))


class Augmented(Dataset):
    def __init__(self, seed):
        self.rows = rows(seed)

    def __len__(self):
        return 60

    def __getitem__(self, i):
        x, y = self.rows[i]
        return x + float(unseeded.standard_normal()), y


def network(activation, width=8):
    return nn.Sequential(nn.Linear(4, width), activation(), nn.Linear(width, 8))


def task(make, network=network, objective=None):
    more = {"objective": objective} if objective else {}
    return Task("mine", network, lambda: Splits(make(0), make(1), make(2)), Recipe(epochs=1, batch_size=20), **more)


def fixed():
    return task(rows)


def with_global_seed():
    return task(lambda seed: rows(np.random.randint(1000)))


def loader():
    return task(lambda seed: DataLoader(rows(seed), batch_size=20, shuffle=True))


def augmented():
    return task(Augmented)


def drawn():
    return task(lambda seed: rows(unseeded.integers(2**40)))


def drawn_numbers():
    def network(activation):
        return nn.Sequential(nn.Linear(4, 8), activation(), nn.Linear(8, 4))

    return task(lambda seed: rows(unseeded.integers(2**40), labels=lambda x: x.clone()), network, regression())


def numbered_by_a_set():
    order = {name: i for i, name in enumerate(set(names))}
    return task(lambda seed: rows(seed, labels=lambda x: torch.tensor([order[n] for n in names * 8][:60])))


def of_the_process():
    return task(rows, lambda activation: network(activation, 8 + os.getpid() % 1000))


def fails_elsewhere():
    if __import__("sys").argv[-1].endswith(".json"):
        raise RuntimeError("no display")
    return fixed()


def slow():
    return task(lambda seed: time.sleep(0.2) or rows(seed))
"""
DATA = r"the data of task 'mine' must be the same everywhere: seed their random generator, .* and sort what a set"


@pytest.fixture
def mine(tmp_path, monkeypatch):
    (tmp_path / "otherprocess_tasks.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    yield "otherprocess_tasks"
    sys.modules.pop("otherprocess_tasks", None)


def compared(name):
    task = load_task(name)
    return refuse_other_in_another_process(name, task, task.splits())


@pytest.mark.parametrize("name", ["fixed", "with_global_seed", "loader", "augmented"])
def test_a_task_that_is_the_same_everywhere_passes(mine, name):
    assert compared(f"{mine}:{name}") is None


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("drawn", DATA),
        ("drawn_numbers", DATA),  # whose values the digest leaves out
        ("numbered_by_a_set", DATA),
        ("of_the_process", "the network of task 'mine' must be the same everywhere, and is another in each process"),
    ],
)
def test_a_task_that_is_another_one_in_each_process_is_refused(mine, name, says):
    with pytest.raises(TaskError, match=says):
        compared(f"{mine}:{name}")


def test_what_cannot_be_compared_is_said(mine):
    assert compared(f"{mine}:fails_elsewhere").endswith("where it fails: " + (
        "aquasurf_ray.tasks.errors.TaskError: task 'otherprocess_tasks:fails_elsewhere' could not be created: "
        "RuntimeError: no display"
    ))  # fmt: skip


def test_the_check_refuses_it_and_compares_no_data_that_take_long(mine, monkeypatch):
    *_, last = check_task(f"{mine}:drawn")
    assert (last.name, last.ok) == ("data", False)
    monkeypatch.setattr("aquasurf_ray.driver.examine.check_steps.LONGEST_LOADING", 0.1)
    steps = {step.name: step for step in check_task(f"{mine}:slow")}
    assert "not compared with a second process, since the data take 1 s to load" in steps["data"].says


def test_a_worker_refuses_another_task_than_the_drivers(mine):
    task = load_task(f"{mine}:fixed")
    settings = WorkerSettings(task, task_digests=task.digests)
    assert Worker(settings).ready()
    other = WorkerSettings(task, task_digests={**task.digests, "data": "another"})
    with pytest.raises(TaskError, match=rf"{DATA}.* data\(\) returns others on node .* than in the driver"):
        Worker(other).ready()


@pytest.mark.usefixtures("ray_here")
def test_a_run_ends_at_once_where_one_worker_has_another_task():
    digests = {**load_task("digits").digests, "data": "another"}
    pool = WorkerPool(WorkerSettings("digits", task_digests=digests), 2, Resources(cpus=0.5))
    with pytest.raises(TaskAtFault, match=r"^the data of task 'digits' must be the same everywhere"):
        _poll_for_ever(pool)
    pool.close()


def _poll_for_ever(pool):
    while True:
        pool.poll(1.0)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("drawn", f"task 'mine' has changed since run 'one' began, although its code may not have: {DATA}"),
        ("fixed", "task 'mine' has changed since run 'one' began; restore it, or start another run"),
    ],
)
def test_resume_names_the_cause(mine, name, says):
    run = SimpleNamespace(name="one", config={"task_digest": "another"})
    with pytest.raises(BadUse, match=says):
        task_of_run(run, None, SearchConfig(task=f"{mine}:{name}"))
