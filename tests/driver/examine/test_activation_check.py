"""What `task check` says of activations that a search does not reach."""

from __future__ import annotations

import inspect

import torch
from torch import nn
from torch.nn import functional
from torch.utils.data import TensorDataset

from aquasurf_ray.driver.examine.activation_check import unreached_activations
from aquasurf_ray.tasks import Recipe, Splits, Task, network_from


class Net(nn.Module):
    """Calls the activation that it is given, and functions of its own."""

    def __init__(self, activation=nn.ReLU):
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(4, 4) for _ in range(6))
        self.act = activation()

    def forward(self, x):
        x = self.act(self.layers[0](x))
        x = functional.relu(self.layers[1](x))
        x = torch.relu(self.layers[2](x))
        x = self.layers[3](x).clamp(min=0)
        x = self.layers[4](x) * torch.sigmoid(self.layers[4](x))
        return self.layers[5](x)


class Learned(nn.Module):
    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, x):
        return x * torch.sigmoid(self.scale * x)


def learned():
    return nn.Sequential(nn.Linear(4, 4), Learned(), nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2))


class InEvaluation(Net):
    def forward(self, x):
        x = self.layers[0](x)
        return self.layers[1](self.act(x) if self.training else functional.relu(x))


def warnings_of(network):
    inputs = torch.randn(20, 4, generator=torch.Generator().manual_seed(0))
    splits = Splits(*[TensorDataset(inputs, torch.arange(20) % 2)] * 3)
    task = Task("mine", network, lambda: splits, Recipe(epochs=1, batch_size=10, learning_rate=0.1))
    assert task.digest, "finds the calls"
    return unreached_activations(task, splits, inputs, device=torch.device("cpu"))


def line_of(function, text):
    lines, first = inspect.getsourcelines(function)
    number = first + next(i for i, line in enumerate(lines) if text in line)
    return f"tests/driver/examine/test_activation_check.py:{number}"


def test_all_places_of_a_factorys_own_functions_are_named_and_a_gate_is_not():
    relu = [line_of(Net, text) for text in ("functional.relu", "torch.relu")]
    clamp = line_of(Net, "clamp")
    assert warnings_of(Net) == [
        f"warning: not replaced, since the network's own code calls them: relu ({', '.join(relu)})",
        f"warning: left in place, though used as activations: clamp(min=0) ({clamp}); to search them too, call a "
        "module of the activation that the factory is given there; else they stay as they are",
    ]


def test_an_activation_that_stays_beside_a_replaced_one_is_named_unless_only_says_what_is_replaced():
    place = line_of(Learned, "torch.sigmoid")
    assert warnings_of(network_from(learned)) == [
        f"warning: left in place, though used as activations: sigmoid in '1' ({place}); to search them too, make each "
        "a module and name its class in only=; to keep them, name in only= what to replace"
    ]
    assert warnings_of(network_from(learned, nn.ReLU)) == []
    assert warnings_of(network_from(learned, (nn.ReLU, Learned))) == []


def test_a_sigmoid_module_before_a_layer_is_named_and_one_at_the_end_is_not():
    def make(*last):
        return lambda: nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4), nn.Sigmoid(), *last)

    (said,) = warnings_of(network_from(make(nn.Linear(4, 2))))
    assert said.startswith("warning: left in place, though used as activations: sigmoid in '3'; to search")
    assert warnings_of(network_from(make())) == []


def test_a_function_that_only_evaluation_calls_is_warned_of():
    assert warnings_of(InEvaluation) == [
        "warning: in evaluation only, the network's own code calls relu "
        f"({line_of(InEvaluation, 'functional.relu')}); a score must be that of the function that was trained, so use "
        "the same activations in both"
    ]
