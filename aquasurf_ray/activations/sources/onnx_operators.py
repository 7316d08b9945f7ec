"""The built-in operators in the ONNX operators that runtimes compute accurately in double precision.

ONNX Runtime's float32 Sigmoid, Elu and Gelu and the exporters' erfc (1 - erf) and expm1 (exp - 1) lose all digits
somewhere. The graphs here consist of arithmetic, comparisons, Where, Abs, Sign, Exp, Log, Sqrt, Tanh and Pow on
doubles, which ONNX Runtime computes as accurately as the C library, and of `onnx_polynomials`. They follow PyTorch's
float64 formulas, so that infinities, NaN and signs of zero are PyTorch's, too.

ONNX Runtime's Where returns 0 for a -0 in its second argument, so values that may be -0 are the third; a Not in the
condition would have its optimiser swap them.

`op` writes a node for each call (`op.Exp(x)`) and takes Python numbers as constants: the writer of `onnx.py`, or an
opset of onnxscript.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from aquasurf_ray.activations.sources.onnx_polynomials import arctan, bessel_i0e, bessel_i1e, cos, erf, erfc, sin

_LARGE = 700.0  # exp is infinite from 709.8 on, sinh and cosh from 710.5 on
_SELU_ALPHA, _SELU_SCALE = 1.6732632423543772, 1.0507009873554805  # Klambauer et al. 2017, arXiv 1706.02515


def _log1p(op: Any, x: Any) -> Any:
    """Return log(1 + x), in which the rounding errors of u = 1 + x in log(u) and in u - 1 cancel (Kahan)."""
    u = op.Add(x, 1.0)
    rounded = op.Sub(u, 1.0)
    return op.Where(op.Equal(rounded, 0.0), x, op.Mul(x, op.Div(op.Log(u), rounded)))


def _expm1(op: Any, x: Any) -> Any:
    """Return exp(x) - 1, near zero as (u - 1) x / log(u) with u = exp(x), whose rounding errors cancel (Kahan)."""
    u = op.Exp(x)
    difference = op.Sub(u, 1.0)
    near_zero = op.Where(op.Greater(op.Abs(difference), 0.0), op.Mul(x, op.Div(difference, op.Log(u))), x)
    return op.Where(op.Greater(op.Abs(x), 1.0), difference, near_zero)


def _sinh(op: Any, x: Any) -> Any:
    moderate = op.Mul(op.Sub(_expm1(op, x), _expm1(op, op.Neg(x))), 0.5)
    return op.Where(op.Greater(op.Abs(x), _LARGE), op.Mul(op.Sign(x), _half_exp(op, op.Abs(x))), moderate)


def _cosh(op: Any, x: Any) -> Any:
    moderate = op.Mul(op.Add(op.Exp(x), op.Exp(op.Neg(x))), 0.5)
    return op.Where(op.Greater(op.Abs(x), _LARGE), _half_exp(op, op.Abs(x)), moderate)


def _half_exp(op: Any, x: Any) -> Any:
    """Return exp(x) / 2, also where exp(x) alone would overflow."""
    root = op.Exp(op.Mul(x, 0.5))
    return op.Mul(op.Mul(root, 0.5), root)


def _arcsinh(op: Any, x: Any) -> Any:
    size = op.Abs(x)
    square = op.Mul(size, size)
    # asinh(|x|) = log1p(|x| + x^2 / (1 + sqrt(x^2 + 1))) keeps all digits near 0, but x^2 overflows far out.
    moderate = _log1p(op, op.Add(size, op.Div(square, op.Add(op.Sqrt(op.Add(square, 1.0)), 1.0))))
    large = op.Add(op.Log(size), math.log(2.0))
    value = op.Where(op.Less(size, 1e8), moderate, large)
    # ±0 and NaN return themselves.
    return op.Where(op.Greater(size, 0.0), op.Mul(op.Sign(x), value), x)


def _sigmoid_denominator(op: Any, x: Any) -> Any:
    return op.Add(op.Exp(op.Neg(x)), 1.0)


def _log_sigmoid(op: Any, x: Any) -> Any:
    return op.Sub(op.Where(op.Greater(x, 0.0), 0.0, x), _log1p(op, op.Exp(op.Neg(op.Abs(x)))))


def _softplus(op: Any, x: Any) -> Any:
    return op.Where(op.Greater(x, 40.0), x, _log1p(op, op.Exp(x)))


def _elu(op: Any, x: Any, alpha: float = 1.0, scale: float = 1.0) -> Any:
    return op.Where(op.Greater(x, 0.0), op.Mul(x, scale), op.Mul(_expm1(op, x), alpha * scale))


def _hard_sigmoid(op: Any, x: Any) -> Any:
    line = op.Add(op.Mul(x, 0.2), 0.5)
    return op.Where(op.Less(line, 0.0), 0.0, op.Where(op.Greater(line, 1.0), 1.0, line))


def _gelu(op: Any, x: Any) -> Any:
    return op.Mul(op.Mul(x, 0.5), op.Add(erf(op, op.Mul(x, math.sqrt(0.5))), 1.0))


def constant_like(op: Any, x: Any, value: float) -> Any:
    """Return a number in the shape of x, also where x is infinite or NaN."""
    return op.Where(op.Equal(x, x), value, value)


def _tanh(op: Any, x: Any) -> Any:
    """Return tanh(x), which ONNX Runtime rounds to 1 too early."""
    size = op.Abs(x)
    far = op.Sub(1.0, op.Div(2.0, op.Add(op.Exp(op.Mul(size, 2.0)), 1.0)))
    return op.Where(op.Greater(size, 1.0), op.Mul(op.Sign(x), far), op.Tanh(x))


def _sinc(op: Any, x: Any) -> Any:
    """Return sin(u)/u, with PyTorch's rounding of u = pi (x / pi)."""
    u = op.Mul(op.Div(x, math.pi), math.pi)
    return op.Where(op.Equal(u, 0.0), 1.0, op.Div(sin(op, u), u))


