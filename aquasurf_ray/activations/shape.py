"""The measured shape of a function: bounds, slopes and symmetry, by its values on a fixed grid.

The grid is 4,001 even points from -20 to 20 and, for the bounds, powers of ten up to 10^4 on both sides, in float64.
A measurement is not a proof: a property that only shows between two points or further out is missed. For the bounds
there are two more points right next to zero, where 1/x and similar functions have their pole. A function that is not
finite somewhere on the grid has no bound on the side where it goes to infinity, and is neither monotone nor symmetric
where it is undefined.
"""

from __future__ import annotations

from dataclasses import astuple, dataclass
from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray

from aquasurf_ray.activations.expression import Expression
from aquasurf_ray.activations.identity import apply, exact_arithmetic
from aquasurf_ray.activations.roles import Function, RoleFunctions, parse_function

Floats = NDArray[np.float64]

REACH = 20.0
N_POINTS = 4001
FAR = 10.0 ** np.arange(1.5, 4.25, 0.25)  # from 32 to 10,000
NEXT_TO_ZERO = np.array([-1e-200, 1e-200])
POLE = 1e12  # a value next to zero that only a pole explains: the logarithm is no larger than 461 there
STEADY = 0.9  # a tail that rises by this share of its previous rise still grows
ROUNDING = 1e-9  # relative to the largest value; below this, differences count as rounding errors


@dataclass(frozen=True)
class Shape:
    """The measured properties. All are False for a function that is undefined on the whole grid.

    Attributes:
        defined: finite everywhere between -20 and 20.
        bounded_below, bounded_above: the values have a lower, an upper bound.
        monotone: never falls, or never rises.
        odd, even: f(-x) = -f(x), f(-x) = f(x).
        zero_at_zero: f(0) = 0.
        smooth: the slope changes gradually between neighbouring points of the grid.
        constant: all values are the same.
    """

    defined: bool
    bounded_below: bool
    bounded_above: bool
    monotone: bool
    odd: bool
    even: bool
    zero_at_zero: bool
    smooth: bool
    constant: bool


def shape_of(expression: Function | str) -> Shape:
    """Measure a function; of a function per role, what all of its functions are.

    >>> swish = shape_of("swish(x)")
    >>> swish.bounded_below, swish.bounded_above, swish.monotone, swish.smooth
    (True, False, False, True)
    """
    expression = parse_function(expression) if isinstance(expression, str) else expression
    if isinstance(expression, RoleFunctions):
        shapes = [astuple(shape_of(each)) for each in expression.of_role.values()]
        return Shape(*map(all, zip(*shapes, strict=True)))
    values, next_to_zero = _values(expression, _grid()), _values(expression, NEXT_TO_ZERO)
    if values is None or next_to_zero is None or np.isnan(values).all():
        return Shape(*[False] * 9)
    near = values[len(FAR) : -len(FAR)]
    defined = bool(np.isfinite(near).all())
    middle = near[N_POINTS // 2]
    scale = float(np.abs(near).max()) if defined else np.inf
    return Shape(
        defined=defined,
        bounded_below=_bounded(-values) and not bool((next_to_zero < -POLE).any()),
        bounded_above=_bounded(values) and not bool((next_to_zero > POLE).any()),
        monotone=defined and _monotone(near, scale),
        odd=defined and bool(np.abs(near + near[::-1]).max() <= ROUNDING * max(1.0, scale)),
        even=defined and bool(np.abs(near - near[::-1]).max() <= ROUNDING * max(1.0, scale)),
        zero_at_zero=bool(np.abs(middle) <= ROUNDING),
        smooth=defined and _smooth(near),
        constant=defined and bool(np.ptp(near) <= ROUNDING),
    )


@cache
def _grid() -> Floats:
    return np.concatenate([-FAR[::-1], np.linspace(-REACH, REACH, N_POINTS), FAR])


def _values(expression: Expression, points: Floats) -> Floats | None:
    with exact_arithmetic():
        values = apply(expression.evaluate, torch.from_numpy(points), name=str(expression))
    return None if values is None else values.numpy()


def _bounded(values: Floats) -> bool:
    """Return whether the values have an upper bound: none is infinite, and neither tail still grows."""
    known = values[~np.isnan(values)]
    if np.isposinf(known).any():
        return False
    inside = np.nanmax(values[len(FAR) : -len(FAR)])
    tails = values[: len(FAR)][::-1], values[-len(FAR) :]
    return not any(_grows(tail, float(inside)) for tail in tails)


def _grows(tail: Floats, inside: float) -> bool:
    """Return whether a tail, outwards, rises above all values before it and does not slow down: a function that nears a
    bound rises by less from each half power of ten to the next, a logarithm by as much."""
    before = np.fmax.accumulate(np.concatenate([[inside], tail]))
    with np.errstate(invalid="ignore"):  # infinite on the whole grid
        # FAR has four points for each power of ten, so two steps are half a power.
        last, previous = before[-1] - before[-3], before[-3] - before[-5]
    return bool(last > ROUNDING * max(1.0, abs(before[-1])) and last > STEADY * previous)


def _monotone(values: Floats, scale: float) -> bool:
    steps = np.diff(values)
    limit = ROUNDING * max(1.0, scale)
    return bool((steps >= -limit).all() or (steps <= limit).all())


def _smooth(values: Floats) -> bool:
    """Return whether no kink is found: a kink changes the slope in one step by a large part of it, a smooth curve by a
    share that shrinks with the step."""
    slopes = np.diff(values) / (2 * REACH / (N_POINTS - 1))
    jumps = np.abs(np.diff(slopes))
    # A kink between two points of the grid makes two neighbouring jumps, so each is compared with those two away.
    neighbours = np.maximum(np.roll(jumps, 2), np.roll(jumps, -2))
    lonely = (jumps > 20 * neighbours + 1e-3 * np.abs(slopes).max() + 1e-12)[2:-2]
    return not bool(lonely.any())
