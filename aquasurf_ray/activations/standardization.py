"""Functions brought to mean 0 and deviation 1 on N(0, 1): `mul(1.71286,add(-0.398942,relu(x)))` for relu.

A network's initial weights suit functions of a certain scale, so the scale of a function decides whether it trains; the
standard form takes the scale out of the comparison. It is an ordinary expression with constants, so whoever uses it
needs no code of ours. The constants are rounded to six digits: its mean is within 5e-6 of 0, its deviation of 1.

The core of an expression is what is left when positive factors and summands around it are taken away. The standard form
is always made from the core, so it is the standard form of itself, and of every a f + b with a > 0.

Moments are those of the float64 function on [-20, 20], with learned parameters at their initial values, by adaptive
Gauss-Legendre quadrature. A function has no standard form if it is not finite there, if a moment does not converge
(reciprocal(x), exp(square(x))), or if it is constant.
"""

from __future__ import annotations

import math
from functools import cache
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from aquasurf_ray.activations.errors import ExpressionError
from aquasurf_ray.activations.expression import Expression
from aquasurf_ray.activations.hidden_constants import with_moved_constants
from aquasurf_ray.activations.identity import (
    N_POINTS,
    apply,
    digest,
    digest_of,
    exact_arithmetic,
    hidden_tail,
    padded_outputs,
    rounded,
)

Floats = NDArray[np.float64]

DIGITS = 6
"""Significant digits of the constants, relative to the deviation."""

_REACH = 20  # the density is 5e-88 there, so a moment that still grows there is infinite
_NODES = 16  # in each panel; exact to rounding for smooth functions on panels of length 1
_TOLERANCE = 1e-12  # of a panel, relative to the whole moment
_MOST_HALVINGS = 45  # by then, a jump contributes less than the tolerance; a pole never does
_UNCERTAIN = 1e-9  # share of a moment in the outermost or in unconverged panels: above it, the moment is infinite
_CONSTANT = 1e-10  # deviation relative to the largest value, below which it is rounding


class Moments(NamedTuple):
    """The mean and the standard deviation of f(z), where z has the standard normal distribution."""

    mean: float
    deviation: float


def moments(expression: Expression) -> Moments | None:
    """Return the moments of a function; None where it is not finite, or a moment is infinite.

    >>> from aquasurf_ray.activations import parse
    >>> [round(moment, 6) for moment in moments(parse("relu(x)"))]
    [0.398942, 0.583819]
    >>> print(moments(parse("reciprocal(x)")))
    None
    """
    with exact_arithmetic(), np.errstate(over="ignore", invalid="ignore"):
        found = _quadrature(expression)
    if found is None:
        return None
    values, weights = found
    mean = float(weights @ values)
    # In two passes, because the mean may be much larger than the deviation.
    return Moments(mean, float(weights @ (values - mean) ** 2) ** 0.5)


def standardized(expression: Expression) -> Expression | None:
    """Return the standard form of a function, or None if it has none.

    >>> from aquasurf_ray.activations import parse
    >>> standardized(parse("relu(x)"))
    parse('mul(1.71286,add(-0.398942,relu(x)))')
    >>> standardized(parse("add(1,mul(3,relu(x)))")) == standardized(standardized(parse("relu(x)")))
    True
    >>> print(standardized(parse("reciprocal(x)")), standardized(parse("one(x)")))
    None None
    """
    inner = core(expression)
    found = moments(inner)
    if found is None or not found.deviation > _CONSTANT * max(1.0, abs(found.mean)):
        return None
    scale = float(f"{1 / found.deviation:.{DIGITS}g}")
    shift = round(-found.mean, DIGITS - 1 - math.floor(math.log10(found.deviation)))
    try:
        result = inner if shift == 0 else Expression("add", (Expression(value=shift), inner))
        return result if scale == 1 else Expression("mul", (Expression(value=scale), result))
    except ExpressionError:  # beyond the language's own bounds
        return None


def core(expression: Expression) -> Expression:
    """Return a function without the positive factors and the summands around it.

    >>> from aquasurf_ray.activations import parse
    >>> core(parse("mul(1.5,add(relu(x),-0.5))")), core(parse("mul(-2,relu(x))"))
    (parse('relu(x)'), parse('mul(-2,relu(x))'))
    """
    while expression.operator in ("add", "mul", "sub"):
        first, second = expression.arguments
        if expression.operator == "sub" and first.value is not None:
            return expression  # c - f has the opposite sign
        number, rest = (first, second) if first.value is not None else (second, first)
        if number.value is None or (expression.operator == "mul" and number.value <= 0):
            return expression
        expression = rest
    return expression


