"""The built-in operators in the ONNX operators that runtimes compute accurately in double precision.

ONNX Runtime's float32 Sigmoid, Elu and Gelu and the exporters' erfc (1 - erf) and expm1 (exp - 1) lose all digits
somewhere. The graphs here consist of arithmetic, comparisons, Where, Abs, Sign, Exp, Log, Sqrt, Tanh, Sin, Cos and Pow
on doubles, which ONNX Runtime computes as accurately as the C library. They follow PyTorch's float64 formulas, so that
infinities, NaN and signs of zero are PyTorch's, too. Error, arc and Bessel functions are polynomials fitted to SciPy's
values when the model is written.

ONNX Runtime's Where returns 0 for a -0 in its second argument, so values that may be -0 are the third; a Not in the
condition would have its optimiser swap them. Polynomials for values near 1 stand for the difference from 1, so that
1 is met exactly: pow(-1e-9, y) is NaN for a y next to it.

`op` writes a node for each call (`op.Exp(x)`) and takes Python numbers as constants: the writer of `onnx.py`, or an
opset of onnxscript.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np

_LARGE = 700.0  # exp is infinite from 709.8 on, sinh and cosh from 710.5 on
_SELU_ALPHA, _SELU_SCALE = 1.6732632423543772, 1.0507009873554805  # Klambauer et al. 2017, arXiv 1706.02515
_LARGEST_HALF = math.tan(math.pi / 8)
_ERFC_VANISHES = 28.0  # below the smallest double from 27.3 on
_ERFC_CENTRE = 3.75  # maps [0, inf) to [-1, 1) such that few terms suffice (Shepherd and Laframboise 1981)


def _polynomial(op: Any, t: Any, function: Callable[[Any], Any], degree: int) -> Any:
    """Return the value at `t` of the polynomial through `function` at the Chebyshev points of [-1, 1] (Horner)."""
    highest, *others = reversed(_coefficients(function, degree))
    value = op.Add(op.Mul(t, highest), others[0])
    for coefficient in others[1:]:
        value = op.Add(op.Mul(value, t), coefficient)
    return value


@functools.cache
def _coefficients(function: Callable[[Any], Any], degree: int) -> list[float]:
    chebyshev = np.polynomial.chebyshev
    return [float(value) for value in chebyshev.cheb2poly(chebyshev.chebinterpolate(function, degree))]


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


def _arctan(op: Any, x: Any) -> Any:
    """Return atan(x). By atan(x) = pi/2 - atan(1/x) and atan(x) = 2 atan(x / (1 + sqrt(1 + x^2))), the polynomial's
    argument ends at tan(pi/8)."""
    inverted = op.Greater(op.Abs(x), 1.0)
    small = op.Where(inverted, op.Div(1.0, x), x)
    half = op.Div(small, op.Add(op.Sqrt(op.Add(op.Mul(small, small), 1.0)), 1.0))
    square = op.Mul(half, half)
    t = op.Sub(op.Mul(square, 2.0 / _LARGEST_HALF**2), 1.0)
    ratio = op.Add(op.Mul(square, _polynomial(op, t, _arctan_ratio, 9)), 1.0)
    angle = op.Mul(op.Mul(half, 2.0), ratio)
    return op.Where(inverted, op.Sub(op.Mul(op.Sign(x), math.pi / 2), angle), angle)


def _arctan_ratio(t: Any) -> Any:
    x = _LARGEST_HALF * np.sqrt((t + 1) / 2)
    return (np.arctan(x) / x - 1) / x**2


def _erf(op: Any, x: Any) -> Any:
    near_zero, beyond, is_beyond = _erf_parts(op, x)
    return op.Where(is_beyond, op.Mul(op.Sign(x), op.Sub(1.0, beyond)), near_zero)


def _erfc(op: Any, x: Any) -> Any:
    near_zero, beyond, is_beyond = _erf_parts(op, x)
    beyond = op.Where(op.Less(x, 0.0), op.Sub(2.0, beyond), beyond)
    return op.Where(is_beyond, beyond, op.Sub(1.0, near_zero))


def _erf_parts(op: Any, x: Any) -> tuple[Any, Any, Any]:
    """Return erf(x) for |x| up to 1, erfc(|x|) beyond, and where x is beyond.

    erfc is exp(-x^2) / (1 + 2x) times a function that is smooth up to infinity.
    """
    square = op.Mul(x, x)
    ratio = op.Mul(square, _polynomial(op, op.Sub(op.Mul(square, 2.0), 1.0), _erf_ratio, 12))
    near_zero = op.Mul(x, op.Mul(op.Add(ratio, 1.0), 2 / math.sqrt(math.pi)))
    size = op.Abs(x)
    t = op.Div(op.Sub(size, _ERFC_CENTRE), op.Add(size, _ERFC_CENTRE))
    smooth = op.Div(_polynomial(op, t, _scaled_erfc, 24), op.Add(op.Mul(size, 2.0), 1.0))
    beyond = op.Mul(smooth, op.Exp(op.Neg(square)))
    return near_zero, op.Where(op.Greater(size, _ERFC_VANISHES), 0.0, beyond), op.Greater(square, 1.0)


def _erf_ratio(t: Any) -> Any:
    from scipy import special

    square = (t + 1) / 2
    x = np.sqrt(square)
    return (special.erf(x) / x * math.sqrt(math.pi) / 2 - 1) / square


def _scaled_erfc(t: Any) -> Any:
    from scipy import special

    x = _ERFC_CENTRE * (1 + t) / (1 - t)
    return (1 + 2 * x) * special.erfcx(x)


# As in Cephes, the range is split at |x| = 8: I0e is smooth in |x| below, and sqrt(|x|) I0e in 1/|x| beyond.
def _bessel_i0e(op: Any, x: Any) -> Any:
    size = op.Abs(x)
    ratio = _polynomial(op, op.Sub(op.Mul(size, 0.25), 1.0), _i0e_near_zero, 24)
    near_zero = op.Add(op.Mul(size, ratio), 1.0)
    beyond = op.Div(_polynomial(op, op.Sub(op.Div(16.0, size), 1.0), _i0e_beyond, 20), op.Sqrt(size))
    return op.Where(op.Greater(size, 8.0), beyond, near_zero)


def _bessel_i1e(op: Any, x: Any) -> Any:
    size = op.Abs(x)
    ratio = _polynomial(op, op.Sub(op.Mul(size, 0.25), 1.0), _i1e_near_zero, 24)
    near_zero = op.Mul(op.Mul(size, 0.5), op.Add(op.Mul(size, ratio), 1.0))
    beyond = op.Div(_polynomial(op, op.Sub(op.Div(16.0, size), 1.0), _i1e_beyond, 20), op.Sqrt(size))
    return op.Mul(op.Sign(x), op.Where(op.Greater(size, 8.0), beyond, near_zero))


# The functions that polynomials of t in [-1, 1] approximate: |x| is 4 (t + 1) up to 8, and 16 / (t + 1) beyond.
def _i0e_near_zero(t: Any) -> Any:
    from scipy import special

    x = 4 * (t + 1)
    return (special.i0e(x) - 1) / x


def _i0e_beyond(t: Any) -> Any:
    from scipy import special

    x = 16 / (t + 1)
    return special.i0e(x) * np.sqrt(x)


def _i1e_near_zero(t: Any) -> Any:
    from scipy import special

    x = 4 * (t + 1)
    return (2 * special.i1e(x) / x - 1) / x


def _i1e_beyond(t: Any) -> Any:
    from scipy import special

    x = 16 / (t + 1)
    return special.i1e(x) * np.sqrt(x)


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
    return op.Mul(op.Mul(x, 0.5), op.Add(_erf(op, op.Mul(x, math.sqrt(0.5))), 1.0))


def constant_like(op: Any, x: Any, value: float) -> Any:
    """Return a number in the shape of x, also where x is infinite or NaN."""
    return op.Where(op.Equal(x, x), value, value)


def _sinc(op: Any, x: Any) -> Any:
    """Return sin(u)/u, with PyTorch's rounding of u = pi (x / pi)."""
    u = op.Mul(op.Div(x, math.pi), math.pi)
    return op.Where(op.Equal(u, 0.0), 1.0, op.Div(op.Sin(u), u))


