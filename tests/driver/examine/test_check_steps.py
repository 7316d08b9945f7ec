"""What `task check` says about scales, learning rates and metrics that a search stumbles on, and what it counts."""

from __future__ import annotations

import math
import re
import time

import pytest
import torch
from torch import nn
from torch.utils.data import Dataset, TensorDataset

from aquasurf_ray.driver.examine import task_check
from aquasurf_ray.tasks import Metric, Objective, Recipe, Splits, Task, classification, network_from


def network(activation):
    return nn.Sequential(nn.Linear(4, 16), activation(), nn.Linear(16, 2))


def examples(seed, scale=1.0):
    x = torch.randn(80, 4, generator=torch.Generator().manual_seed(seed))
    return TensorDataset(scale * x, (x[:, 0] > 0).long())


def checked(monkeypatch, make=network, objective=None, learning_rate=0.1, scale=1.0, splits=None, **options):
    splits = splits or Splits(*(examples(seed, scale) for seed in range(3)))
    recipe = Recipe(epochs=3, batch_size=20, learning_rate=learning_rate)
    task = Task("mine", make, lambda: splits, recipe, objective or classification())
    monkeypatch.setattr(task_check, "load_task", lambda name, **_: task)
    return {step.name: step for step in task_check.check_task("mine", **options)}


def test_a_sound_task_has_no_warning(monkeypatch):
    steps = checked(monkeypatch)
    assert all(step.ok for step in steps.values())
    assert not any("warning" in step.says for step in steps.values())
    assert "1 activation module, with" in steps["network"].says


def test_a_learning_rate_that_makes_the_loss_explode_is_warned_of(monkeypatch):
    says = checked(monkeypatch, learning_rate=1e6)["training"].says
    assert re.search(
        r"; warning: the loss rises from 0\.\d+ to \S+ in 2 steps; lower the learning rate, .* 1e\+06", says
    )


def test_unscaled_inputs_are_warned_of_and_not_refused(monkeypatch):
    steps = checked(monkeypatch, scale=1e4, learning_rate=1e-9)
    assert all(step.ok for step in steps.values())
    assert re.search(r"warning: the inputs of the first activation are about \S+e\+03 in size", steps["batch"].says)


class Undefined:
    def update(self, outputs, targets):
        pass

    def compute(self):
        return math.nan


def test_a_metric_that_is_nan_is_at_fault_and_not_the_function(monkeypatch):
    objective = Objective(nn.functional.cross_entropy, Metric("mine", Undefined, higher_is_better=True), "categorical")
    step = checked(monkeypatch, objective=objective)["training"]
    assert not step.ok
    assert re.match(
        r"the metric 'mine' is nan on a part of the validation split, where the loss is 0\.\d+; ", step.says
    )


class Slow(Dataset):
    def __init__(self, n):
        self.n = n

    def __len__(self):
        return self.n

    def __getitem__(self, i):
        time.sleep(0.004)
        return torch.full((4,), float(i % 3)), i % 2


def test_the_forecast_has_the_time_of_reading(monkeypatch):
    splits = Splits(Slow(120), Slow(60), Slow(60))
    says = checked(monkeypatch, splits=splits, candidates=8, evaluations=1, workers=1)["forecast"].says
    reading = 0.004 * (3 * (120 + 60) + 60)
    seconds = float(re.search(r"a training takes about ([\d.]+) s", says)[1])
    assert reading <= seconds < 3 * reading  # more on a busy machine


@pytest.mark.parametrize(
    ("make", "n_baselines"),
    [(network, 8), (network_from(lambda: nn.Sequential(nn.Linear(4, 16), nn.GELU(), nn.Linear(16, 2))), 9)],
    ids=["relu", "a reference of its own"],
)
def test_the_counts_are_those_of_a_search(make, n_baselines, monkeypatch):
    says = checked(monkeypatch, make=make, candidates=16, evaluations=5)["forecast"].says
    n = 5 + n_baselines
    assert f"; {16 + n_baselines} spectra, {n} trainings and {n} costs with" in says
