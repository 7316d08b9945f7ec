"""Every named function against its paper's formula in 40 digits, and against a module of PyTorch, timm or transformers.

The points lie between -30 and 30 and on no kink, since a subgradient there is a convention. Float64 must agree with the
formula to its last digits, and float32 to its own: an error of the argument of one part in 2^24 is allowed for, which a
steep function amplifies.
"""

from __future__ import annotations

import importlib
from contextlib import contextmanager
from functools import cache

import mpmath as mp
import numpy as np
import pytest
import torch
from timm.layers import activations as timm
from timm.models.metaformer import StarReLU
from torch import nn
from transformers.activations import XIELUActivation

from aquasurf_ray.activations import (
    BASELINES,
    Activation,
    ActivationError,
    ExpressionError,
    SearchSpace,
    fingerprint,
    parse,
    register_unary,
    unregister,
)
from aquasurf_ray.activations.zoo import (
    ZOO,
    baseline_names,
    expanded,
    name_of,
    named_function,
    zoo_expressions,
    zoo_functions,
)

POINTS = np.arange(-30, 30, 0.25) + 0.0625
NAMES = [function.name for function in ZOO]
FLOAT32 = 2.0**-24

mp.mp.dps = 40
half, one, two = mp.mpf(1) / 2, mp.mpf(1), mp.mpf(2)


def sigmoid(x):
    return 1 / (1 + mp.exp(-x))


def gelu(x):
    return x * mp.erfc(-x / mp.sqrt(2)) / 2


def elu(x, a=1):
    return x if x > 0 else a * mp.expm1(x)


def leaky(x, s):
    return x if x > 0 else s * x


def clip(x, low, high):
    return min(max(x, mp.mpf(low)), mp.mpf(high))


FORMULAS = {
    "relu": lambda x: max(x, mp.mpf(0)),
    "leaky_relu": lambda x: leaky(x, mp.mpf("0.01")),
    "relu6": lambda x: clip(x, 0, 6),
    "hardtanh": lambda x: clip(x, -1, 1),
    "relu_squared": lambda x: max(x, mp.mpf(0)) ** 2,
    "leaky_relu_squared": lambda x: leaky(x, half) ** 2,
    "elu": elu,
    "celu": elu,
    "selu": lambda x: mp.mpf("1.0507009873554804934193349852946") * elu(x, mp.mpf("1.6732632423543772848170429916717")),
    "sigmoid": sigmoid,
    "tanh": mp.tanh,
    "softplus": lambda x: mp.log1p(mp.exp(x)),
    "shifted_softplus": lambda x: mp.log(half * mp.exp(x) + half),
    "softsign": lambda x: x / (1 + abs(x)),
    "log_sigmoid": lambda x: -mp.log1p(mp.exp(-x)),
    "hardsigmoid": lambda x: clip(x / 6 + half, 0, 1),
    "hardswish": lambda x: x * clip(x / 6 + half, 0, 1),
    "hardmish": lambda x: x * clip(x / 2 + 1, 0, 1),
    "swish": lambda x: x * sigmoid(x),
    "gelu": gelu,
    "quick_gelu": lambda x: x * sigmoid(mp.mpf("1.702") * x),
    "gelu_tanh": lambda x: x / 2 * (1 + mp.tanh(mp.sqrt(2 / mp.pi) * (x + mp.mpf("0.044715") * x**3))),
    "mish": lambda x: x * mp.tanh(mp.log1p(mp.exp(x))),
    "telu": lambda x: x * mp.tanh(mp.exp(x)),
    "lisht": lambda x: x * mp.tanh(x),
    "logish": lambda x: x * mp.log1p(sigmoid(x)),
    "smish": lambda x: x * mp.tanh(mp.log1p(sigmoid(x))),
    "serf": lambda x: x * mp.erf(mp.log1p(mp.exp(x))),
    "phish": lambda x: x * mp.tanh(gelu(x)),
    "elish": lambda x: elu(x) * sigmoid(x),
    "tanhshrink": lambda x: x - mp.tanh(x),
    "softshrink": lambda x: mp.sign(x) * max(abs(x) - half, mp.mpf(0)),
    "squareplus": lambda x: (x + mp.sqrt(x**2 + 4)) / 2,
    "bent_identity": lambda x: (mp.sqrt(x**2 + 1) - 1) / 2 + x,
    "isru": lambda x: x / mp.sqrt(1 + x**2),
    "laplace": lambda x: mp.erfc(-(x - mp.mpf("0.707107")) / (mp.mpf("0.282095") * mp.sqrt(2))) / 2,
    "gaussian": lambda x: mp.exp(-(x**2) / 2),
    "sin": mp.sin,
    "siren": lambda x: mp.sin(30 * x),
    "sinc": mp.sinc,
    "gcu": lambda x: x * mp.cos(x),
    "gelu_sinc": lambda x: gelu(x) * (1 + mp.sinc(x) / 2),
    "grafs": lambda x: (
        mp.mpf("0.4") * gelu(mp.mpf("0.44") * x**2 + mp.mpf("0.56") * gelu(x)) + mp.mpf("0.6") * x * sigmoid(x)
    ),
    "prelu": lambda x: leaky(x, mp.mpf("0.25")),
    "star_relu": lambda x: mp.mpf("0.8944") * max(x, mp.mpf(0)) ** 2 - mp.mpf("0.4472"),
    "swish_beta": lambda x: x * sigmoid(x),
    "snake": lambda x: x + mp.sin(x) ** 2,
    "acon_c": lambda x: x * sigmoid(x),
    "xielu": lambda x: mp.mpf("0.8") * (x**2 if x > 0 else mp.expm1(x) - x) + x / 2,
    "poly_relu": lambda x: sum(max(x, mp.mpf(0)) ** i for i in (1, 2, 3)) / 3,
    "dyt": lambda x: mp.tanh(x / 2),
    "derf": lambda x: mp.erf(x / 2),
    "pau": lambda x: (
        mp.polyval(list(map(mp.mpf, ("0.1515", "0.928", "2.0046", "1.6514", "0.505", "0.0336"))), x)
        / (1 + abs(mp.polyval(list(map(mp.mpf, ("0.3001", "0", "3.9693", "0", "0"))), x)))
    ),
}
"""The papers' formulas, learned parameters at their initial values, without a function of this package or PyTorch."""

