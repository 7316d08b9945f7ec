"""The Gaussian process against scikit-learn's on the same kernel, and its choice of kernel against all of the grid."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.distance import cdist
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel

from aquasurf_ray.surrogate.errors import SurrogateError
from aquasurf_ray.surrogate.gaussian_process import GaussianProcess, Kernel

SMOOTHNESS: dict[Kernel, float] = {"matern52": 2.5, "exponential": 0.5}


def data(m: int = 40, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    points = rng.uniform(-3, 3, size=(m, 2))
    scores = 0.6 + 0.05 * np.sin(points[:, 0]) * np.cos(points[:, 1]) + 0.005 * rng.normal(size=m)
    return points, scores, rng.uniform(-4, 4, size=(60, 2))


def theirs(mine: GaussianProcess, points: np.ndarray, scores: np.ndarray, length: float, noise: float, scale: float):  # type: ignore[no-untyped-def]
    """scikit-learn's, with everything fixed; noise and scale are variances of the standardised scores."""
    kernel = ConstantKernel(scale) * Matern(length, nu=SMOOTHNESS[mine.kernel]) + WhiteKernel(noise * scale)
    return GaussianProcessRegressor(kernel, alpha=0.0, optimizer=None, normalize_y=True).fit(points, scores)


@pytest.mark.parametrize("kernel", SMOOTHNESS)
@pytest.mark.parametrize(("length", "noise"), [(0.3, 0.05), (2.0, 0.001)])
def test_is_scikit_learns_on_the_same_kernel(kernel: Kernel, length: float, noise: float) -> None:
    points, scores, queries = data()
    mine = GaussianProcess(kernel, lengths=[length], noises=[noise]).fit(points, scores)
    other = theirs(mine, points, scores, mine.length, noise, mine.variance)
    mean, deviation = mine.predict_with_deviation(queries)
    expected, with_noise = other.predict(queries, return_std=True)
    np.testing.assert_allclose(mean, expected, rtol=1e-7)
    np.testing.assert_allclose(mine.predict(queries), expected, rtol=1e-7)
    of_noise = noise * mine.variance * scores.var()
    np.testing.assert_allclose(deviation**2 + of_noise, with_noise**2, rtol=1e-6)
    assert mine.log_likelihood == pytest.approx(other.log_marginal_likelihood_value_, rel=1e-9)


@pytest.mark.parametrize("kernel", SMOOTHNESS)
def test_the_mean_of_several_trainings_has_less_noise(kernel: Kernel) -> None:
    """scikit-learn's process takes the noise of each point as `alpha`."""
    points, scores, queries = data()
    counts = np.resize([1, 2, 1, 3, 5], len(points))
    length, noise = 0.7, 0.2
    mine = GaussianProcess(kernel, lengths=[length], noises=[noise])
    mine.fit_distances(cdist(points, points), scores, counts)
    covariance = ConstantKernel(mine.variance) * Matern(mine.length, nu=SMOOTHNESS[kernel])
    alpha = mine.variance * noise / counts
    other = GaussianProcessRegressor(covariance, alpha=alpha, optimizer=None, normalize_y=True).fit(points, scores)
    mean, deviation = mine.predict_distances_with_deviation(cdist(points, queries))
    expected, deviations = other.predict(queries, return_std=True)
    np.testing.assert_allclose(mean, expected, rtol=1e-7)
    np.testing.assert_allclose(deviation, deviations, rtol=1e-6)
    assert mine.log_likelihood == pytest.approx(other.log_marginal_likelihood_value_, rel=1e-9)


def test_one_training_each_is_the_default() -> None:
    points, scores, _ = data()
    among = cdist(points, points)
    plain, counted = GaussianProcess(), GaussianProcess()
    plain.fit_distances(among, scores)
    counted.fit_distances(among, scores, np.ones(len(scores), dtype=np.int64))
    assert np.array_equal(plain.predict_distances(among), counted.predict_distances(among))


