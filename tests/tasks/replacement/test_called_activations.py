"""What one pass tells of the functions that a network's code calls: where, how often, as a gate or an activation."""

from __future__ import annotations

import inspect

import pytest
import torch
from torch import nn
from torch.nn import functional

from aquasurf_ray.tasks import activation_calls
from aquasurf_ray.tasks.replacement.called_activations import PLACES


class Net(nn.Module):
    """Two layers, and a function of their outputs a and b between them and a third."""

    def __init__(self, function):
        super().__init__()
        self.first, self.second, self.last = nn.Linear(3, 4), nn.Linear(3, 4), nn.Linear(4, 2)
        self.norm, self.scale, self.function = nn.LayerNorm(4), nn.Parameter(torch.ones(4)), function
        self.square = nn.Parameter(torch.ones(4, 4))
        self.register_buffer("beta", torch.ones(1, 4))

    def forward(self, x):
        return self.last(self.function(self, self.first(x), self.second(x)))


WRITTEN = {
    "silu": (lambda n, a, b: a * torch.sigmoid(a), "sigmoid"),
    "silu with a learned scale": (lambda n, a, b: a * torch.sigmoid(n.scale * a), "sigmoid"),
    "silu with a buffer": (lambda n, a, b: torch.sigmoid(n.beta.view(4) * a).mul(a), "sigmoid"),
    "silu in place": (lambda n, a, b: a.mul_(torch.sigmoid(a)), "sigmoid"),
    "gelu of tanh": (lambda n, a, b: 0.5 * a * (1 + torch.tanh(0.8 * (a + 0.04 * a**3))), "tanh"),
    "gelu of erf": (lambda n, a, b: 0.5 * a * (1 + torch.erf(a / 2**0.5)), "erf"),
    "mish": (lambda n, a, b: a * torch.tanh(functional.softplus(a)), "softplus tanh"),
    "after another": (lambda n, a, b: (h := functional.elu(a)) * torch.sigmoid(h), "sigmoid"),
    "sigmoid": (lambda n, a, b: torch.sigmoid(a), "sigmoid"),
    "sigmoid before a norm": (lambda n, a, b: n.norm(2 * torch.sigmoid(a) - 1), "sigmoid"),
    "sine": (lambda n, a, b: functional.dropout(torch.sin(3 * a), 0.0), "sin"),
    "clamp": (lambda n, a, b: a.clamp(min=0), "clamp(min=0)"),
    "clamp by position": (lambda n, a, b: torch.clamp(a, 0.0), "clamp(min=0)"),
    "clamp_min in place": (lambda n, a, b: a.clamp_min_(0), "clamp(min=0)"),
    "maximum": (lambda n, a, b: torch.maximum(torch.zeros_like(a), a), "maximum(x,0)"),
    "mask": (lambda n, a, b: a * (a > 0), "comparison"),
    "where": (lambda n, a, b: torch.where(a >= 0, a, 0.1 * a), "comparison"),
    "clamp in a residual branch": (lambda n, a, b: b + a.clamp(min=0), "clamp(min=0)"),
    "clamp in a sum in place": (lambda n, a, b: b.add_(a.clamp(min=0)), "clamp(min=0)"),
    "clamp in a difference": (lambda n, a, b: 2 * (b - a.clamp(min=0)), "clamp(min=0)"),
    "clamp beside others": (lambda n, a, b: torch.cat([a.clamp(min=0), b], 1)[:, :4], "clamp(min=0)"),
    "clamp and itself": (lambda n, a, b: torch.hstack([h := a.clamp(min=0), h])[:, :4], "clamp(min=0)"),
    "clamp in a stack": (lambda n, a, b: torch.stack((b, a.clamp(min=0)), 2).sum(2), "clamp(min=0)"),
    "clamp in parts": (lambda n, a, b: torch.cat(a.clamp(min=0).chunk(2, 1), 1), "clamp(min=0)"),
    "clamp behind a gate": (lambda n, a, b: a.clamp(min=0) * torch.sigmoid(b), "clamp(min=0)"),
    "clamp before a matrix": (lambda n, a, b: torch.einsum("oi,ni->no", n.square, a.clamp(min=0)), "clamp(min=0)"),
    "maximum in a residual branch": (lambda n, a, b: b + torch.maximum(a, torch.zeros(())), "maximum(x,0)"),
    "sigmoid in a residual branch": (lambda n, a, b: b + torch.sigmoid(a), "sigmoid"),
}
NOT_WRITTEN = {
    "gate": lambda n, a, b: a * torch.sigmoid(b),
    "gated linear unit": lambda n, a, b: (h := torch.cat([a, b], 1).chunk(2, 1))[0] * torch.sigmoid(h[1]),
    "squeeze and excitation": lambda n, a, b: a * torch.sigmoid(n.norm(a)),
    "cell": lambda n, a, b: torch.sigmoid(a) * torch.tanh(b) + (1 - torch.sigmoid(a)) * b,
    "guard": lambda n, a, b: a / a.square().clamp(min=0).sum(1, keepdim=True).sqrt(),
    "range": lambda n, a, b: a.clamp(0, 6) + a.clamp(max=0) + torch.maximum(a, b),
    "positions": lambda n, a, b: a * torch.where((i := torch.arange(4)) > 1, i, i.clamp(min=0)),
    "weights": lambda n, a, b: torch.sigmoid(a @ b.T) @ b,
    "attention": lambda n, a, b: torch.softmax(a, 1),
    "positive weights": lambda n, a, b: functional.linear(a, n.square.clamp(min=0)) + torch.sigmoid(n.scale),
    "encoding of positions": lambda n, a, b: a + torch.cat([torch.sin(i := torch.ones(2)), torch.cos(i)]),
    "encoding of times": lambda n, a, b: torch.cat([torch.sin(n.scale * a), torch.cos(n.scale * a)], 1)[:, :4],
    "gate in a sum": lambda n, a, b: b + a * torch.sigmoid(b.sum(1, keepdim=True)),
    "guard of another": lambda n, a, b: a / (b.var(1, keepdim=True).clamp(min=0) + 1).sqrt(),
    "gate of a gated linear unit": lambda n, a, b: (
        (h := n.norm(b).split(2, 1))[0].repeat(1, 2) * torch.sigmoid(h[1]).repeat(1, 2)
    ),
    "reparametrisation": lambda n, a, b: a + torch.randn_like(a) * torch.exp(0.5 * b),
}


