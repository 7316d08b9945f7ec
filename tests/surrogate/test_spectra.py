"""The compact feature: agreement with exact W1 over real spectra, its bytes, its matrix, and the paper's CDF."""

from __future__ import annotations

from functools import cache
from itertools import combinations

import numpy as np
import pytest
import torch
from feature_distances import row_distance
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.distance import pdist
from scipy.stats import wasserstein_distance

from aquasurf_ray.activations import Activation
from aquasurf_ray.surrogate.distances import FeatureError, layer_coefficients
from aquasurf_ray.surrogate.spectra import (
    MAX_BYTES,
    SpectrumFeature,
    bin_means,
    bins_that_fit,
    compress,
    feature_matrix,
)
from aquasurf_ray.tasks.networks.all_cnn_c import all_cnn_c
from aquasurf_ray.tasks.networks.digits import digits_network
from aquasurf_ray.tasks.networks.resnet56 import resnet56
from aquasurf_ray.workers.spectrum import LayerSpectrum, fisher_spectrum

FUNCTIONS = [
    "relu(x)",
    "elu(x)",
    "selu(x)",
    "sigmoid(x)",
    "softplus(x)",
    "softsign(x)",
    "swish(x)",
    "tanh(x)",
    "mul(sigmoid(x),elu(x))",
    "mul(tanh(x),softplus(x))",
    "max(arctan(x),swish(x))",
    "add(relu(x),bessel_i0e(x))",
    "sub(erf(x),hard_sigmoid(x))",
    "min(selu(x),arcsinh(x))",
]
NETWORKS = {
    "all-cnn-c": (lambda a: all_cnn_c(a, width=16), (16, 3, 32, 32)),
    "digits": (digits_network, (64, 1, 8, 8)),
    "resnet56": (lambda a: resnet56(a), (8, 3, 32, 32)),
}


@cache
def real_spectra(network):
    make, shape = NETWORKS[network]
    found = []
    for function in FUNCTIONS if network != "resnet56" else FUNCTIONS[:6]:
        torch.manual_seed(0)
        model = make(lambda f=function: Activation(f)).train()
        found.append(fisher_spectrum(model, torch.randn(shape)))
    return found


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.slow
def test_layer_distances_agree_with_exact_w1_over_real_spectra(network):
    spectra = real_spectra(network)
    logs = [[layer.log_eigenvalues() for layer in s] for s in spectra]
    means = [compress(s).quantiles for s in spectra]
    errors = []
    for i, j in combinations(range(len(spectra)), 2):
        for a, b, p, q in zip(logs[i], logs[j], means[i], means[j], strict=True):
            exact = np.abs(a - b).mean()
            errors.append(abs(np.abs(p - q).mean() - exact) / exact)
    assert len(errors) > 300
    assert np.median(errors) < 0.01
    assert np.quantile(errors, 0.95) < 0.03


@pytest.mark.parametrize("weighting", ["inverse", "uniform", "size"])
@pytest.mark.parametrize("network", ["all-cnn-c", "digits"])
@pytest.mark.slow
def test_feature_distance_approximates_the_sum_of_scipys_wasserstein_distances(network, weighting):
    for a, b in combinations(real_spectra(network)[:6], 2):
        apart = np.array(
            [wasserstein_distance(x.log_eigenvalues(), y.log_eigenvalues()) for x, y in zip(a, b, strict=True)]
        )
        w = np.array([layer.n_weights for layer in a])
        exact = {"inverse": (apart / w).sum(), "uniform": apart.mean(), "size": (apart * w).sum() / w.sum()}[weighting]
        assert row_distance(compress(a), compress(b), weighting) == pytest.approx(exact, rel=0.01)


@pytest.mark.slow
@pytest.mark.parametrize("weighting", ["inverse", "uniform", "size"])
def test_manhattan_distance_of_matrix_rows_is_the_weighted_distance_of_the_quantiles(weighting):
    features = [compress(s) for s in real_spectra("all-cnn-c")]
    matrix = feature_matrix(features, weighting)
    assert matrix.dtype == np.float32
    coefficients = layer_coefficients(features[0].n_weights, weighting)
    expected = [
        sum(c * np.mean(np.abs(x - y)) for c, x, y in zip(coefficients, a.quantiles, b.quantiles, strict=True))
        for a, b in combinations(features, 2)
    ]
    np.testing.assert_allclose(pdist(matrix.astype(np.float64), "cityblock"), expected, rtol=1e-3)


def feature(n_layers=2, bins=4, seed=0):
    quantiles = np.sort(np.random.default_rng(seed).normal(size=(n_layers, bins)), axis=1)
    return SpectrumFeature(tuple(f"l{i}" for i in range(n_layers)), tuple(range(1, n_layers + 1)), quantiles)


def test_missing_features_and_cut_networks_are_rows_of_nan():
    matrix = feature_matrix([feature(), None, feature(n_layers=1), feature(seed=1)])
    assert matrix.shape == (4, 8)
    assert np.isnan(matrix).all(axis=1).tolist() == [False, True, True, False]
    assert feature_matrix([None, None]).shape == (2, 0)