def scale_free_digest(expression: Expression) -> str:
    """Return the identity of a function up to a positive factor and a summand: add(relu(x),relu(x)) and relu(x) agree.

    The standard forms of the two differ in their last digits, so their fingerprints do. Here the values on the sample
    are brought to mean 0 and deviation 1 by their own moments in float64, which agree to the last bits. With learned
    parameters, which a factor may stand for, it is the fingerprint of the core.
    """
    inner = core(expression)
    if inner.parameters:
        return digest_of(inner).hex()
    with exact_arithmetic():
        values, *moved = (padded_outputs(each) for each in (inner, *with_moved_constants(inner)))
        sample = values[:N_POINTS]
        mean, deviation = sample.mean(), sample.std(correction=0)
        values, *moved = ((each - mean) / deviation for each in (values, *moved))
        return digest(rounded(values[None])[0].numpy(), hidden_tail(values, moved)).hex()


# --- quadrature -----------------------------------------------------------------------------------------------------


@cache
def _rule() -> tuple[Floats, Floats]:
    nodes, weights = np.polynomial.legendre.leggauss(_NODES)
    return nodes, weights


def _quadrature(expression: Expression) -> tuple[Floats, Floats] | None:
    """Return the values of a function at nodes, and the nodes' weights, which include the density.

    Every panel is halved until its two halves give the same moments as the whole.
    """
    edges = np.arange(-_REACH, _REACH + 1.0)
    panels = np.stack([edges[:-1], edges[1:]], axis=1)
    whole = _integrals(expression, panels)
    if whole is None:
        return None
    values, weights, sums = whole
    sizes = np.stack([(np.abs(values) * weights).sum(1), (values**2 * weights).sum(1)])
    if (sizes[:, [0, -1]].sum(1) > _UNCERTAIN * sizes.sum(1)).any():
        return None  # still growing where the density has all but vanished
    accepted: list[tuple[Floats, Floats]] = []
    for halving in range(_MOST_HALVINGS + 1):
        middle = panels.mean(1)
        halves = np.stack([panels[:, 0], middle, middle, panels[:, 1]], axis=1).reshape(-1, 2)
        found = _integrals(expression, halves)
        if found is None:
            return None
        values, weights, parts = found
        error = np.abs(parts.reshape(-1, 2, 2).sum(1) - sums)
        total = sum(np.abs(v) @ w for v, w in accepted) + (np.abs(values) * weights).sum()
        square = sum(v**2 @ w for v, w in accepted) + (values**2 * weights).sum()
        size = np.array([total, square])
        open_ = (error > _TOLERANCE * size).any(1)
        if halving == _MOST_HALVINGS and (error[open_].sum(0) > _UNCERTAIN * size).any():
            return None
        done = np.repeat(~open_, 2) if halving < _MOST_HALVINGS else np.ones(len(halves), dtype=bool)
        accepted.append((values[done].ravel(), weights[done].ravel()))
        panels, sums = halves[~done], parts[~done]
        if not len(panels):
            break
    return np.concatenate([v for v, _ in accepted]), np.concatenate([w for _, w in accepted])


def _integrals(expression: Expression, panels: Floats) -> tuple[Floats, Floats, Floats] | None:
    """Return values and weights at the nodes of each panel, [n, nodes], and the integrals of f and f^2, [n, 2]; None
    if one is not finite."""
    nodes, weights = _rule()
    half = (panels[:, 1] - panels[:, 0])[:, None] / 2
    points = panels.mean(1)[:, None] + half * nodes
    found = apply(expression.evaluate, torch.from_numpy(points.ravel()), name=str(expression))
    if found is None:
        return None
    values = found.numpy().reshape(points.shape)
    density = half * weights * np.exp(-(points**2) / 2) / math.sqrt(2 * math.pi)
    sums = np.stack([(values * density).sum(1), (values**2 * density).sum(1)], axis=1)
    return (values, density, sums) if np.isfinite(sums).all() else None