MODULES = {
    "relu": nn.ReLU,
    "leaky_relu": nn.LeakyReLU,
    "leaky_relu(0.1)": lambda: nn.LeakyReLU(0.1),
    "leaky_relu(x,0.5)": lambda: nn.LeakyReLU(0.5),
    "relu6": nn.ReLU6,
    "hardtanh": nn.Hardtanh,
    "hardtanh(x,-2,0.5)": lambda: nn.Hardtanh(-2.0, 0.5),
    "relu_squared": "transformers:relu2",
    "elu": nn.ELU,
    "elu(x,0.5)": lambda: nn.ELU(0.5),
    "celu": nn.CELU,
    "celu(2)": lambda: nn.CELU(2.0),
    "selu": nn.SELU,
    "sigmoid": nn.Sigmoid,
    "tanh": nn.Tanh,
    "softplus": nn.Softplus,
    "softsign": nn.Softsign,
    "logsigmoid": nn.LogSigmoid,
    "hardsigmoid": nn.Hardsigmoid,
    "hardswish": nn.Hardswish,
    "hard_mish": timm.HardMish,
    "silu": nn.SiLU,
    "gelu": nn.GELU,
    "quick_gelu": "transformers:quick_gelu",
    "gelu_sigmoid": timm.QuickGELU,
    "gelu_tanh": lambda: nn.GELU(approximate="tanh"),
    "gelu_new": "transformers:gelu_new",
    "mish": nn.Mish,
    "tanhshrink": nn.Tanhshrink,
    "softshrink": nn.Softshrink,
    "softshrink(2)": lambda: nn.Softshrink(2.0),
    "laplace": "transformers:laplace",
    "prelu": nn.PReLU,
    "prelu(0.1)": lambda: nn.PReLU(init=0.1),
    "star_relu": lambda: StarReLU(0.8944, -0.4472),
    "xielu": lambda: XIELUActivation(dtype=torch.float64),
}