@pytest.mark.parametrize("name", WRITTEN)
def test_an_activation_that_is_written_out_is_told_from_a_gate(name):
    function, expected = WRITTEN[name]
    calls = activation_calls(Net(function), torch.randn(5, 3))
    found = [call for call in calls if call.stays and call.hidden]
    assert sorted(call.function for call in found) == expected.split()
    line = inspect.getsourcelines(function)[1]
    assert all(call.hidden == call.places for call in found)
    assert all(place.endswith(f"{__name__.rpartition('.')[2]}.py:{line}") for call in found for place in call.places)


@pytest.mark.parametrize("name", NOT_WRITTEN)
def test_a_gate_a_guard_or_a_weight_is_no_activation(name):
    calls = activation_calls(Net(NOT_WRITTEN[name]), torch.randn(5, 3))
    assert [call for call in calls if call.hidden or call.function not in ("sigmoid", "softmax", "tanh")] == []
    assert all(call.stays for call in calls)


def test_every_place_of_a_function_is_named_up_to_a_number_of_them():
    def twice(n, a, b):
        a = functional.relu(a)
        return torch.relu(a) + a.relu()

    (call,) = activation_calls(Net(twice), torch.randn(5, 3))
    line = inspect.getsourcelines(twice)[1]
    file = call.places[0].rpartition(":")[0]
    assert str(call) == f"relu ({file}:{line + 1}, {file}:{line + 2})"
    assert call.count == 3
    many = tuple(f"a.py:{i}" for i in range(PLACES + 2))
    assert str(type(call)("", "relu", places=many)) == f"relu ({', '.join(many[:PLACES])} and 2 more)"


def test_the_place_of_a_module_is_where_the_networks_code_calls_it():
    class Outer(nn.Module):
        def __init__(self):
            super().__init__()
            self.parts = nn.Sequential(nn.Linear(3, 4), nn.ReLU())

        def forward(self, x):
            return self.parts(x)

    (call,) = activation_calls(Outer(), torch.randn(5, 3))
    assert str(call).startswith("relu in 'parts.1' (")
    assert call.places[0].endswith(f"{__name__.rpartition('.')[2]}.py:{inspect.getsourcelines(Outer)[1] + 6}")
    (call,) = activation_calls(nn.Sequential(nn.Linear(3, 4), nn.ReLU()), torch.randn(5, 3))
    assert str(call) == "relu in '1'", "nothing of the user's own code calls it"


def test_evaluation_may_call_other_functions_than_training():
    net = Net(lambda n, a, b: torch.tanh(a) if n.training else functional.elu(a))
    x = torch.randn(5, 3)
    assert [call.function for call in activation_calls(net, x)] == ["tanh"]
    assert [call.function for call in activation_calls(net, x, training=False)] == ["elu"]
    assert net.training
