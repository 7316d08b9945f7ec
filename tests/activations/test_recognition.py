"""Modules and functions are recognised by their values, as expressions that compute the same."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional

from aquasurf_ray.activations import Activation, parse, unregister
from aquasurf_ray.activations.recognition import own_expressions, recognised


class OwnModule(nn.Module):
    """Somebody's own swish, and its number."""

    def __init__(self, slope=1.5):
        super().__init__()
        self.slope = slope

    def forward(self, x):
        return x * torch.sigmoid(self.slope * x)


class Unheard(nn.Module):
    def forward(self, x):
        return torch.cos(3 * x) * x**3


KNOWN = [
    (nn.ReLU(inplace=True), "relu(x)"), (nn.SiLU(), "swish(x)"), (nn.GELU(), "gelu(x)"), (nn.Tanh(), "tanh(x)"),
    (functional.softplus, "softplus(x)"), (functional.gelu, "gelu(x)"), (nn.Mish(), "mish(x)"),
    (nn.LeakyReLU(0.1), "add(relu(x),mul(0.1,min(x,0)))"), (OwnModule(), "mul(x,sigmoid(mul(1.5,x)))"),
]  # fmt: skip


@pytest.mark.parametrize(("function", "text"), KNOWN, ids=[text for _, text in KNOWN])
def test_a_known_function_has_its_expression(function, text):
    assert recognised(function) == text


MODULES = [nn.ELU(0.5), nn.LeakyReLU(0.2), nn.Hardtanh(-2.0, 0.5), nn.GELU("tanh"), nn.PReLU(), nn.ReLU6()]


@pytest.mark.parametrize("module", MODULES, ids=repr)
def test_the_expression_computes_what_the_module_computes(module):
    x = torch.linspace(-9, 9, 301)
    text = recognised(module)
    assert text is not None
    torch.testing.assert_close(Activation(text)(x), module(x).detach(), atol=1e-5, rtol=1e-5)


UNKNOWN = {"own": Unheard(), "sum": lambda x: x.sum(), "part": lambda x: x[:3], "layer": nn.Linear(3, 3)}


@pytest.mark.parametrize("function", UNKNOWN.values(), ids=UNKNOWN.keys())
def test_what_no_expression_computes_is_unknown(function):
    assert recognised(function) is None


class Relu(nn.Module):
    """Called like a built-in operator, and something else."""

    def __init__(self, rate):
        super().__init__()
        self.rate = rate

    def forward(self, x):
        return x * torch.cos(self.rate * x)


class OwnRelu(Relu):
    pass


class ModuleWithTheNameThatIsLongerThanAnOperatorsMayBe(Relu):
    pass


def test_operators_of_ones_own_have_names_that_are_free(caplog):
    long = ModuleWithTheNameThatIsLongerThanAnOperatorsMayBe
    functions = [OwnRelu(1.5), Relu(2.5), Relu(3.5), OwnRelu(1.5), long(4.5), long(5.5), nn.PReLU(), nn.ReLU()]
    *own, prelu, relu = own_expressions(functions)
    first = "module_with_the_name_that_is_longer_than_an_operators_may_be"
    assert own == [
        "own_relu(x)",
        "own_relu_2(x)",
        "own_relu_3(x)",
        "own_relu(x)",
        f"{first[:40]}(x)",
        f"{first[:38]}_2(x)",
    ]
    assert (prelu, relu) == ("add(relu(x),mul(learn(0.25),min(x,0)))", "relu(x)")
    x = torch.randn(7, dtype=torch.float64)
    for name, function in zip(own, functions, strict=False):
        torch.testing.assert_close(parse(name).evaluate(x), function(x))
    assert not caplog.records
    for name in set(own):
        unregister(name.partition("(")[0])


def test_functions_of_one_of_pytorchs_classes_have_their_constants_in_their_names():
    """Its class cannot be renamed, and each name has one meaning in a store."""
    modules = [nn.Threshold(0.1, 0), nn.Threshold(0.5, -1.5), nn.Hardshrink(0.3), nn.Softplus(beta=2)]
    own = own_expressions(modules)
    assert own == ["threshold_0_1_0(x)", "threshold_0_5_minus_1_5(x)", "hardshrink_0_3(x)", "softplus_2_20(x)"]
    x = torch.randn(7, dtype=torch.float64)
    for name, module in zip(own, modules, strict=True):
        torch.testing.assert_close(parse(name).evaluate(x), module(x))
        unregister(name.partition("(")[0])