@pytest.mark.parametrize("counts", [np.array([1, 0]), np.ones(3)])
def test_counts_are_of_at_least_one_training_for_each_score(counts: np.ndarray) -> None:
    with pytest.raises(SurrogateError, match="2 numbers of trainings, at least 1 each"):
        GaussianProcess().fit_distances(np.zeros((2, 2)), np.array([0.0, 1.0]), counts)


def test_the_scale_is_the_likeliest() -> None:
    points, scores, _ = data()
    mine = GaussianProcess(lengths=[1.0], noises=[0.1]).fit(points, scores)
    at = [
        theirs(mine, points, scores, mine.length, 0.1, mine.variance * factor).log_marginal_likelihood_value_
        for factor in (0.9, 1.0, 1.1)
    ]
    assert at[1] > max(at[0], at[2])


@pytest.mark.parametrize("seed", range(3))
def test_length_and_noise_are_the_likeliest_of_the_grid(seed: int) -> None:
    points, scores, _ = data(30, seed)
    lengths, noises = (0.1, 0.5, 2.0), (0.001, 0.1, 1.0)
    grid = [GaussianProcess(lengths=[a], noises=[b]).fit(points, scores) for a in lengths for b in noises]
    chosen = GaussianProcess(lengths=lengths, noises=noises).fit(points, scores)
    best = max(grid, key=lambda fit: fit.log_likelihood)
    assert (chosen.length, chosen.noise) == (best.length, best.noise)


def test_distances_do_as_well_as_points() -> None:
    points, scores, queries = data()
    by_points = GaussianProcess().fit(points, scores)
    by_distances = GaussianProcess().fit_distances(cdist(points, points), scores)
    np.testing.assert_array_equal(
        by_distances.predict_distances(cdist(points, queries)), by_points.predict(queries), strict=True
    )
    _, deviation = by_distances.predict_distances_with_deviation(cdist(points, queries))
    np.testing.assert_array_equal(deviation, by_points.predict_with_deviation(queries)[1])


def test_knows_most_where_it_was_told() -> None:
    points, scores, _ = data()
    process = GaussianProcess().fit(points, scores)
    near, far = (process.predict_with_deviation(at)[1] for at in (points, points + 100.0))
    assert near.max() < far.min()
    assert process.predict(points + 100.0) == pytest.approx(scores.mean(), abs=1e-6)


def test_the_same_point_twice_and_no_spread() -> None:
    points, scores = np.zeros((4, 2)), np.array([0.1, 0.2, 0.3, 0.2])
    assert GaussianProcess().fit(points, scores).predict(np.zeros((1, 2))) == pytest.approx(0.2)
    assert GaussianProcess().fit(points, np.full(4, 0.7)).predict(np.ones((2, 2))).tolist() == [0.7, 0.7]


def test_distances_of_no_negative_type_are_taken_for_noise() -> None:
    """Three points near one centre and far from one another, more than any kernel can believe."""
    among = np.array([[0.0, 9, 9, 0.1], [9, 0, 9, 0.1], [9, 9, 0, 0.1], [0.1, 0.1, 0.1, 0]])
    process = GaussianProcess("exponential", lengths=[5.0], noises=[1e-3])
    process.fit_distances(among, np.array([0.0, 1.0, 0.5, 0.4]))
    assert process.noise > 1
    assert np.isfinite(process.predict_distances(among)).all()


def test_errors_name_what_was_received() -> None:
    with pytest.raises(SurrogateError, match="kernel is 'rbf'"):
        GaussianProcess("rbf")  # type: ignore[arg-type]
    with pytest.raises(SurrogateError, match="must be positive"):
        GaussianProcess(noises=[0.0])
    with pytest.raises(SurrogateError, match=r"distances have shape \(2, 3\), scores \(2,\)"):
        GaussianProcess().fit_distances(np.ones((2, 3)), np.ones(2))
    with pytest.raises(SurrogateError, match="call predict_distances"):
        GaussianProcess().fit_distances(np.zeros((1, 1)), np.ones(1)).predict(np.ones((1, 2)))
