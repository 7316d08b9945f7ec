"""What `task check` says about scales, learning rates and metrics that a search stumbles on, and what it counts."""

from __future__ import annotations

import math
import re
import time
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, SubsetRandomSampler, TensorDataset

from aquasurf_ray.driver.examine import task_check
from aquasurf_ray.driver.examine.output_check import squashed_outputs
from aquasurf_ray.tasks import Metric, Objective, Recipe, Splits, Task, classification, network_from, regression
from aquasurf_ray.tasks.objective import RunningMean


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


class Scaled(nn.Module):
    """A network whose outputs have the scale of its targets."""

    def __init__(self, activation):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(4, 16), activation(), nn.Linear(16, 1))

    def forward(self, x):
        return 50_000 + 10_000 * self.layers(x)


def test_targets_that_are_not_scaled_are_warned_of_unless_the_network_scales_them(monkeypatch):
    def split(seed, mean, deviation):
        x = torch.randn(80, 4, generator=torch.Generator().manual_seed(seed))
        return TensorDataset(x, mean + deviation * x[:, :1])

    def of_targets(mean, deviation, make):
        splits = Splits(*(split(seed, mean, deviation) for seed in range(3)))
        return checked(monkeypatch, make, regression(), 1e-9, splits=splits)["batch"].says

    def numbers(activation):
        return nn.Sequential(nn.Linear(4, 16), activation(), nn.Linear(16, 1))

    said = (
        r"; warning: the targets have mean \S+e\+04 and deviation \S+e\+0\d, far from the untrained network's outputs"
    )
    assert re.search(said, of_targets(50_000, 10_000, numbers))
    assert "warning" not in of_targets(50_000, 10_000, Scaled)
    assert "warning" not in of_targets(20, 30, numbers)
    assert "warning: the targets have mean" in of_targets(0, 500, numbers)


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


def ending_in(*last):
    def make(activation):
        return nn.Sequential(nn.Linear(4, 16), activation(), nn.Linear(16, 2), *last)

    return make


@pytest.mark.parametrize("last", [nn.Softmax(1), nn.LogSoftmax(1), nn.Sigmoid()], ids=lambda each: type(each).__name__)
def test_a_softmax_or_sigmoid_before_a_loss_of_logits_is_warned_of_once(last, monkeypatch):
    steps = checked(monkeypatch, ending_in(last))
    assert all(step.ok for step in steps.values())
    says = " ".join(step.says for step in steps.values())
    kind = type(last).__name__
    assert says.count(f"leave out the {kind} at the network's end") == 1
    assert f"the network's outputs are those of a {kind}, and the loss 'cross_entropy' takes logits" in says


def yes_or_no(loss):
    accuracy = Metric(
        "accuracy", lambda: RunningMean(lambda o, y, _: ((o[:, 0] > 0) == (y > 0), torch.ones(len(y)) > 0))
    )
    return Objective(lambda outputs, y: loss(outputs.squeeze(1), y.float()), accuracy, "bernoulli")


@pytest.mark.parametrize("last", [[nn.Sigmoid()], []], ids=["sigmoid", "logits"])
def test_a_sigmoid_before_a_loss_of_the_logits_of_a_yes_or_no_is_warned_of(last, monkeypatch):
    def make(activation):
        return nn.Sequential(nn.Linear(4, 16), activation(), nn.Linear(16, 1), *last)

    step = checked(monkeypatch, make, yes_or_no(nn.functional.binary_cross_entropy_with_logits))["batch"]
    assert (step.ok, "outputs are those of a Sigmoid" in step.says) == (True, bool(last))


def test_a_loss_that_takes_probabilities_may_follow_a_sigmoid():
    outputs, targets = torch.rand(20, 1, generator=torch.Generator().manual_seed(0)), torch.arange(20) % 2
    objective = yes_or_no(nn.functional.binary_cross_entropy)
    assert squashed_outputs(objective, outputs, targets, lambda seed: outputs) == []


