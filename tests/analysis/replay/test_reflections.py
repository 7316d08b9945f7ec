"""Distances between outputs that do not count signs, against the definition in float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from aquasurf_ray.activations import outputs, parse
from aquasurf_ray.activations.identity import sample
from aquasurf_ray.analysis.errors import AnalysisError
from aquasurf_ray.analysis.replay.reflections import reflected_distances

FUNCTIONS = (
    "relu(x)",
    "negative(relu(x))",
    "min(zero(x),x)",
    "swish(x)",
    "tanh(x)",
    "sub(erfc(x),one(x))",
    "square(x)",
)
OUTPUTS = np.stack([outputs(function) for function in FUNCTIONS])


def by_definition(one: str, other: str, signs_of_x: tuple[int, ...]) -> float:
    """The least distance of two functions on the sample, or on it and its mirror image, up to a sign of the values."""
    x = sample().astype(np.float64)
    x = x if signs_of_x == (1,) else np.concatenate([x, -x])

    def values(function: str, sign: int) -> np.ndarray:
        return parse(function).evaluate(torch.from_numpy(sign * x)).numpy().clip(-5, 5)

    reflected = [sign * values(other, of_x) for sign in (1, -1) for of_x in signs_of_x]
    return min(float(np.linalg.norm(values(one, 1) - each)) for each in reflected)


@pytest.mark.parametrize(("reflections", "signs_of_x"), [("outputs", (1,)), ("both", (1, -1))])
def test_distances_are_the_least_over_reflections(reflections: str, signs_of_x: tuple[int, ...]) -> None:
    distances = reflected_distances(FUNCTIONS, OUTPUTS, reflections)
    found = np.stack([distances.of(i) for i in range(len(FUNCTIONS))]) * distances.median
    wanted = [[by_definition(one, other, signs_of_x) for other in FUNCTIONS] for one in FUNCTIONS]
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-4)
    np.testing.assert_allclose(found, found.T, rtol=1e-6)


def test_a_function_and_its_reflections_are_at_no_distance() -> None:
    """The layers before and after take over the signs: -relu(x) of the outputs, and min(0, x) of both."""
    none, outputs_only, both = (reflected_distances(FUNCTIONS, OUTPUTS, each) for each in ("none", "outputs", "both"))
    assert none.of(0)[1] > 0.5
    assert none.of(0)[2] > 0.5
    assert outputs_only.of(0)[1] == both.of(0)[1] == 0
    assert outputs_only.of(0)[2] > 0.5
    assert both.of(0)[2] == 0


def test_an_unknown_reflection_is_refused() -> None:
    with pytest.raises(AnalysisError, match="reflections must be one of none, outputs, both, got 'inputs'"):
        reflected_distances(FUNCTIONS, OUTPUTS, "inputs")