def test_features_of_other_networks_are_refused():
    with pytest.raises(FeatureError, match="features must be of one network"):
        feature_matrix([feature(), feature(bins=5)])


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.slow
def test_bytes_come_back_exactly_and_fit_the_budget(network):
    for spectrum in real_spectra(network):
        compressed = compress(spectrum)
        data = compressed.to_bytes()
        restored = SpectrumFeature.from_bytes(data)
        assert restored.layout == compressed.layout
        assert (restored.quantiles == compressed.quantiles).all()
        assert restored.to_bytes() == data
        assert len(data) <= MAX_BYTES


def test_sixty_layers_with_long_names_fit_the_budget_with_a_hundred_bins():
    names = [f"stages.{i}.blocks.{i}.convolution.pointwise_expand" for i in range(60)]
    n_weights = [10_000_000 + i for i in range(60)]
    bins = bins_that_fit(names, n_weights)
    assert bins >= 100
    big = SpectrumFeature(tuple(names), tuple(n_weights), np.sort(np.random.default_rng(0).normal(size=(60, bins))))
    assert len(big.to_bytes()) <= MAX_BYTES


@given(st.lists(st.lists(st.floats(-250, 250), min_size=5, max_size=5), min_size=1, max_size=4))
def test_any_finite_values_survive_storage_within_a_step(rows):
    original = SpectrumFeature(tuple(map(str, range(len(rows)))), (5,) * len(rows), np.sort(np.array(rows), axis=1))
    restored = SpectrumFeature.from_bytes(original.to_bytes())
    assert SpectrumFeature.from_bytes(restored.to_bytes()).quantiles.tolist() == restored.quantiles.tolist()
    step = max(np.ptp(original.quantiles, axis=1).max() / 2**14, 2**-20)
    assert np.abs(restored.quantiles - original.quantiles).max() <= step


def test_every_damaged_byte_is_noticed():
    data = feature().to_bytes()
    for position in range(len(data)):
        damaged = bytearray(data)
        damaged[position] ^= 0x40
        with pytest.raises(FeatureError):
            SpectrumFeature.from_bytes(bytes(damaged))


def test_cut_or_foreign_bytes_are_refused_by_what_is_wrong():
    data = feature().to_bytes()
    for length in range(len(data)):
        with pytest.raises(FeatureError):
            SpectrumFeature.from_bytes(data[:length])
    with pytest.raises(FeatureError, match="cut short: 3 bytes"):
        SpectrumFeature.from_bytes(b"AQS")
    with pytest.raises(FeatureError, match="not a spectrum feature: starts with b'\\\\x80\\\\x04\\\\x95"):
        SpectrumFeature.from_bytes(b"\x80\x04\x95\x00" + data[4:])
    with pytest.raises(FeatureError, match="version 513"):
        SpectrumFeature.from_bytes(data[:4] + b"\x01\x02" + data[6:])


@pytest.mark.parametrize(
    "arguments",
    [
        (("a",), (1, 2), np.zeros((1, 3))),
        (("a",), (1,), np.zeros((2, 3))),
        (("a",), (1,), np.zeros(3)),
        (("a",), (0,), np.zeros((1, 3))),
        ((), (), np.zeros((0, 3))),
        (("a",), (1,), np.array([[0.0, np.nan]])),
    ],
)
def test_malformed_features_are_refused(arguments):
    with pytest.raises(FeatureError):
        SpectrumFeature(*arguments)


def test_an_empty_or_infinite_spectrum_is_refused():
    with pytest.raises(FeatureError):
        compress([])
    with pytest.raises(FeatureError, match="finite"):
        compress([LayerSpectrum("a", 2, np.array([1.0, np.inf]), np.array([1.0]))])


@given(st.lists(st.floats(-100, 100), min_size=1, max_size=40), st.integers(1, 20))
def test_bin_means_are_the_means_of_the_sample_repeated_until_it_divides(values, bins):
    ascending = np.sort(np.array(values))
    expected = np.repeat(ascending, bins).reshape(bins, -1).mean(axis=1)
    np.testing.assert_allclose(bin_means(ascending, bins), expected, atol=1e-9)


def papers_cdf(spectrum):
    """The feature as the paper's code computes it: accumulated normalised histograms, with the ends clipped."""
    layers = []
    for layer in spectrum:
        logs = np.clip(layer.log_eigenvalues(), -100, 100)
        counts, _ = np.histogram(logs, bins=layer.n_weights // 100, range=(-100, 100))
        layers.append(np.cumsum(counts / counts.sum()))
    return np.concatenate(layers).astype(np.float32)


def test_values_beyond_the_cdfs_range_count_at_its_ends():
    values = compress([LayerSpectrum("a", 400, np.exp(np.linspace(-150, 150, 20)), np.ones(20))]).cdf()
    assert values.shape == (4,)
    assert values[0] > 0
    assert values[-1] == 1


@pytest.mark.parametrize("network", ["all-cnn-c", pytest.param("resnet56", marks=pytest.mark.slow)])
@pytest.mark.slow
def test_the_cdf_from_the_feature_agrees_with_the_cdf_from_the_spectrum(network):
    for spectrum in real_spectra(network)[:6]:
        exact, approximate = papers_cdf(spectrum), compress(spectrum).cdf()
        assert exact.shape == approximate.shape
        assert exact.dtype == approximate.dtype == np.float32
        assert len(exact) == sum(s.n_weights // 100 for s in spectrum)
        np.testing.assert_allclose(approximate, exact, atol=0.02)
