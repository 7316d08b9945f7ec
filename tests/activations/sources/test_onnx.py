"""ONNX models in ONNX Runtime: float64's values, rounded once, over [-30, 30] and in the tails."""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from scipy import special

from aquasurf_ray.activations import Activation, ActivationError, parse, register_nary, register_unary, unregister
from aquasurf_ray.activations.operators import BINARY, EVERY_UNARY, NARY
from aquasurf_ray.activations.sources import export_onnx, onnx_operators
from aquasurf_ray.activations.sources.onnx import onnx_model
from aquasurf_ray.activations.spaces.enumeration import unique_functions
from aquasurf_ray.activations.spaces.space import SearchSpace

runtime = pytest.importorskip("onnxruntime", reason="needs ONNX Runtime")

TAILS = [1e-45, 1e-40, 1.2e-38, 1e-30, 1e-10, 1e-6, 1e-4, 50, 80, 88.7, 89, 103, 104, 700, 6.5e7, 1e10, 1e30, 3e38]
SPECIAL = [0.0, -0.0, math.inf, -math.inf, math.nan]
X = np.array([*np.linspace(-30, 30, 1201), *TAILS, *(-x for x in TAILS), *SPECIAL], dtype=np.float32)


def run(functions: Sequence[str], x: np.ndarray) -> list[np.ndarray]:
    """The functions' values in ONNX Runtime, from one model."""
    model = onnx_model([parse(function) for function in functions]).SerializeToString()
    session = runtime.InferenceSession(model, providers=["CPUExecutionProvider"])
    return [values[0] for values in session.run(None, {"x": x.astype(np.float32)[None]})]


def in_float64(function: str, x: np.ndarray) -> np.ndarray:
    """PyTorch's float64 values, rounded to float32."""
    return Activation(function)(torch.from_numpy(x).double()).float().numpy()


@pytest.mark.parametrize("operator", EVERY_UNARY)
def test_an_operator_has_the_float64_value_rounded_once_with_its_sign_infinities_and_nan(operator):
    (found,) = run([f"{operator}(x)"], X)
    expected = in_float64(f"{operator}(x)", X)
    np.testing.assert_array_max_ulp(found[~np.isnan(expected)], expected[~np.isnan(expected)], maxulp=1)
    np.testing.assert_array_equal(np.isnan(found), np.isnan(expected))
    # Half of the smallest float rounds either way.
    numbers = ~np.isnan(expected) & ((np.abs(X) > 1e-44) | (X == 0))
    np.testing.assert_array_equal(np.signbit(found[numbers]), np.signbit(expected[numbers]))


@pytest.mark.parametrize(
    ("operator", "oracle"),
    {
        "erf": special.erf,
        "erfc": special.erfc,
        "bessel_i0e": special.i0e,
        "bessel_i1e": special.i1e,
        "sigmoid": special.expit,
        "log_sigmoid": special.log_expit,
        "expm1": np.expm1,
        "arctan": np.arctan,
        "arcsinh": np.arcsinh,
        "sinh": np.sinh,
        "cosh": np.cosh,
        "softplus": lambda x: np.logaddexp(x, 0.0),
        "elu": lambda x: np.where(x > 0, x, np.expm1(x)),
    }.items(),
)
def test_an_operator_has_the_value_that_scipy_gives(operator, oracle):
    x = np.linspace(-30, 30, 6001, dtype=np.float32)
    (found,) = run([f"{operator}(x)"], x)
    np.testing.assert_array_max_ulp(found, oracle(x.astype(np.float64)).astype(np.float32), maxulp=1)


@pytest.mark.parametrize("operator", [*BINARY, *NARY])
def test_an_operator_of_several_arguments_has_the_float64_value(operator):
    function = f"{operator}(arctan(x),softsign(x){',exp(negative(x))' if operator in NARY else ''})"
    (found,) = run([function], X)
    np.testing.assert_array_max_ulp(found, in_float64(function, X), maxulp=1)


@pytest.mark.parametrize(
    ("function", "x", "value"),
    [
        ("div(sigmoid(x),exp(x))", -25.0, 1 / (1 + math.exp(-25))),
        ("div(swish(x),sigmoid(x))", -18.0, -18.0),
        ("reciprocal(erfc(x))", 4.0, 1 / math.erfc(4)),
        ("div(erf(x),erfc(x))", 6.0, math.erf(6) / math.erfc(6)),
        ("div(expm1(x),x)", 1e-6, 1 + 0.5e-6),
        ("div(elu(x),x)", -1e-4, 1 - 0.5e-4),
        ("log_sigmoid(x)", -80.0, -80.0),
        ("sub(expm1(x),exp(x))", 20.0, -1.0),
        ("max(x,log_sigmoid(x))", math.nan, math.nan),
        ("reciprocal(negative(relu(x)))", -2.0, -math.inf),
        ("pow(x,0.1)", 2.0, 2.0**0.1),
        ("sum_n(0.1,2,x)", 3.0, 5.1),
        ("max(-0.5,x)", -7.0, -0.5),
        ("1.5", math.nan, 1.5),
    ],
)
def test_nothing_cancels_in_a_composed_function(function, x, value):
    assert run([function], np.array([x]))[0][0] == pytest.approx(value, rel=1e-6, nan_ok=True)


