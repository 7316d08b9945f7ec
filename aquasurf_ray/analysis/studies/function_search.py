"""Finding functions among those that a store knows: by what they are made of, by shape, by cost, by nearness.

A function's parts are those of its name, which is the shortest spelling that is known of it. Its shape is measured
(`activations.shape`). How near two functions are is the root mean square of the difference of their outputs on the
fixed N(0,1) sample, which is that over the inputs that a network's activations have at the start.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, fields

import numpy as np

from aquasurf_ray.activations import ActivationError, outputs, parse
from aquasurf_ray.activations.registry import find_operator, suggestion
from aquasurf_ray.activations.shape import Shape, shape_of
from aquasurf_ray.analysis.errors import AnalysisError

SHAPES = tuple(field.name.replace("_", "-") for field in fields(Shape))


@dataclass(frozen=True)
class KnownFunction:
    """A function of a store. `score` is its best one, None where it was not trained or diverged; `status` is that of
    the evaluation with the most to say: done, diverged, failed, running, queued, or None where there is none."""

    name: str
    score: float | None = None
    time_ratio: float | None = None
    status: str | None = None


@dataclass(frozen=True)
class Wanted:
    """What a function must be like; empty and None ask for nothing.

    Attributes:
        contains, without: operators that its name has, has not.
        shapes, not_shapes: names in `SHAPES`.
        max_cost: the largest step time, in units of relu's; functions without a measured one are left out.
        near: sorts by nearness to this function.

    Raises:
        AnalysisError: no such operator or shape.
    """

    contains: tuple[str, ...] = ()
    without: tuple[str, ...] = ()
    shapes: tuple[str, ...] = ()
    not_shapes: tuple[str, ...] = ()
    max_cost: float | None = None
    near: str | None = None

    def __post_init__(self) -> None:
        for operator in (*self.contains, *self.without):
            if find_operator(operator) is None:
                raise AnalysisError(f"no operator is named '{operator:.40}'{suggestion(operator)}")
        for shape in (*self.shapes, *self.not_shapes):
            if shape not in SHAPES:
                raise AnalysisError(f"shape '{shape}' is not known; there are {', '.join(SHAPES)}")


@dataclass(frozen=True)
class FoundFunction:
    """A function that is as wanted; `distance` is None where nearness was not asked for."""

    function: KnownFunction
    distance: float | None

    @property
    def shape(self) -> Shape:
        """Measured when it is asked for."""
        return shape_of(self.function.name)


def find(functions: Iterable[KnownFunction], wanted: Wanted) -> list[FoundFunction]:
    """The functions that are as wanted, the nearest or else the best first; those without a score come last.

    Functions that cannot be read here (`can_be_read`) are left out: nothing can be measured of them.

    Raises:
        AnalysisError: the function to be near to cannot be read.
    """
    near = None if wanted.near is None else _outputs_of(wanted.near)
    found = []
    for function in functions:
        if not _is_made_as(function, wanted):
            continue
        if not can_be_read(function.name):
            continue
        if not (wanted.shapes or wanted.not_shapes) or _has_shape(shape_of(function.name), wanted):
            found.append(FoundFunction(function, None if near is None else _distance(function.name, near)))
    return sorted(found, key=_place)


def can_be_read(name: str) -> bool:
    """Whether all operators of a stored function are registered here."""
    try:
        parse(name)
    except ActivationError:
        return False
    return True


def _outputs_of(name: str) -> np.ndarray:
    try:
        return outputs(parse(name)).astype(np.float64)
    except ActivationError as error:
        raise AnalysisError(f"near: {error}") from None


def _is_made_as(function: KnownFunction, wanted: Wanted) -> bool:
    operators = set(re.findall(r"[A-Za-z_0-9]+(?=\()", function.name))
    if not operators.issuperset(wanted.contains) or operators.intersection(wanted.without):
        return False
    if wanted.max_cost is None:
        return True
    return function.time_ratio is not None and function.time_ratio <= wanted.max_cost


def _has_shape(shape: Shape, wanted: Wanted) -> bool:
    def has(name: str) -> bool:
        return bool(getattr(shape, name.replace("-", "_")))

    return all(map(has, wanted.shapes)) and not any(map(has, wanted.not_shapes))


def _distance(name: str, near: np.ndarray) -> float:
    """Infinite where one of the two is undefined somewhere."""
    difference = outputs(name).astype(np.float64) - near
    return float(np.sqrt(np.mean(difference**2))) if np.isfinite(difference).all() else float("inf")


def _place(found: FoundFunction) -> tuple[float, float, str]:
    score = -np.inf if found.function.score is None else found.function.score
    return found.distance or 0.0, -score, found.function.name
