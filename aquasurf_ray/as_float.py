"""A number that a user's code gave, as a float. It needs no other part of the package, and no PyTorch."""

from __future__ import annotations

from typing import Any


def as_float(value: Any) -> float:
    """Return a number as a float: Python's, NumPy's, or a tensor of one element.

    A loss still has its graph, and PyTorch warns of a float that is taken from one, so a tensor is detached first.

    Raises:
        TypeError, ValueError: it is not one number.

    >>> as_float(0.5), as_float("0.5")
    (0.5, 0.5)
    """
    detach = getattr(value, "detach", None)
    return float(value if detach is None else detach())
