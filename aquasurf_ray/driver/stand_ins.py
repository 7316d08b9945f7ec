"""Operators that a process knows only by their values, so that it can draw functions of somebody's own network.

Such an operator is registered where the network's task is loaded, and nowhere else. A run keeps the values of those in
its task's baselines; what reads the run interpolates them. That is for people to look at: no training and no
fingerprint is computed from a stand-in.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import torch

from aquasurf_ray.activations import Expression
from aquasurf_ray.activations.identity import apply, exact_arithmetic
from aquasurf_ray.activations.registry import operator_named, own_operators_in, register_stand_in

if TYPE_CHECKING:
    from torch import Tensor

REACH = 5.0  # as far as a report draws a function
N_POINTS = 401

OperatorValues = dict[str, list[float | None]]


def operator_values(functions: Iterable[str]) -> OperatorValues:
    """Return the values of each operator of one argument in these functions that is not built in, at 401 even distances
    from -5 to 5, to six digits; None where it is undefined."""
    names = {name for text in functions for name in own_operators_in(text)}
    own = (operator_named(name) for name in sorted(names))
    return {each.name: _values(each.name) for each in own if each.kind == "unary"}


def register_stand_ins(values: Mapping[str, Sequence[float | None]]) -> None:
    """Register operators by their values, as `operator_values` returns them, unless this process knows the operators
    themselves."""
    for name, points in values.items():
        register_stand_in(name, Interpolated(points))


class Interpolated:
    """A function by its values at even distances, straight between them, and NaN beyond them."""

    def __init__(self, points: Sequence[float | None]) -> None:
        self._points = [float("nan") if value is None else value for value in points]

    def __call__(self, x: Tensor) -> Tensor:
        """Return the values."""
        known, last = x.new_tensor(self._points), len(self._points) - 1
        place = (x.nan_to_num() + REACH) * (last / (2 * REACH))
        left = place.detach().floor().clamp(0, last - 1).long()
        between = known[left] + (place - left) * (known[left + 1] - known[left])
        return between.where(x.abs() <= REACH, float("nan"))


def _values(name: str) -> list[float | None]:
    x = torch.linspace(-REACH, REACH, N_POINTS, dtype=torch.float64)
    with exact_arithmetic(), torch.no_grad():
        values = apply(Expression(name, (Expression(),)).evaluate, x, name=name)
    found = [float("nan")] * N_POINTS if values is None else values.tolist()
    return [float(f"{value:.6g}") if abs(value) < float("inf") else None for value in found]
