"""A network that uses its activations is never refused, whatever the scale and the sign of its inputs; one that does
not always is."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.utils.data import TensorDataset

from aquasurf_ray.tasks import Recipe, Splits, Task, TaskError
from aquasurf_ray.workers.activation_use import refuse_unused_activation, size_at_activation

CPU = torch.device("cpu")
X = torch.randn(2, 6, generator=torch.Generator().manual_seed(0))


def tried(network, inputs, check=refuse_unused_activation):
    data = TensorDataset(inputs, torch.arange(len(inputs)) % 2)
    task = Task("mine", network, lambda: Splits(data, data, data), Recipe(epochs=1, batch_size=2, learning_rate=0.1))
    return check(task, task.splits(), inputs, device=CPU)


class Plain(nn.Module):
    """Its activation gets the inputs as they are, so that their signs and sizes are those of the test."""

    def __init__(self, activation):
        super().__init__()
        self.act, self.hidden, self.last = activation(), nn.Linear(6, 6), nn.Linear(6, 2)

    def forward(self, x):
        return self.last(self.act(x))


class Deep(Plain):
    def forward(self, x):
        return self.last(self.act(self.hidden(x)))


class Normalised(Plain):
    def forward(self, x):
        return self.last(functional.layer_norm(self.act(x), (6,)))


class Squared(Plain):
    def forward(self, x):
        return self.last(self.act(x) ** 2)


class Gated(Plain):
    def forward(self, x):
        return self.last(self.act(self.hidden(x)) * x)


class Saturated(Plain):
    def forward(self, x):
        return (1e3 * self.last(self.act(x))).softmax(1)


class Dropped(Plain):
    def forward(self, x):
        return self.last(functional.dropout(self.act(x), 0.5))


class ForwardCalled(Plain):
    def forward(self, x):
        return self.last(self.act.forward(x))


@pytest.mark.parametrize("network", [Plain, Deep, Normalised, Squared, Gated, Saturated, Dropped, ForwardCalled])
@pytest.mark.parametrize("inputs", [X, X.abs(), -X.abs()], ids=["both signs", "positive", "negative"])
@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e4, 1e12])
def test_a_network_that_uses_its_activation_is_not_refused(network, inputs, scale):
    tried(network, scale * inputs)


class Ignoring(Plain):
    def forward(self, x):
        return self.last(torch.relu(self.hidden(x)))


class TimesZero(Plain):
    def forward(self, x):
        return self.last(torch.relu(self.hidden(x)) + 0 * self.act(x))


class IgnoringWithDropout(Plain):
    def forward(self, x):
        return self.last(functional.dropout(torch.relu(self.hidden(x)), 0.5))


@pytest.mark.parametrize("network", [Ignoring, TimesZero, IgnoringWithDropout])
@pytest.mark.parametrize("scale", [1.0, 1e4])
def test_a_network_that_does_not_use_it_is_refused(network, scale):
    rule = r"gives the same outputs whatever they return; its code calls relu \(.*test_activation_use\.py:\d+\) instead"
    with pytest.raises(TaskError, match=rule):
        tried(network, scale * X)


def test_the_size_at_the_first_activation_is_that_of_what_it_gets():
    assert tried(Plain, 1e4 * X, size_at_activation) == pytest.approx(1e4 * float(X.abs().mean()))
    assert tried(Ignoring, X, size_at_activation) is None
