"""`init="auto"`: what enters each activation has mean 0 and variance 1, measured by hooks of the test's own."""

from __future__ import annotations

import copy
import math
import warnings

import pytest
import torch
from scipy import integrate
from torch import nn
from torch.nn import functional

from aquasurf_ray.tasks.errors import TaskError
from aquasurf_ray.tasks.fitted_weights import fit_weights
from aquasurf_ray.tasks.task import Task


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


class Noted(nn.Module):
    """An activation that notes what it gets."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        self.got = x.detach().double()
        return self.function(x)


def noted(network):
    return [module.got for module in network.modules() if isinstance(module, Noted)]


def mlp(function, depth=6, width=128):
    layers = [layer for _ in range(depth) for layer in (nn.Linear(width, width), Noted(function))]
    return nn.Sequential(*layers, nn.Linear(width, 10))


def cnn(function, norm):
    def block(before, after, **settings):
        layer = nn.Conv2d(before, after, 3, padding=1, bias=not norm, **settings)
        return [layer, *([nn.BatchNorm2d(after)] if norm else []), Noted(function)]

    return nn.Sequential(
        *block(3, 16),
        *block(16, 32, groups=4, stride=2),
        nn.MaxPool2d(2),
        nn.Dropout(0.2),
        nn.ConvTranspose2d(32, 16, 2, stride=2),
        Noted(function),
        nn.Flatten(),
        nn.Linear(16 * 64, 10),
    )


class Residual(nn.Module):
    """Sums and a concatenation, without norms."""

    def __init__(self, function):
        super().__init__()
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.Linear(64, 64), Noted(function), nn.Linear(64, 64), Noted(function)) for _ in range(4)
        )
        self.head = nn.Linear(128, 10)

    def forward(self, x):
        first = x
        for block in self.blocks:
            x = x + block(x)
        return self.head(torch.cat([x, first], 1))


@pytest.mark.parametrize("function", [torch.relu, torch.tanh, lambda x: 30 * x * x - 5, torch.exp])
@pytest.mark.parametrize(
    ("make", "shape"),
    [
        (mlp, (256, 128)),
        (lambda f: cnn(f, norm=False), (64, 3, 16, 16)),
        (lambda f: cnn(f, norm=True), (64, 3, 16, 16)),
        (Residual, (256, 64)),
    ],
    ids=["mlp", "cnn", "cnn with norms", "residual"],
)
def test_what_enters_activations_and_leaves_the_network_has_mean_0_and_variance_1(function, make, shape):
    network, inputs = make(function), torch.randn(shape) * 3 + 1
    fitted = fit_weights(network, inputs)
    assert not fitted.left
    # the same dropout masks as the fit
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        outputs = network(inputs).detach().double()
    for signal in (*noted(network), outputs):
        is_normalised = make.__name__ == "<lambda>"  # without biases, the mean of a convolution is only about 0
        assert abs(signal.mean()) < (0.05 if is_normalised else 1e-3)
        assert signal.var() == pytest.approx(1, abs=5e-3)


def test_one_number_a_layer_changes_and_nothing_else():
    network, inputs = mlp(torch.tanh), torch.randn(100, 128)
    before = copy.deepcopy(network.state_dict())
    fitted = fit_weights(network, inputs)
    for name, factor in fitted.factors.items():
        after = network.state_dict()[f"{name}.weight"]
        torch.testing.assert_close(after, before[f"{name}.weight"] * factor, rtol=1e-5, atol=1e-8)
        shift = network.state_dict()[f"{name}.bias"] - before[f"{name}.bias"] * factor
        assert shift.std() < 1e-6
    assert list(fitted.factors) == ["0", "2", "4", "6", "8", "10", "12"]


@pytest.mark.parametrize(("function", "second"), [(torch.relu, 0.5), (torch.tanh, None)])
def test_the_factors_are_those_that_quadrature_expects(function, second):
    """Of an infinitely wide layer without biases whose input is f(z): its output has the variance n E[w^2] E[f(z)^2]
    (He et al. 2015 for relu, where that is half of z's)."""
    if second is None:
        density = lambda x: math.tanh(x) ** 2 * math.exp(-x * x / 2) / math.sqrt(2 * math.pi)  # noqa: E731
        second = integrate.quad(density, -10, 10)[0]
    width = 1024
    layers = [nn.Linear(width, width, bias=False) for _ in range(4)]
    for layer in layers:
        nn.init.normal_(layer.weight, std=0.7 / math.sqrt(width))
    network = nn.Sequential(*[part for layer in layers for part in (layer, Noted(function))])
    factors = list(fit_weights(network, torch.randn(500, width)).factors.values())
    assert factors[0] == pytest.approx(1 / 0.7, rel=0.02)
    assert factors[1:] == pytest.approx([1 / (0.7 * math.sqrt(second))] * 3, rel=0.04)


class Transformer(nn.Module):
    def __init__(self, attention=True):
        super().__init__()
        self.embedding = nn.Embedding(20, 32)
        layer = nn.TransformerEncoderLayer(32, 4, 64, dropout=0.0, batch_first=True, norm_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(32, 20)

    def forward(self, tokens):
        return self.head(self.encoder(self.embedding(tokens)))


def test_attention_counts_as_queries_keys_values_and_an_output():
    network, tokens = Transformer(), torch.randint(0, 20, (64, 12))
    embedding = network.embedding.weight.clone()
    fitted = fit_weights(network, tokens)
    assert fitted.left == {"embedding": "an embedding"}
    assert torch.equal(network.embedding.weight, embedding)
    assert len(fitted.factors) == 2 * (4 + 2) + 1
    attention = network.encoder.layers[1].self_attn
    seen = {}
    attention.register_forward_hook(
        lambda module, args, kwargs, output: seen.update(x=args[0], y=output[0]), with_kwargs=True
    )
    layers = [network.encoder.layers[1].linear1, network.encoder.layers[1].linear2, network.head]
    for layer in layers:
        layer.register_forward_hook(lambda module, args, output: seen.setdefault(module, output))
    network(tokens)
    packed = functional.linear(seen["x"], attention.in_proj_weight, attention.in_proj_bias).chunk(3, -1)
    for signal in (*packed, seen["y"], *(seen[layer] for layer in layers)):
        assert abs(signal.mean().item()) < 1e-3
        assert signal.var().item() == pytest.approx(1, abs=5e-3)


def test_what_must_not_be_scaled_stays_as_drawn_and_is_named():
    class Odd(nn.Module):
        def __init__(self):
            super().__init__()
            self.embedding = nn.Embedding(20, 16)
            self.frozen = nn.Linear(16, 16).requires_grad_(False)
            self.zero = nn.Linear(16, 16)
            nn.init.zeros_(self.zero.weight)
            nn.init.zeros_(self.zero.bias)
            self.standardized = Standardized(16, 16)
            self.bare = nn.Parameter(torch.randn(16, 16))
            self.unused = nn.Linear(3, 3)
            self.recurrent = nn.GRU(16, 16, batch_first=True)
            self.normed = nn.utils.parametrizations.weight_norm(nn.Linear(16, 16))
            self.head = nn.Linear(16, 20, bias=False)
            self.head.weight = self.embedding.weight

        def forward(self, tokens):
            x = self.frozen(self.embedding(tokens))
            x = self.standardized(x + self.zero(x)) @ self.bare
            return self.head(self.normed(self.recurrent(x)[0]))

    class Standardized(nn.Linear):
        """Its output does not depend on the size of its weights."""

        def forward(self, x):
            return functional.linear(x, self.weight / self.weight.std())

    network, tokens = Odd(), torch.randint(0, 20, (64, 12))
    before = copy.deepcopy(network.state_dict())
    fitted = fit_weights(network, tokens)
    assert fitted.factors == {}
    expected = {"embedding", "frozen", "zero", "standardized", "the network.bare", "unused", "head"}
    assert expected <= fitted.left.keys()
    assert fitted.left["embedding"] == "an embedding"
    assert fitted.left["zero"] == "its output does not vary"
    assert fitted.left["standardized"] == "its output does not follow its weights"
    assert {name for name in fitted.left if "recurrent" in name or "normed" in name}
    for name, values in network.state_dict().items():
        assert torch.equal(values, before[name]), name


def test_the_network_is_otherwise_left_as_it_was_found():
    network, inputs = cnn(torch.relu, norm=True), torch.randn(32, 3, 16, 16)
    statistics = network[1].running_mean.clone()
    state = torch.get_rng_state()
    first = fit_weights(copy.deepcopy(network), inputs)
    assert fit_weights(network, inputs).factors == first.factors
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(network[1].running_mean, statistics)
    assert network.training
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in network.modules())


def test_a_layer_that_the_network_thaws_as_it_runs_stays_frozen():
    class Thaws(nn.Sequential):
        def forward(self, x):
            self[0].requires_grad_(True)
            return super().forward(x)

    network = Thaws(nn.Linear(4, 8).requires_grad_(False), nn.Tanh(), nn.Linear(8, 2))
    fit_weights(network, torch.randn(50, 4))
    assert [p.requires_grad for p in network.parameters()] == [False, False, True, True]


def test_a_function_that_overflows_leaves_what_follows_as_drawn():
    network = mlp(lambda x: torch.exp(100 * x * x), depth=1)
    fitted = fit_weights(network, torch.randn(50, 128))
    assert list(fitted.factors) == ["0"]
    assert fitted.left == {"2": "its output is not finite"}


def test_another_word_is_refused():
    with pytest.raises(TaskError, match="init must be 'default' or 'auto', got 'automatic'"):
        Task("t", network=lambda a: nn.Sequential(a()), data=lambda: None, init="automatic")


def test_a_layer_without_a_shape_yet_is_left_to_the_refusal_of_its_network():
    network = nn.Sequential(nn.LazyLinear(4), nn.ReLU(), nn.Linear(4, 2))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch warns that lazy modules are under development
        assert list(fit_weights(network, torch.randn(10, 3)).factors) == ["2"]
