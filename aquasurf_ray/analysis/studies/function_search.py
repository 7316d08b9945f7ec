"""A search among the functions of a store: by operators, by shape, by cost, by similarity.

A function's operators are those of its name, which is its shortest known spelling. Its shape is measured
(`activations.shape`). The distance of two functions is the root mean square of the difference of their outputs on the
fixed N(0,1) sample, the distribution of an activation's inputs when training starts.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, fields

import numpy as np

from aquasurf_ray.activations import ActivationError, outputs, parse, parse_function
from aquasurf_ray.activations.registry import find_operator, is_stand_in, suggestion
from aquasurf_ray.activations.shape import Shape, shape_of
from aquasurf_ray.analysis.errors import AnalysisError

SHAPES = tuple(field.name.replace("_", "-") for field in fields(Shape))


@dataclass(frozen=True)
class KnownFunction:
    """A function of a store. `score` is its best score, None if it was not trained or diverged; `status` is that of its
    most advanced evaluation: done, diverged, failed, running or queued, or None without one. `rank` is its place on the
    run's leaderboard, and `confirmed` its mean in the run's confirmation, if they are known."""

    name: str
    score: float | None = None
    time_ratio: float | None = None
    status: str | None = None
    rank: int | None = None
    confirmed: float | None = None


@dataclass(frozen=True)
class FunctionFilter:
    """The conditions on a function; an empty tuple or None sets no condition.

    Attributes:
        contains, without: operators that the function's name must contain, must not contain.
        shapes, not_shapes: names in `SHAPES`.
        max_cost: the largest step time relative to ReLU; functions without a measured cost are left out.
        near: a function; results are sorted by the distance to it.

    Raises:
        AnalysisError: an operator or a shape is unknown.
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
                raise AnalysisError(f"shape must be one of {', '.join(SHAPES)}, got '{shape}'")


@dataclass(frozen=True)
class FoundFunction:
    """A function that meets the conditions; `distance` is None unless `near` was given."""

    function: KnownFunction
    distance: float | None

    @property
    def shape(self) -> Shape | None:
        """The shape of the function, measured on demand; None if only values near zero are known of an operator."""
        return shape_of(self.function.name) if _can_be_measured(self.function.name) else None


def find(functions: Iterable[KnownFunction], wanted: FunctionFilter) -> list[FoundFunction]:
    """Return the functions that meet the conditions, the nearest or else the best first; those without a score come
    last.

    Functions that cannot be parsed in this process (`can_be_read`) are left out, because they cannot be measured.

    Raises:
        AnalysisError: `near` is not an expression.
    """
    near = None if wanted.near is None else _outputs_of(wanted.near)
    found = []
    for function in functions:
        if not _is_made_as(function, wanted):
            continue
        if not can_be_read(function.name):
            continue
        candidate = FoundFunction(function, None if near is None else _distance(function.name, near))
        # Shapes are measured by sampling the function, so they come last, and only if they matter.
        if not (wanted.shapes or wanted.not_shapes) or _has_shape(candidate.shape, wanted):
            found.append(candidate)
    return sorted(found, key=_place)


def can_be_read(name: str) -> bool:
    """Return whether all operators of a stored function are registered in this process."""
    try:
        parse_function(name)
    except ActivationError:
        return False
    return True


def _outputs_of(name: str) -> np.ndarray:
    try:
        return outputs(parse(name)).astype(np.float64)
    except ActivationError as error:
        raise AnalysisError(f"near: {error}") from None


def _operators(name: str) -> set[str]:
    return set(re.findall(r"[A-Za-z_0-9]+(?=\()", name))


def _can_be_measured(name: str) -> bool:
    """Return whether this process has the operators of a readable function, and not only their values near zero."""
    return not any(is_stand_in(operator) for operator in _operators(name))


def _is_made_as(function: KnownFunction, wanted: FunctionFilter) -> bool:
    operators = _operators(function.name)
    if not operators.issuperset(wanted.contains) or operators.intersection(wanted.without):
        return False
    if wanted.max_cost is None:
        return True
    return function.time_ratio is not None and function.time_ratio <= wanted.max_cost


def _has_shape(shape: Shape | None, wanted: FunctionFilter) -> bool:
    def has(name: str) -> bool:
        return bool(getattr(shape, name.replace("-", "_")))

    return shape is not None and all(map(has, wanted.shapes)) and not any(map(has, wanted.not_shapes))


def _distance(name: str, near: np.ndarray) -> float:
    """Return the distance of two functions; infinite if one of the two is undefined somewhere."""
    own = outputs(name).astype(np.float64)
    difference = own - np.resize(near, own.shape)  # of a function per role, each of its functions
    return float(np.sqrt(np.mean(difference**2))) if np.isfinite(difference).all() else float("inf")


def _place(found: FoundFunction) -> tuple[float, float, float, str]:
    function = found.function
    rank = np.inf if function.rank is None else function.rank
    score = -np.inf if function.score is None else function.score
    return found.distance or 0.0, rank, -score, function.name