UNARY: dict[str, Callable[[Any, Any], Any]] = {
    "zero": lambda op, x: constant_like(op, x, 0.0),
    "one": lambda op, x: constant_like(op, x, 1.0),
    "identity": lambda op, x: x,
    "negative": lambda op, x: op.Neg(x),
    "abs": lambda op, x: op.Abs(x),
    "reciprocal": lambda op, x: op.Div(1.0, x),
    "square": lambda op, x: op.Mul(x, x),
    "exp": lambda op, x: op.Exp(x),
    "erf": _erf,
    "erfc": _erfc,
    "sinh": _sinh,
    "cosh": _cosh,
    "tanh": lambda op, x: op.Tanh(x),
    "expm1": _expm1,
    "sigmoid": lambda op, x: op.Div(1.0, _sigmoid_denominator(op, x)),
    "log_sigmoid": _log_sigmoid,
    "arcsinh": _arcsinh,
    "arctan": _arctan,
    "bessel_i0e": _bessel_i0e,
    "bessel_i1e": _bessel_i1e,
    "relu": lambda op, x: op.Where(op.Less(x, 0.0), 0.0, x),
    "elu": _elu,
    "selu": lambda op, x: _elu(op, x, _SELU_ALPHA, _SELU_SCALE),
    "swish": lambda op, x: op.Div(x, _sigmoid_denominator(op, x)),
    "softplus": _softplus,
    "softsign": lambda op, x: op.Div(x, op.Add(op.Abs(x), 1.0)),
    "hard_sigmoid": _hard_sigmoid,
    "elish": lambda op, x: op.Mul(_elu(op, x), op.Div(1.0, _sigmoid_denominator(op, x))),
    "leakyrelu": lambda op, x: op.Where(op.Less(x, 0.0), op.Mul(x, 0.01), x),
    "mish": lambda op, x: op.Mul(x, op.Tanh(_softplus(op, x))),
    "gelu": _gelu,
    "sin": lambda op, x: op.Sin(x),
    "cos": lambda op, x: op.Cos(x),
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
