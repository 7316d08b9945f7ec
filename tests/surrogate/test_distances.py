"""The weights of layers in the spectrum distance."""

from __future__ import annotations

import pytest

from aquasurf_ray.surrogate.distances import FeatureError, layer_coefficients


@pytest.mark.parametrize(
    ("weighting", "expected"), [("inverse", [1.0, 1 / 3]), ("uniform", [0.5, 0.5]), ("size", [0.25, 0.75])]
)
def test_coefficients_are_those_of_the_formulas(weighting, expected):
    assert layer_coefficients([1, 3], weighting).tolist() == pytest.approx(expected)


def test_unknown_weightings_are_refused():
    with pytest.raises(FeatureError, match="got 'linear'"):
        layer_coefficients([1, 2], "linear")
    with pytest.raises(FeatureError, match=r"must be positive, got \[1, 0\]"):
        layer_coefficients([1, 0], "inverse")