@pytest.mark.parametrize(
    "function",
    [
        *(f"{outer}({inner})" for outer in ("sinc", "sin", "cos", "tanh") for inner in ("x", "mul(x,x)", "arctan(x)")),
        *(
            f"pow(-2,{inner})"
            for inner in ("sinc(x)", "sinc(mul(x,x))", "sin(x)", "cos(x)", "cos(arctan(x))", "tanh(x)")
        ),
        *(f"reciprocal({inner})" for inner in ("cos(arctan(x))", "sin(x)", "sin(mul(x,x))", "sub(1,sinc(x))")),
        *(f"sub(1,{inner})" for inner in ("cos(x)", "sinc(x)", "tanh(x)")),
    ],
)
def test_circular_functions_round_as_float64_does_near_zero_near_their_zeros_and_near_one(function):
    """A value next to 1 is no 1: pow(-2, y) is NaN there, and 1 / (1 - y) large."""
    x = np.concatenate([X, np.logspace(-12, -4, 400, dtype=np.float32), -np.logspace(-12, -4, 400, dtype=np.float32)])
    (found,) = run([function], x)
    expected = in_float64(function, x)
    assert _close(found, expected, 1e-6).all(), x[~_close(found, expected, 1e-6)][:5]


@pytest.mark.slow
def test_all_functions_of_three_nodes_have_float64_values_where_float32_has_them():
    functions = list(unique_functions(SearchSpace.named("three-node")).names)
    assert len(functions) == 2791
    wrong = []
    for function, found in zip(functions, run(functions, X), strict=True):
        expected = in_float64(function, X)
        in_float32 = Activation(function)(torch.from_numpy(X)).numpy()
        possible = _close(in_float32, expected, 1e-3)
        wrong += [f"{function} at {x:g}" for x in X[possible & ~_close(found, expected, 1e-6)][:1]]
    assert not wrong


def _close(found: np.ndarray, expected: np.ndarray, tolerance: float) -> np.ndarray:
    """Relative to the value, with the rounding errors of double precision where a difference is nothing."""
    with np.errstate(invalid="ignore", over="ignore"):
        error = np.abs(found.astype(np.float64) - expected)
        allowed = np.maximum(tolerance * np.abs(expected.astype(np.float64)), np.where(expected == 0, 1e-15, 1.5e-45))
    return (found == expected) | (error <= allowed) | (np.isnan(found) & np.isnan(expected))


def test_every_built_in_operator_has_a_graph_of_ours():
    assert {*onnx_operators.UNARY, *onnx_operators.BINARY, *onnx_operators.FOLDED} == {*EVERY_UNARY, *BINARY, *NARY}


@pytest.mark.parametrize("shape", [(3, 32), (1, 96), (96, 1), (0, 5)])
@pytest.mark.parametrize("function", ["x", "zero(x)", "mul(erfc(x),tanh(x))", "max_n(x,exp(x),x)"])
def test_a_file_has_the_same_values_for_any_shape(function, shape, tmp_path):
    export_onnx(function, tmp_path / "f.onnx")
    session = runtime.InferenceSession(tmp_path / "f.onnx", providers=["CPUExecutionProvider"])
    x = np.linspace(-3, 3, math.prod(shape), dtype=np.float32).reshape(shape)
    (found,) = session.run(["y"], {"x": x})
    np.testing.assert_array_max_ulp(found, in_float64(function, x), maxulp=1)


@pytest.mark.slow
def test_built_in_operators_need_no_exporter(tmp_path):
    """It takes seconds to load."""
    code = (
        "import sys; from pathlib import Path; from aquasurf_ray.activations.sources import export_onnx;"
        f"export_onnx('mul(erf(x),elu(x))', Path({str(tmp_path / 'f.onnx')!r})); sys.exit('onnxscript' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=120).returncode == 0
    assert (tmp_path / "f.onnx").stat().st_size < 20_000


@pytest.fixture
def registered():
    """Operators of a user's own."""
    register_unary("ratio", lambda x: torch.sigmoid(x) / torch.exp(x))
    register_nary("mean_n", lambda *values: torch.stack(values).mean(0))
    register_unary("turn", lambda x: x if x.sum() > 0 else -x)
    yield
    for name in ("ratio", "mean_n", "turn"):
        unregister(name)


@pytest.mark.usefixtures("registered")
@pytest.mark.slow
def test_a_registered_operator_is_translated_by_the_exporter_without_its_sigmoid(capfd):
    pytest.importorskip("onnxscript", reason="needs onnxscript")
    x = np.linspace(-30, 30, 61, dtype=np.float32)
    both = run(["ratio(x)", "mean_n(2,erfc(x),ratio(tanh(x)),ratio(x))"], x)
    np.testing.assert_allclose(both[0], special.expit(-x.astype(np.float64)), rtol=1e-6)
    others = special.erfc(x.astype(np.float64)), special.expit(-np.tanh(x.astype(np.float64)))
    np.testing.assert_allclose(both[1], (2 + others[0] + others[1] + both[0]) / 4, rtol=1e-5, atol=1e-6)
    assert capfd.readouterr() == ("", "")


@pytest.mark.usefixtures("registered")
def test_a_registered_operator_that_cannot_be_translated_is_refused_by_name(tmp_path, capfd):
    pytest.importorskip("onnxscript", reason="needs onnxscript")
    with pytest.raises(ActivationError, match=r"cannot translate operator 'turn' to ONNX: .*data-dependent") as raised:
        export_onnx("add(x,turn(x))", tmp_path / "f.onnx")
    assert "\n" not in str(raised.value)
    assert capfd.readouterr() == ("", "")
    assert not list(tmp_path.iterdir())
