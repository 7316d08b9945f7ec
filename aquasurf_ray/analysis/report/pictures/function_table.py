"""Every function of a run with its curve and its metrics, compact enough for a page, which shows them on hover."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from aquasurf_ray.activations import Activation, ActivationError
from aquasurf_ray.activations.identity import apply, exact_arithmetic
from aquasurf_ray.activations.rendering import readable
from aquasurf_ray.activations.roles import parts_of
from aquasurf_ray.analysis.studies.findings import Findings

REACH = 4.0
N_POINTS = 49
_LEVELS = 254
_UNDEFINED = 255

Bytes = NDArray[np.uint8]


class FunctionTable:
    """The functions of a run: the candidates in their order, then all others that it trained."""

    def __init__(self, findings: Findings) -> None:
        names = [function.name for function in findings.candidates]
        names += [request.function for request in findings.requests]
        self.names = tuple(dict.fromkeys(names))
        self.numbers = {name: number for number, name in enumerate(self.names)}
        self._findings = findings

    def document(self) -> dict[str, Any]:
        """Return columns for JSON. `curves` has `N_POINTS` levels a curve, at even distances from -4 to 4: level 0 is
        -4, 254 is 4, 255 is undefined. `n_curves` says how many a function has: one for each of its roles, if there
        are any. `readable` has the short names of the functions that have one, by their row."""
        columns: dict[str, Any] = {key: [None] * len(self.names) for key in _COLUMNS}
        for request in self._findings.requests:
            row = self.numbers[request.function]
            if columns["number"][row] is None:
                self._fill(columns, row, request)
        # From the worst up, so that the best of a function's seeds stays.
        for board in reversed(self._findings.board):
            row = self.numbers[board.function]
            columns["value"][row] = _rounded(self._findings.value(board.score))
            columns["test"][row] = _rounded(self._findings.value(board.test_score))
            columns["time_ratio"][row] = _rounded(board.time_ratio)
        found = [curves(name) for name in self.names]
        packed = base64.b64encode(b"".join(own.tobytes() for own in found)).decode()
        columns["n_curves"] = [len(own) for own in found]
        short = {row: readable(name) for row, name in enumerate(self.names)}
        columns["readable"] = {str(row): name for row, name in short.items() if name != self.names[row]}
        return {"names": list(self.names), "curves": packed, "points": N_POINTS, "reach": REACH, **columns}

    def _fill(self, columns: dict[str, Any], row: int, request: Any) -> None:
        columns["number"][row] = request.position  # from 0, as `show`, tables and a study's trials count
        columns["status"][row] = request.evaluation.status
        columns["origin"][row] = request.origin
        if request.suggestion:
            columns["predicted"][row] = _rounded(self._findings.value(request.suggestion.predicted_score))


_COLUMNS = ("number", "status", "origin", "predicted", "value", "test", "time_ratio")


def curves(name: str) -> Bytes:
    """Return the curve of a function, or those of its roles, uint8 [n, 49].

    >>> curves("relu(x)").shape, curves("early=x;late=relu(x)").shape
    ((1, 49), (2, 49))
    """
    return np.stack([curve(part) for part in parts_of(name).values() or (name,)])


def curve(name: str) -> Bytes:
    """Return the function's values as levels, uint8 [49]; undefined everywhere if it cannot be parsed here.

    >>> curve("relu(x)")[[0, 24, 48]].tolist()
    [127, 127, 254]
    """
    try:
        function = Activation(name)
    except ActivationError:
        return np.full(N_POINTS, _UNDEFINED, dtype=np.uint8)
    x = torch.linspace(-REACH, REACH, N_POINTS, dtype=torch.float64)
    with exact_arithmetic():
        values = apply(function, x, name=name)
    if values is None:
        return np.full(N_POINTS, _UNDEFINED, dtype=np.uint8)
    levels = (values.clamp(-REACH, REACH) + REACH) * (_LEVELS / (2 * REACH))
    found: Bytes = levels.round().nan_to_num(_UNDEFINED).to(torch.uint8).numpy()
    return found


def _rounded(value: float | None) -> float | None:
    # Six digits are more than the page shows, and shorter than a float's seventeen.
    return None if value is None or not np.isfinite(value) else float(f"{value:.6g}")
