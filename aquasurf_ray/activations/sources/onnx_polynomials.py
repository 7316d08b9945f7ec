"""Circular, arc, error and Bessel functions in ONNX operators on doubles, as polynomials.

They are fitted to series or to SciPy's values when the model is written. Polynomials for values near 1 stand for the
difference from 1, so that 1 is met exactly: pow(-1e-9, y) is NaN for a y next to it. `onnx_operators` says what `op`
is, and which operators are accurate.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np

_LARGEST_HALF = math.tan(math.pi / 8)
_HALF_PI_PARTS = (1.5707963267341256, 6.077100506303966e-11, 2.0222662487959506e-21)
_LARGEST_REST = 0.8  # of a division by pi/2, which leaves up to pi/4 and rounding
_REDUCED = 1e6  # the parts of pi/2 are exact for multiples below 2^20
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


def arctan(op: Any, x: Any) -> Any:
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


def erf(op: Any, x: Any) -> Any:
    near_zero, beyond, is_beyond = _erf_parts(op, x)
    return op.Where(is_beyond, op.Mul(op.Sign(x), op.Sub(1.0, beyond)), near_zero)


def erfc(op: Any, x: Any) -> Any:
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
def bessel_i0e(op: Any, x: Any) -> Any:
    size = op.Abs(x)
    ratio = _polynomial(op, op.Sub(op.Mul(size, 0.25), 1.0), _i0e_near_zero, 24)
    near_zero = op.Add(op.Mul(size, ratio), 1.0)
    beyond = op.Div(_polynomial(op, op.Sub(op.Div(16.0, size), 1.0), _i0e_beyond, 20), op.Sqrt(size))
    return op.Where(op.Greater(size, 8.0), beyond, near_zero)


def bessel_i1e(op: Any, x: Any) -> Any:
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


def sin(op: Any, x: Any) -> Any:
    sine, cosine, quarter = _circular_parts(op, x)
    value = op.Where(op.Equal(quarter, 1.0), cosine, sine)
    value = op.Where(op.Equal(quarter, 2.0), op.Neg(sine), value)
    value = op.Where(op.Equal(quarter, 3.0), op.Neg(cosine), value)
    return op.Where(op.Greater(op.Abs(x), _REDUCED), op.Sin(x), value)


def cos(op: Any, x: Any) -> Any:
    sine, cosine, quarter = _circular_parts(op, x)
    value = op.Where(op.Equal(quarter, 1.0), op.Neg(sine), cosine)
    value = op.Where(op.Equal(quarter, 2.0), op.Neg(cosine), value)
    value = op.Where(op.Equal(quarter, 3.0), sine, value)
    return op.Where(op.Greater(op.Abs(x), _REDUCED), op.Cos(x), value)


def _circular_parts(op: Any, x: Any) -> tuple[Any, Any, Any]:
    """Return sin(r) and cos(r) of the rest r that x leaves from its nearest multiple k of pi/2, and k modulo 4.

    ONNX Runtime's own Sin and Cos err by one rounding near 0 and by 1e-16 near multiples of pi/2, where cos(arctan(x))
    is 0 instead of 1 / x. The first two parts of pi/2 have 33 bits, so that their products with k are exact.
    """
    k = op.Round(op.Mul(x, 2.0 / math.pi))
    r = functools.reduce(lambda rest, part: op.Sub(rest, op.Mul(k, part)), _HALF_PI_PARTS, x)
    square = op.Mul(r, r)
    t = op.Sub(op.Mul(square, 2.0 / _LARGEST_REST**2), 1.0)
    sine = op.Add(op.Mul(r, op.Mul(square, _polynomial(op, t, _sine_ratio, 9))), r)
    sine = op.Where(op.Greater(square, 0.0), sine, x)  # which keeps the sign of a zero
    cosine = op.Sub(1.0, op.Mul(square, _polynomial(op, t, _cosine_ratio, 9)))
    return sine, cosine, op.Sub(k, op.Mul(op.Floor(op.Mul(k, 0.25)), 4.0))


def _sine_ratio(t: Any) -> Any:
    """Return (sin(r) / r - 1) / r^2, as a series, which cancels nothing."""
    square = _LARGEST_REST**2 * (t + 1) / 2
    return sum((-1) ** k * square ** (k - 1) / math.factorial(2 * k + 1) for k in range(12, 0, -1))


def _cosine_ratio(t: Any) -> Any:
    """Return (1 - cos(r)) / r^2."""
    square = _LARGEST_REST**2 * (t + 1) / 2
    return -sum((-1) ** k * square ** (k - 1) / math.factorial(2 * k) for k in range(12, 0, -1))
