"""The outputs of a run's functions. Each is evaluated once, whichever part of the run is the first to need it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from aquasurf_ray.activations import Function, parse_function
from aquasurf_ray.activations.spaces.evaluation import Evaluated, Evaluator
from aquasurf_ray.activations.spaces.role_growth import evaluated
from aquasurf_ray.store import FunctionRecord


@dataclass(frozen=True, eq=False)
class FunctionOutputs:
    """The outputs of one function, in all r roles of the network.

    Attributes:
        row: the values on the sample, float32 [1000 r]; NaN where undefined.
        is_finite: whether all of them are finite, before clipping.
        fingerprint: that of the outputs alone, which functions share that differ by a hidden constant; empty for a
            function with learned parameters.
    """

    row: NDArray[np.float32]
    is_finite: bool
    fingerprint: str


class OutputsOfRun:
    """The outputs of the functions of one run, by the functions' own fingerprints.

    Args:
        roles: the roles of the network; none for a network with one function.
    """

    def __init__(self, roles: Sequence[str]) -> None:
        self._roles, self._evaluator = roles, Evaluator()
        self._known: dict[str, FunctionOutputs] = {}

    def of(self, functions: Sequence[FunctionRecord]) -> list[FunctionOutputs]:
        """Return the outputs of functions, in their order.

        Raises:
            ActivationError: an operator of a function is unknown in this process.
        """
        new = [function for function in functions if function.fingerprint not in self._known]
        if new:
            found = self.evaluate([parse_function(function.name) for function in new], identify=False)
            self.keep({function.fingerprint: i for i, function in enumerate(new)}, found)
        return [self._known[function.fingerprint] for function in functions]

    def evaluate(self, functions: Sequence[Function], *, identify: bool = True) -> Evaluated:
        """Return the outputs of any functions, without keeping them; see `Evaluator.evaluate`."""
        return evaluated(self._evaluator, functions, self._roles, identify=identify)

    def keep(self, places: Mapping[str, int], found: Evaluated) -> None:
        """Keep some of the outputs that were found without `identify`, by the fingerprints of their functions."""
        for fingerprint, i in places.items():
            # A copy, or one kept row would keep those of all functions that were evaluated with it.
            row = found.outputs[i].copy()
            self._known[fingerprint] = FunctionOutputs(row, bool(found.finite[i]), found.fingerprints[i])