@cache
def values_and_slopes(name):
    """The formula's values and slopes at the points, in 40 digits rounded to float64."""
    formula = FORMULAS[name]
    values = [float(formula(mp.mpf(x))) for x in POINTS.tolist()]
    return np.array(values), np.array([float(mp.diff(formula, mp.mpf(x))) for x in POINTS.tolist()])


@contextmanager
def default_dtype(dtype):
    """Make modules in this type: learned parameters of float32 would not have the digits of the formula."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def ours(text, dtype, points=POINTS):
    x = torch.tensor(points, dtype=dtype, requires_grad=True)
    with default_dtype(dtype):
        y = Activation(text)(x)
    (slopes,) = torch.autograd.grad(y.sum(), x)
    return y.detach().double().numpy(), slopes.double().numpy()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.slow
def test_a_function_and_its_slope_are_the_papers_formula(name):
    values, slopes = values_and_slopes(name)
    for dtype, unit in ((torch.float64, 2.0**-53), (torch.float32, FLOAT32)):
        got, got_slopes = ours(name, dtype)
        assert np.isfinite(got).all()
        assert np.isfinite(got_slopes).all()
        allowed = 16 * unit * (np.abs(values) + np.abs(POINTS) * (1 + np.abs(slopes)))
        assert (np.abs(got - values) <= allowed).all(), f"{dtype}: {np.abs(got - values).max()}"
        curvature = np.abs(np.gradient(slopes, POINTS)) if name != "siren" else 900.0
        allowed = 32 * unit * (np.abs(slopes) + np.abs(POINTS) * (1 + curvature))
        if "sinc" in name:  # PyTorch's slope of sinc, (x cos(x) - sin(x)) / x², cancels near 0
            allowed += 4 * unit / np.abs(POINTS)
        assert (np.abs(got_slopes - slopes) <= allowed).all(), f"{dtype}: {np.abs(got_slopes - slopes).max()}"


@pytest.mark.parametrize("text", MODULES)
def test_a_function_and_its_slope_are_those_of_the_library_that_has_it(text):
    with default_dtype(torch.float64):
        module = library_module(MODULES[text])
    x = torch.tensor(POINTS, requires_grad=True)
    expected = module(x)
    (slopes,) = torch.autograd.grad(expected.sum(), x)
    got, got_slopes = ours(text, torch.float64)
    # PyTorch's softplus is the identity from 20 on, and its slope of hardsigmoid is 1/6 in float32
    atol = 1e-8 if text in ("softplus", "hardsigmoid") else 1e-13
    np.testing.assert_allclose(got, expected.detach().numpy(), rtol=1e-12, atol=atol)
    np.testing.assert_allclose(got_slopes, slopes.numpy(), rtol=1e-12, atol=atol)


def library_module(which):
    if not isinstance(which, str):
        return which()
    package, _, name = which.partition(":")
    return importlib.import_module(f"{package}.activations").ACT2FN[name]


@pytest.mark.parametrize(
    ("name", "make"),
    [("prelu", lambda: nn.PReLU(8)), ("star_relu", MODULES["star_relu"]), ("xielu", MODULES["xielu"])],
)
def test_slopes_by_learned_parameters_are_those_of_the_library_that_has_them(name, make):
    generator = torch.Generator().manual_seed(0)
    x, weights = (torch.randn(32, 8, dtype=torch.float64, generator=generator) for _ in range(2))
    with default_dtype(torch.float64):
        pair = Activation(name), make()
        for module in pair:
            (module(x) * weights).sum().backward()
    own, expected = (torch.cat([p.grad.flatten() for p in module.parameters()]) for module in pair)
    np.testing.assert_allclose(own.numpy(), expected.numpy(), rtol=1e-12, atol=1e-12)


KINKS = {"relu", "leaky_relu", "relu6", "selu", "prelu", "poly_relu"}
SMOOTH_AT_ZERO = sorted(set(NAMES) - KINKS)


@pytest.mark.parametrize("name", SMOOTH_AT_ZERO)
def test_a_function_without_a_kink_at_zero_has_its_slope_there(name):
    """Zero is where padding and dead units are."""
    expected = float(mp.diff(FORMULAS[name], mp.mpf(0), direction=1))
    assert expected == pytest.approx(float(mp.diff(FORMULAS[name], mp.mpf(0), direction=-1)), abs=1e-6)
    assert ours(name, torch.float32, np.zeros(1))[1] == pytest.approx(expected, abs=1e-6)


LARGEST_POWER = {"poly_relu": 12, "pau": 7}  # third and fifth powers of x


@pytest.mark.parametrize("name", NAMES)
def test_no_tail_is_lost_in_float32(name):
    """Finite to 10^18 on both sides, where a square is still a number of float32, in value and slope."""
    powers = range(2, LARGEST_POWER.get(name, 18) + 1)
    got, slopes = ours(name, torch.float32, np.array([sign * 10.0**power for power in powers for sign in (-1, 1)]))
    assert np.isfinite(got).all()
    assert np.isfinite(slopes).all()


# --- names ----------------------------------------------------------------------------------------------------------


def test_every_function_is_held_against_a_formula():
    assert set(FORMULAS) == set(NAMES)


def test_names_are_unique_and_never_another_operator():
    names = [name for function in ZOO for name in (function.name, *function.aliases)]
    assert len(names) == len(set(names))
    from aquasurf_ray.activations.registry import find_operator

    for function in ZOO:
        for name in (function.name, *function.aliases):
            if find_operator(name) is not None:
                assert fingerprint(parse(f"{name}(x)")) == fingerprint(parse(function.text())), name


@pytest.mark.parametrize(
    ("written", "expression"),
    [
        ("relu6", "min(relu(x),6)"),
        (" relu6 ( x ) ", "min(relu(x),6)"),
        ("relu", "relu(x)"),
        ("erf", "erf(x)"),
        ("silu", "swish(x)"),
        ("silu(tanh(x))", "swish(tanh(x))"),
        ("swish(x,1.702)", "mul(x,sigmoid(mul(1.702,x)))"),
        ("silu(1.702)", "mul(x,sigmoid(mul(1.702,x)))"),
        ("leaky_relu(0.1)", "add(relu(x),mul(0.1,min(x,0)))"),
        ("leaky_relu(x,0.10)", "add(relu(x),mul(0.1,min(x,0)))"),
        ("leaky_relu(exp(x),0.1)", "add(relu(exp(x)),mul(0.1,min(exp(x),0)))"),
        ("hardtanh(-2)", "min(max(x,-2),1)"),
        ("mul(0.5,relu6(add(x,x)))", "mul(0.5,min(relu(add(x,x)),6))"),
        ("relu6(relu6(x))", "min(relu(min(relu(x),6)),6)"),
        ("elu(0.5)", "0.5"),
        ("prelu", "add(relu(x),mul(learn_channel(0.25),min(x,0)))"),
        ("prelu(tanh(x),0.1)", "add(relu(tanh(x)),mul(learn_channel(0.1),min(tanh(x),0)))"),
        ("leaky_relu(learn(0.1))", "add(relu(x),mul(learn(0.1),min(x,0)))"),
    ],
)
def test_a_name_stands_for_its_expression(written, expression):
    assert str(parse(written)) == expression
    assert Activation(written).name == expression


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("relu6(1)", "function 'relu6' at 1 takes an argument and no constants, got 1"),
        ("leaky_relu(x,1,2)", "function 'leaky_relu' at 1 takes an argument and at most 1 constants, got 2"),
        ("leaky_relu(x,exp(x))", "function 'leaky_relu' at 1 takes one argument and then numbers"),
        ("mul(x,relu6)", "function 'relu6' at 7 lacks its argument; write relu6(x)"),
        ("hardwish", "unknown name 'hardwish' at 1; did you mean 'hardswish'?"),
        ("mul(x,hardwish(x))", "unknown operator 'hardwish' at 7; did you mean 'hardswish'?"),
        ("relu(x,x)", "operator 'relu' at 1 takes 1 argument, got 2"),
        (
            "mul(x,snake(learn(2)))",
            "function 'snake' at 7 learns its constant 1 already, got learn(2); give the initial value, a number",
        ),
    ],
)
def test_errors_name_the_function_and_the_remedy(text, says):
    with pytest.raises(ExpressionError) as caught:
        parse(text)
    assert str(caught.value) == says


def test_an_operator_of_the_users_own_keeps_its_name():
    """Runs that began before the zoo may have operators of its names; they stay what they are."""
    register_unary("hardswish", torch.sin)
    try:
        assert str(parse("hardswish")) == str(parse("hardswish(x)")) == "hardswish(x)"
        with pytest.raises(ActivationError):
            parse("hardswish(x,x)")
    finally:
        unregister("hardswish")
    assert str(parse("hardswish")) == named_function("hardswish").text()


def test_a_space_takes_names_of_the_zoo():
    space = SearchSpace.define("mine", names=["hardswish", "leaky_relu(0.1)", "swish"])
    assert list(space.names()) == [str(parse("hardswish")), str(parse("leaky_relu(0.1)")), "swish(x)"]


def test_lists_hold_each_function_once():
    functions = dict(zoo_functions())
    assert [name for name in NAMES if name not in functions] == ["celu"]
    assert expanded(["zoo", "exp(x)"]) == [*map(str, functions.values()), "exp(x)"]
    assert zoo_expressions()["celu"] != zoo_expressions()["elu"]


def test_the_papers_baselines_come_first():
    assert baseline_names() == baseline_names("paper") == BASELINES
    both = baseline_names("zoo")
    assert both[:8] == BASELINES
    assert {fingerprint(name) for name in both} == {fingerprint(e) for _, e in zoo_functions()}
    assert len(both) == len(zoo_functions())
    with pytest.raises(ValueError, match="must be paper or zoo, got 'all'"):
        baseline_names("all")


def test_the_name_of_a_function_is_found_in_any_spelling():
    assert name_of("mul(sigmoid(mul(x,1.702)),x)") == "quick_gelu"
    assert name_of("exp(x)") is None


def values(text, x, **parameters):
    """The values of a function whose learned parameters have these values, in float64."""
    module = Activation(text).double()
    with torch.no_grad():
        for name, value in parameters.items():
            getattr(module, f"learned_{name}").fill_(value)
    return module(torch.from_numpy(x)).detach().numpy()


def sigma(x):
    return 1 / (1 + np.exp(-x))


@pytest.mark.parametrize(
    ("text", "parameters", "formula"),
    [
        # Each use of a function has parameters of its own.
        ("add(snake(x),snake(tanh(x)))", {"a": 0.5, "b": 2.0}, lambda x, a, b: snaked(x, a) + snaked(np.tanh(x), b)),
        ("snake(snake(x),2)", {"a": 0.5, "b": 3.0}, lambda x, a, b: snaked(snaked(x, a), b)),
        ("mul(learn(2,a),snake(x))", {"a": 3.0, "b": 0.5}, lambda x, a, b: a * snaked(x, b)),
        # A constant that is learned is one parameter, wherever the formula has it.
        ("celu(learn(1))", {"a": 0.5}, lambda x, a: np.where(x > 0, x, a * np.expm1(np.minimum(x, 0) / a))),
        ("softshrink(x,learn(0.5))", {"a": 0.75}, lambda x, a: np.sign(x) * np.maximum(np.abs(x) - a, 0)),
        # What is learned inside an argument is one parameter, wherever the formula has its argument.
        ("hardswish(mul(learn(1),x))", {"a": 2.0}, lambda x, a: a * x * np.clip(a * x + 3, 0, 6) / 6),
        (
            "swish_beta(swish_beta(x))",
            {"a": 0.5, "b": 3.0},
            lambda x, a, b: x * sigma(a * x) * sigma(b * x * sigma(a * x)),
        ),
    ],
)
def test_what_is_learned_belongs_to_one_use_of_a_function(text, parameters, formula):
    assert set(parse(text).parameter_names) == set(parameters)
    x = np.linspace(-3.1, 3.2, 41)
    np.testing.assert_allclose(values(text, x, **parameters), formula(x, **parameters), rtol=1e-12, atol=1e-14)


def snaked(x, a):
    return x + np.sin(a * x) ** 2 / a


def test_a_function_within_itself_has_the_parameters_of_both():
    """Rational functions have 10; written out, the inner one stands in nine places of the outer one."""
    assert len(parse("pau(pau(x))").parameters) == 20
