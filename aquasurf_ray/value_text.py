"""A metric's value as text: one way of writing it in tables, sentences, captions and events (`number` in tables.js).

Four decimals, unless these would leave fewer than two digits of a small value, or write out all of a huge one.
"""

from __future__ import annotations

import math

DECIMALS = 4
SMALLEST, LARGEST = 1e-3, 1e6  # with the values between them written out


def value_text(value: float, *, among: float = 0.0, sign: str = "") -> str:
    """Return a value with four decimals, or as `1.200e-08`; zero has no sign.

    Args:
        among: a value that this one is read beside, such as the mean of a difference: it need not be more exact.
        sign: "+" to show that of positive values too.

    >>> value_text(0.25), value_text(0.0005), value_text(-0.0), value_text(1234.56789)
    ('0.2500', '0.0005', '0.0000', '1234.5679')
    >>> value_text(1.2e-8), value_text(1.2e-8, among=0.5), value_text(-1e308), value_text(float("nan"))
    ('1.200e-08', '0.0000', '-1.000e+308', 'nan')
    """
    value = float(value)  # NumPy's scalars round with a warning where they are huge
    exact = round(value, DECIMALS) == value if math.isfinite(value) else True
    written_out = exact or max(abs(value), abs(among)) >= SMALLEST
    is_long = math.isfinite(value) and abs(value) >= LARGEST
    return f"{value:{sign}.{DECIMALS - 1}e}" if is_long or not written_out else f"{value:{sign}z.{DECIMALS}f}"


def interval_text(low: float, high: float, *, sign: str = "") -> str:
    """Return an interval, whose ends are as exact as the larger one.

    >>> interval_text(-0.0002, 0.0123), interval_text(1.5e-9, 2.25e-8, sign="+")
    ('[-0.0002, 0.0123]', '[+1.500e-09, +2.250e-08]')
    """
    among = max(abs(low), abs(high))
    return f"[{value_text(low, among=among, sign=sign)}, {value_text(high, among=among, sign=sign)}]"
