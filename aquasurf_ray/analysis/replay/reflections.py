"""Distances between outputs that do not count signs: the least one of a function from f(x), -f(x), f(-x) and -f(-x).

Initial weights are drawn symmetrically about zero, so the layer after an activation does not see the sign of its
outputs, and the layer before can take over that of its inputs: networks with these four are the same in distribution,
and train alike, unless something else reads the activation's outputs, as a maximum over a window or a shortcut does.
The Fisher information has this symmetry; Euclidean distances between outputs do not.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from aquasurf_ray import activations
from aquasurf_ray.analysis.errors import AnalysisError
from aquasurf_ray.surrogate.metric_space import FeatureDistances, Indices
from aquasurf_ray.surrogate.row_distances import row_distances

Floats = NDArray[np.float32]

REFLECTIONS = ("none", "outputs", "both")
"""What is reflected: nothing, the outputs, or the outputs and the inputs."""

_X = re.compile(r"\bx\b")


class ReflectedDistances(FeatureDistances):
    """Euclidean distances between outputs, the least over reflections, relative to their median.

    Args:
        rows: float32 [n, d].
        reflected: other rows of the same functions, each float32 [n, d], which a function may be near to instead.
    """

    def __init__(self, rows: Floats, reflected: Sequence[Floats]) -> None:
        self._all = np.concatenate([rows, *reflected])
        super().__init__(rows, "euclidean")

    def _distances(self, some: Indices, others: Indices) -> Floats:
        starts = range(0, len(self._all), len(self))
        found = [row_distances(self._all, some, others + start, "euclidean") for start in starts]
        nearest: Floats = np.minimum.reduce(found)
        return nearest


def reflected_distances(functions: Sequence[str], outputs: Floats, reflections: str) -> FeatureDistances:
    """Return the distances between the outputs of functions, float32 [n, 1000], without those of their reflections.

    Raises:
        AnalysisError: the reflections are none of `REFLECTIONS`.
    """
    if reflections not in REFLECTIONS:
        raise AnalysisError(f"reflections must be one of {', '.join(REFLECTIONS)}, got '{reflections}'")
    if reflections == "none":
        return FeatureDistances(outputs, "euclidean")
    if reflections == "outputs":
        return ReflectedDistances(outputs, [-outputs])
    # On the sample and its mirror image, so that the distance of f(-x) from g(x) is that of f(x) from g(-x).
    mirrored = np.stack([activations.outputs(_X.sub("negative(x)", function)) for function in functions])
    both, swapped = np.hstack([outputs, mirrored]), np.hstack([mirrored, outputs])
    return ReflectedDistances(both, [-both, swapped, -swapped])
