"""Models of learning curves against textbook formulas, and on curves whose end is known."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import multivariate_normal, norm

from aquasurf_ray.analysis.replay.early_stopping.curve_models import FreezeThaw, PowerLaws

EPOCHS = 10
T = np.arange(1, EPOCHS + 1)


def rising(n: int, seed: int = 0, noise: float = 0.002) -> np.ndarray:
    """Curves c - s t^-e: the end c and the way there differ."""
    rng = np.random.default_rng(seed)
    c, s, e = rng.uniform(0.7, 0.95, (n, 1)), rng.uniform(0.2, 0.4, (n, 1)), rng.uniform(0.5, 2.0, (n, 1))
    return np.asarray(c - s * T**-e + noise * rng.normal(size=(n, EPOCHS)))


def test_the_last_score_is_conditioned_on_those_so_far() -> None:
    model = FreezeThaw.fitted(rising(40), 3)
    assert model is not None
    curve, best = rising(1, seed=1)[0, :4], 0.85
    # P(last > best | curve) as a ratio of densities and distribution functions of the joint distribution.
    known = [0, 1, 2, 3, EPOCHS - 1]
    joint = multivariate_normal(model.mean[known], model.covariance[np.ix_(known, known)])
    above = np.linspace(best, best + 12 * model.covariance[-1, -1] ** 0.5, 4001)
    density = joint.pdf(np.column_stack([np.tile(curve, (len(above), 1)), above]))
    before = multivariate_normal(model.mean[:4], model.covariance[:4, :4]).pdf(curve)
    assert model.chance_to_exceed(best, curve) == pytest.approx(np.trapezoid(density, above) / before, rel=1e-4)


def test_the_chosen_process_has_the_largest_likelihood_of_simple_ones() -> None:
    curves = rising(60)
    model = FreezeThaw.fitted(curves, 5)
    assert model is not None
    better = curves[curves[:, 4] >= np.median(curves[:, 4])]
    chosen = multivariate_normal(model.mean, model.covariance).logpdf(better).sum()
    independent = norm(better.mean(axis=0), better.std(axis=0)).logpdf(better).sum()
    assert chosen > independent + 50, "scores of one curve belong together"


@pytest.mark.parametrize("model", [FreezeThaw, PowerLaws])
def test_good_and_bad_curves_are_told_apart_early(model: type[FreezeThaw | PowerLaws]) -> None:
    fitted = model.fitted(rising(60), 3)
    assert fitted is not None
    others = rising(200, seed=2)
    chances = np.array([fitted.chance_to_exceed(0.88, curve[:3]) for curve in others])
    assert ((chances >= 0) & (chances <= 1)).all()
    ends_above = others[:, -1] > 0.88
    assert ends_above[chances > 0.8].mean() > 0.6
    assert ends_above[chances < 0.02].mean() < 0.05
    assert chances[ends_above].mean() > 2 * chances[~ends_above].mean()


@pytest.mark.parametrize("model", [FreezeThaw, PowerLaws])
def test_more_epochs_tell_more(model: type[FreezeThaw | PowerLaws]) -> None:
    curves, others = rising(60), rising(200, seed=3)
    errors = []
    for epochs in (2, 8):
        fitted = model.fitted(curves, epochs)
        assert fitted is not None
        chances = np.array([fitted.chance_to_exceed(0.85, curve[:epochs]) for curve in others])
        errors.append(np.mean((chances - (others[:, -1] > 0.85)) ** 2))  # the Brier score
    assert errors[1] < errors[0]


@pytest.mark.parametrize("model", [FreezeThaw, PowerLaws])
def test_too_few_or_equal_curves_say_nothing(model: type[FreezeThaw | PowerLaws]) -> None:
    assert model.fitted(rising(7), 3) is None
    assert model.fitted(np.tile(rising(1, noise=0), (20, 1)) * 0 + 0.5, 3) is None
