"""The command `spectrum` answers for a user's task, also where its code raises."""

from __future__ import annotations

import pytest

from aquasurf_ray.driver.errors import RunFailed
from aquasurf_ray.driver.examine.function_spectrum import spectrum_summary

TASK = """
import torch
from torch import nn
from torch.utils.data import TensorDataset
from aquasurf_ray.tasks import Recipe, Splits, Task

def network(activation):
    raise AttributeError("no such layer")

def unfitting(activation):
    return nn.Sequential(nn.Linear(3, 4), activation(), nn.Linear(4, 2))

def splits():
    return Splits(*(TensorDataset(torch.randn(20, 2), torch.arange(20) % 2) for _ in range(3)))

def broken():
    return Task("broken", network, splits, Recipe(epochs=1))

def other():
    return Task("other", unfitting, splits, Recipe(epochs=1))
"""


@pytest.mark.parametrize(
    ("task", "reason"),
    [
        ("broken", "the spectrum of task 'broken' fails: AttributeError: no such layer"),
        ("other", "the spectrum of task 'other' fails: RuntimeError: "),
    ],
)
def test_a_network_that_raises_is_an_error_of_one_line(task, reason, tmp_path, monkeypatch):
    (tmp_path / "failing_networks.py").write_text(TASK)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RunFailed) as raised:
        spectrum_summary("relu(x)", f"failing_networks:{task}")
    assert str(raised.value).startswith(reason)
    assert "\n" not in str(raised.value)