def test_log_probabilities_of_a_loss_that_takes_them_are_right(monkeypatch):
    objective = replace(classification(), loss=nn.functional.nll_loss)
    step = checked(monkeypatch, ending_in(nn.LogSoftmax(1)), objective)["batch"]
    assert (step.ok, "warning" in step.says) == (True, False), step.says


ONE = "warning: one data set serves as the {} split, so scores say nothing about new examples; hold some out"


def test_one_data_set_as_several_splits_is_warned_of_once(monkeypatch):
    a, b = examples(0), examples(1)
    for splits, which in (
        (Splits(a, a, a), "train, validation and test"),
        (Splits(a, a, b), "train and validation"),
        (Splits(a, b, a), "train and test"),
        (Splits(a, b, b), "validation and test"),
        (Splits(DataLoader(a, 20, shuffle=True), a, b), "train and validation"),
    ):
        steps = checked(monkeypatch, splits=splits)
        assert all(step.ok for step in steps.values())
        assert ONE.format(which) in steps["data"].says
        assert sum(step.says.count("warning: ") for step in steps.values()) == 1


def test_equal_examples_of_two_splits_are_warned_of_and_counted(monkeypatch):
    x, y = examples(0).tensors
    overlapping = TensorDataset(torch.cat([x[:40], examples(1).tensors[0][:40]]), torch.cat([y[:40], 1 - y[:40]]))
    says = checked(monkeypatch, splits=Splits(examples(0), overlapping, examples(2)))["data"].says
    assert "warning: 40 of 80 sampled validation examples are train examples too, so scores say little" in says
    assert says.count("warning") == 1


def test_parts_of_one_data_set_and_data_of_few_different_examples_are_no_overlap(monkeypatch):
    x, y = (torch.cat(each) for each in zip(*(examples(seed).tensors for seed in range(3)), strict=True))
    parts = [SubsetRandomSampler(range(80 * i, 80 * i + 80)) for i in range(3)]
    whole = TensorDataset(x, y)
    splits = Splits(*(DataLoader(whole, 20, sampler=part) for part in parts))
    assert "warning" not in checked(monkeypatch, splits=splits)["data"].says
    coarse = [TensorDataset((x[80 * i : 80 * i + 80] > 0).float(), y[80 * i : 80 * i + 80]) for i in range(3)]
    assert "warning" not in checked(monkeypatch, splits=Splits(*coarse))["data"].says


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


class TwoHeads(nn.Module):
    def __init__(self, activation):
        super().__init__()
        self.body, self.first, self.second = (
            nn.Sequential(nn.Linear(4, 8), activation()),
            nn.Linear(8, 2),
            nn.Linear(8, 1),
        )

    def forward(self, x):
        x = self.body(x)
        return self.first(x), self.second(x)


def test_a_loss_that_wants_all_heads_is_told_that_it_gets_the_first(monkeypatch):
    def loss(outputs, targets):
        return nn.functional.cross_entropy(outputs[0], targets) + outputs[1].mean()

    step = checked(monkeypatch, TwoHeads, replace(classification(), loss=loss))["batch"]
    assert not step.ok
    assert "; the network returns a tuple, of which the loss gets only 'logits' or else the first tensor:" in step.says


def test_several_activations_of_a_network_are_warned_of_once(monkeypatch, caplog):
    def make():
        return nn.Sequential(nn.Linear(4, 8), nn.SiLU(), nn.Linear(8, 8), nn.ELU(), nn.Linear(8, 2))

    assert all(step.ok for step in checked(monkeypatch, network_from(make)).values())
    assert caplog.text.count("the network has several activations of its own") == 1


def test_a_network_that_drops_its_activation_is_refused_with_the_one_that_it_has_instead(monkeypatch):
    def hard_wired(activation):
        activation()
        return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))

    step = checked(monkeypatch, hard_wired)["network"]
    assert step.says == (
        "the network keeps none of the activations that it makes; it has '1' (ReLU) instead; set them as attributes of "
        "modules"
    )
