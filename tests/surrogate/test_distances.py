"""Exact distances against SciPy and the formulas."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from scipy.stats import wasserstein_distance

from aquasurf_ray.surrogate.distances import FeatureError, layer_coefficients, output_distance, spectrum_distance
from aquasurf_ray.surrogate.errors import SurrogateError


@dataclass
class Layer:
    name: str
    values: np.ndarray

    @property
    def n_weights(self) -> int:
        return len(self.values)

    def log_eigenvalues(self):
        return np.sort(self.values)


def spectrum(seed, sizes=(30, 500, 7)):
    generator = np.random.default_rng(seed)
    return [Layer(f"layer{i}", generator.normal(i, 1 + seed, n)) for i, n in enumerate(sizes)]


@pytest.mark.parametrize("weighting", ["inverse", "uniform", "size"])
def test_spectrum_distance_is_the_weighted_sum_of_scipys_wasserstein_distances(weighting):
    a, b = spectrum(0), spectrum(1)
    apart = np.array([wasserstein_distance(x.values, y.values) for x, y in zip(a, b, strict=True)])
    w = np.array([30, 500, 7])
    expected = {"inverse": (apart / w).sum(), "uniform": apart.mean(), "size": (apart * w).sum() / w.sum()}
    assert spectrum_distance(a, b, weighting) == pytest.approx(expected[weighting], rel=1e-12)


def test_the_default_is_the_seeds_formula():
    a, b = spectrum(0), spectrum(1)
    assert spectrum_distance(a, b) == spectrum_distance(a, b, "inverse")


def test_spectrum_distance_is_a_metric():
    a, b, c = spectrum(0), spectrum(1), spectrum(2)
    assert spectrum_distance(a, a) == 0
    assert spectrum_distance(a, b) == spectrum_distance(b, a) > 0
    assert spectrum_distance(a, c) <= spectrum_distance(a, b) + spectrum_distance(b, c)


@pytest.mark.parametrize("sizes", [(30, 500), (30, 500, 8)])
def test_spectra_of_other_networks_are_refused(sizes):
    with pytest.raises(FeatureError, match=f"same layers, got 3 and {len(sizes)} that differ"):
        spectrum_distance(spectrum(0), spectrum(0, sizes))


def test_not_finite_spectra_are_refused():
    broken = [Layer("layer0", np.array([1.0, np.inf]))]
    with pytest.raises(SurrogateError, match="must be finite"):
        spectrum_distance(broken, [Layer("layer0", np.zeros(2))])


def test_unknown_weightings_are_refused():
    with pytest.raises(FeatureError, match="got 'linear'"):
        layer_coefficients([1, 2], "linear")
    with pytest.raises(FeatureError, match=r"must be positive, got \[1, 0\]"):
        layer_coefficients([1, 0], "inverse")


def test_output_distance_is_the_root_mean_square():
    a, b = np.random.default_rng(0).normal(size=(2, 1000))
    assert output_distance(a, b) == pytest.approx(np.sqrt(((a - b) ** 2).sum() / 1000), rel=1e-12)
    assert output_distance(a, a) == 0
    assert output_distance([1e300, 0.0], [-1e300, 0.0]) == pytest.approx(2e300 / np.sqrt(2))


@pytest.mark.parametrize(
    ("a", "b", "message"),
    [([1.0], [1.0, 2.0], r"got \(1,\) and \(2,\)"), ([], [], "as many"), ([np.nan], [0.0], "must be finite")],
)
def test_outputs_that_do_not_compare_are_refused(a, b, message):
    with pytest.raises(FeatureError, match=message):
        output_distance(a, b)
