"""Student's t distribution: two-sided p-values and critical values.

Importing SciPy's special functions takes longer than all else that `aquasurf top` does. The p-value is a regularized
incomplete beta function (Abramowitz and Stegun 26.5.27), computed from its continued fraction (26.5.8).
"""

from __future__ import annotations

import math
from functools import cache


def two_sided_p(t: float, freedom: float) -> float:
    """Return the probability of a value at least as far from 0 as `t`, with `freedom` degrees of freedom.

    >>> round(two_sided_p(2.0, 10), 6)
    0.073388
    """
    square = t * t
    if math.isinf(square):
        return 0.0
    x, complement = freedom / (freedom + square), square / (freedom + square)
    if complement == 0:
        return 1.0
    # The fraction converges fast only on this side of the distribution's mean.
    if x < (freedom / 2 + 1) / (freedom / 2 + 2.5):
        return _incomplete_beta(x, complement, freedom / 2, 0.5)
    return 1 - _incomplete_beta(complement, x, 0.5, freedom / 2)


@cache
def critical_value(level: float, freedom: float) -> float:
    """Return the distance from 0 within which a share `level` of the distribution lies.

    >>> round(critical_value(0.95, 9), 6)
    2.262157
    """
    low, high = 0.0, 1.0
    while two_sided_p(high, freedom) > 1 - level:
        low, high = high, 2 * high
    while low < (middle := (low + high) / 2) < high:
        if two_sided_p(middle, freedom) > 1 - level:
            low = middle
        else:
            high = middle
    return high


def _incomplete_beta(x: float, complement: float, a: float, b: float) -> float:
    """Return the regularized incomplete beta function at `x` = 1 - `complement`."""
    fraction = 0.0
    # Convergence takes a number of terms that grows with the square root of the larger parameter.
    for m in range(20 + 3 * math.isqrt(int(a + b)), 0, -1):
        fraction = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m)) / (1 + fraction)
        fraction = -(a + m - 1) * (a + b + m - 1) * x / ((a + 2 * m - 2) * (a + 2 * m - 1)) / (1 + fraction)
    powers = a * math.log(x) + b * math.log(complement)
    return math.exp(powers + math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b)) / (a * (1 + fraction))