UNARY: dict[str, Callable[[Any, Any], Any]] = {
    "zero": lambda op, x: constant_like(op, x, 0.0),
    "one": lambda op, x: constant_like(op, x, 1.0),
    "identity": lambda op, x: x,
    "negative": lambda op, x: op.Neg(x),
    "abs": lambda op, x: op.Abs(x),
    "reciprocal": lambda op, x: op.Div(1.0, x),
    "square": lambda op, x: op.Mul(x, x),
    "exp": lambda op, x: op.Exp(x),
    "erf": erf,
    "erfc": erfc,
    "sinh": _sinh,
    "cosh": _cosh,
    "tanh": _tanh,
    "expm1": _expm1,
    "sigmoid": lambda op, x: op.Div(1.0, _sigmoid_denominator(op, x)),
    "log_sigmoid": _log_sigmoid,
    "arcsinh": _arcsinh,
    "arctan": arctan,
    "bessel_i0e": bessel_i0e,
    "bessel_i1e": bessel_i1e,
    "relu": lambda op, x: op.Where(op.Less(x, 0.0), 0.0, x),
    "elu": _elu,
    "selu": lambda op, x: _elu(op, x, _SELU_ALPHA, _SELU_SCALE),
    "swish": lambda op, x: op.Div(x, _sigmoid_denominator(op, x)),
    "softplus": _softplus,
    "softsign": lambda op, x: op.Div(x, op.Add(op.Abs(x), 1.0)),
    "hard_sigmoid": _hard_sigmoid,
    "elish": lambda op, x: op.Mul(_elu(op, x), op.Div(1.0, _sigmoid_denominator(op, x))),
    "leakyrelu": lambda op, x: op.Where(op.Less(x, 0.0), op.Mul(x, 0.01), x),
    "mish": lambda op, x: op.Mul(x, _tanh(op, _softplus(op, x))),
    "gelu": _gelu,
    "sin": sin,
    "cos": cos,
    "sinc": _sinc,
    "sqrt": lambda op, x: op.Sqrt(x),
}
BINARY: dict[str, Callable[[Any, Any, Any], Any]] = {
    "add": lambda op, a, b: op.Add(a, b),
    "sub": lambda op, a, b: op.Sub(a, b),
    "mul": lambda op, a, b: op.Mul(a, b),
    "div": lambda op, a, b: op.Div(a, b),
    "pow": lambda op, a, b: op.Pow(a, b),
    "max": lambda op, a, b: op.Max(a, b),
    "min": lambda op, a, b: op.Min(a, b),
}
FOLDED = {"sum_n": "add", "prod_n": "mul", "max_n": "max", "min_n": "min"}
