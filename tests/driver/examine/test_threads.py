"""Commands that train or compute a spectrum in the user's process do it with the threads of a worker: a forecast is the
time on one worker, and the small operations of a small network are slower when many threads wait for each other."""

from __future__ import annotations

import sys

import pytest
import torch

from aquasurf_ray.driver.examine.function_explanation import explain_function
from aquasurf_ray.driver.examine.function_spectrum import spectrum_summary
from aquasurf_ray.driver.examine.task_check import check_task
from aquasurf_ray.driver.run.worker_settings import worker_settings
from aquasurf_ray.driver.settings.reading import make_config

TASK = """
import torch
from torch import nn
from torch.utils.data import TensorDataset
from aquasurf_ray.tasks import Recipe, Splits, Task

THREADS = []  # at each forward pass

class Network(nn.Sequential):
    def forward(self, x):
        THREADS.append(torch.get_num_threads())
        return super().forward(x)

def network(activation):
    return Network(nn.Linear(2, 4), activation(), nn.Linear(4, 2))

def splits():
    return Splits(*(TensorDataset(torch.randn(20, 2), torch.arange(20) % 2) for _ in range(3)))

def noting():
    return Task("noting", network, splits, Recipe(epochs=1, batch_size=10, learning_rate=1e-3))
"""


@pytest.fixture
def three_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(
    "examine",
    [
        lambda task: check_task(task, device="cpu"),
        lambda task: spectrum_summary("tanh(x)", task),
        lambda task: explain_function("tanh(x)", task),
    ],
    ids=["check", "spectrum", "explain"],
)
@pytest.mark.usefixtures("three_threads")
def test_a_command_has_the_threads_of_a_worker_and_leaves_those_of_the_process(examine, tmp_path, monkeypatch):
    (tmp_path / "noting_threads.py").write_text(TASK)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    examine("noting_threads:noting")
    noted = sys.modules.pop("noting_threads").THREADS
    of_a_worker = worker_settings(make_config({"task": "digits"}), "digits").threads
    assert set(noted) == {of_a_worker}
    assert torch.get_num_threads() == 3
