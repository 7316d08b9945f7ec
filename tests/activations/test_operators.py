"""Every operator against a formula of NumPy or SciPy that shares no code with PyTorch's, and its gradient."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import special

from aquasurf_ray.activations import Activation, all_operators
from aquasurf_ray.activations.operators import ALL_UNARY, BINARY, EVERY_UNARY, NARY, PAPER_UNARY

Array = NDArray[np.float64]

_SELU_SCALE, _SELU_ALPHA = 1.0507009873554804934, 1.6732632423543772848

UNARY: dict[str, Callable[[Array], Array]] = {
    "zero": np.zeros_like,
    "one": np.ones_like,
    "identity": lambda x: x,
    "negative": lambda x: 0.0 - x,
    "abs": np.abs,
    "reciprocal": lambda x: x**-1.0,
    "square": lambda x: x * x,
    "exp": lambda x: np.power(np.e, x),
    "erf": lambda x: np.sign(x) * special.gammainc(0.5, x * x),
    "erfc": lambda x: 2.0 * special.ndtr(-np.sqrt(2.0) * x),
    "sinh": lambda x: np.expm1(x) / 2 - np.expm1(-x) / 2,
    "cosh": lambda x: (np.exp(x) + np.exp(-x)) / 2,
    "tanh": lambda x: np.sign(x) * (1 - 2 / (np.exp(2 * np.abs(x)) + 1)),
    "expm1": lambda x: 2 * np.exp(x / 2) * np.sinh(x / 2),
    "sigmoid": special.expit,
    "log_sigmoid": lambda x: -np.logaddexp(0.0, -x),
    "arcsinh": np.arcsinh,
    "arctan": lambda x: np.angle(1.0 + 1j * x),
    "bessel_i0e": lambda x: special.ive(0, x),
    "bessel_i1e": lambda x: special.ive(1, x),
    "relu": lambda x: (x + np.abs(x)) / 2,
    "elu": lambda x: np.where(x > 0, x, np.expm1(x)),
    "selu": lambda x: _SELU_SCALE * np.where(x > 0, x, _SELU_ALPHA * np.expm1(x)),
    "swish": lambda x: x * special.expit(x),
    "softplus": lambda x: np.logaddexp(0.0, x),
    "softsign": lambda x: x / (1.0 + np.abs(x)),
    "hard_sigmoid": lambda x: np.clip(x / 5.0 + 0.5, 0.0, 1.0),
    "elish": lambda x: np.where(x > 0, x * special.expit(x), np.expm1(x) * special.expit(x)),
    "leakyrelu": lambda x: np.where(x > 0, x, x / 100.0),
    "mish": lambda x: x * np.tanh(np.logaddexp(0.0, x)),
    "gelu": lambda x: x * special.ndtr(x),
    "sin": lambda x: np.exp(1j * x).imag,
    "cos": lambda x: np.exp(1j * x).real,
    "sinc": lambda x: np.sign(x) * special.spherical_jn(0, np.abs(x)) * np.sign(x) + (x == 0),
    "sqrt": lambda x: np.power(x, 0.5),
}
BINARY_FORMULAS: dict[str, Callable[[Array, Array], Array]] = {
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul": lambda a, b: a * b,
    "div": lambda a, b: a / b,
    "pow": np.power,
    "max": lambda a, b: np.where(a > b, a, b),
    "min": lambda a, b: np.where(a < b, a, b),
}
NARY_FORMULAS: dict[str, Callable[[Array], Array]] = {
    "sum_n": lambda stacked: stacked.sum(0),
    "prod_n": lambda stacked: stacked.prod(0),
    "max_n": lambda stacked: stacked.max(0),
    "min_n": lambda stacked: stacked.min(0),
}
FORMULAS = {**UNARY, **BINARY_FORMULAS, **NARY_FORMULAS}

# Wide enough for saturation on both sides, fine around zero; the Bessel formula itself gives up beyond 700.
GRID = np.unique(
    np.concatenate([np.linspace(-25.0, 25.0, 1001), np.geomspace(1e-12, 600, 61), -np.geomspace(1e-12, 600, 61)])
)
# Away from the kinks at 0 and 2.5, from poles, and from powers of negative numbers.
SMOOTH = {"unary": (-1.9, -0.7, -0.3, 0.2, 0.9, 2.1), "binary": (0.3, 0.8, 1.7), "nary": (0.3, 0.8, 1.7)}


def values(name: str, *arguments: Array) -> Array:
    operator = next(entry for entry in all_operators() if entry.name == name)
    return operator.function(*map(torch.from_numpy, arguments)).numpy()


def test_the_table_is_the_papers_and_every_operator_has_a_formula() -> None:
    assert (len(PAPER_UNARY), len(ALL_UNARY), len(BINARY), len(NARY)) == (27, 31, 7, 4)
    assert ALL_UNARY[27:] == ("elish", "leakyrelu", "mish", "gelu")
    assert (*ALL_UNARY, "sin", "cos", "sinc", "sqrt") == EVERY_UNARY
    assert set(FORMULAS) == {*EVERY_UNARY, *BINARY, *NARY}


@pytest.mark.parametrize("name", UNARY)
def test_unary_operator_follows_its_formula(name: str) -> None:
    with np.errstate(all="ignore"):
        expected = UNARY[name](GRID)
    # Formulas that subtract lose digits where the function is small, hence an absolute tolerance of a few ulps of 1.
    np.testing.assert_allclose(values(name, GRID), expected, rtol=2e-12, atol=5e-16)


@pytest.mark.parametrize("name", BINARY_FORMULAS)
def test_binary_operator_follows_its_formula(name: str) -> None:
    points = np.array([-40.0, -2.5, -2.0, -1.0, -1e-3, 0.0, 1e-3, 0.5, 1.0, 2.0, 3.3, 40.0])
    first, second = (grid.ravel() for grid in np.meshgrid(points, points))
    with np.errstate(all="ignore"):
        expected = BINARY_FORMULAS[name](first, second)
    np.testing.assert_allclose(values(name, first, second), expected, rtol=1e-13)


@pytest.mark.parametrize("name", NARY_FORMULAS)
@pytest.mark.parametrize("n_arguments", [2, 3, 5])
def test_nary_operator_follows_its_formula(name: str, n_arguments: int) -> None:
    arguments = np.random.default_rng(n_arguments).normal(size=(n_arguments, 500))
    np.testing.assert_allclose(values(name, *arguments), NARY_FORMULAS[name](arguments), rtol=1e-13, atol=1e-14)


@pytest.mark.parametrize("name", ["max", "min", "max_n", "min_n"])
def test_extremes_pass_nan_on(name: str) -> None:
    numbers, nan = np.array([1.0, 2.0]), np.array([np.nan, 0.0])
    assert np.isnan(values(name, numbers, nan)).tolist() == [True, False]
    assert np.isnan(values(name, nan, numbers)).tolist() == [True, False]


def test_limits_at_infinity() -> None:
    ends = np.array([-np.inf, np.inf])
    for name, limits in {
        "sigmoid": [0, 1],
        "log_sigmoid": [-np.inf, 0],
        "softplus": [0, np.inf],
        "elu": [-1, np.inf],
        "erfc": [2, 0],
        "hard_sigmoid": [0, 1],
        "zero": [0, 0],
        "one": [1, 1],
        "reciprocal": [0, 0],
    }.items():
        np.testing.assert_array_equal(values(name, ends), limits, err_msg=name)


@pytest.mark.parametrize("operator", all_operators(), ids=lambda entry: entry.name)
def test_gradient_is_the_functions(operator: object) -> None:
    entry = next(entry for entry in all_operators() if entry is operator)
    n_arguments = {"unary": 1, "binary": 2, "nary": 3}[entry.kind]
    points = torch.tensor(SMOOTH["nary" if entry.name == "sqrt" else entry.kind], dtype=torch.float64)
    inputs = [(points.roll(i) + 0.01 * i).requires_grad_() for i in range(n_arguments)]
    assert torch.autograd.gradcheck(entry.function, inputs)


@pytest.mark.parametrize("name", ["zero", "one"])
def test_constants_have_zero_gradients_and_not_missing_ones(name: str) -> None:
    x = torch.tensor([0.0, 1.0, torch.inf, torch.nan], requires_grad=True)
    y = Activation(f"{name}(x)")(x)
    assert y.tolist() == [float(name == "one")] * 4
    y.sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [0.0] * 4


def test_a_constant_exponent_does_not_spoil_gradients() -> None:
    x = torch.tensor([-2.0, 3.0], requires_grad=True)
    Activation("pow(x,one(x))")(x).sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [1.0, 1.0]


@pytest.mark.parametrize("operator", all_operators(), ids=lambda entry: entry.name)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_operator_runs_forward_and_backward_in_every_float_type(operator: object, dtype: torch.dtype) -> None:
    entry = next(entry for entry in all_operators() if entry is operator)
    n_arguments = {"unary": 1, "binary": 2, "nary": 3}[entry.kind]
    points = torch.tensor(SMOOTH["nary" if entry.name == "sqrt" else entry.kind], dtype=torch.float64)
    exact = [points.roll(i) for i in range(n_arguments)]
    inputs = [x.to(dtype).requires_grad_() for x in exact]
    result = entry.function(*inputs)
    result.sum().backward()
    assert result.dtype is dtype
    assert all(x.grad is not None and x.grad.dtype is dtype and x.grad.isfinite().all() for x in inputs)
    reference = entry.function(*[x.detach().double() for x in inputs])
    tolerance = 8 * torch.finfo(dtype).eps
    torch.testing.assert_close(result.double(), reference, rtol=tolerance, atol=tolerance)
