"""Two models of whole learning curves, as rivals of the line that `--early-stop curves` draws through early scores.

Both learn from the curves of the trainings that have finished, and predict the last score of another one from all of
its scores so far. Like the line, they learn from the half that is better after the epoch in question, since failed
trainings have curves of another kind.

Format: curves are scores [m, epochs], higher is better, finite; a curve so far is [t], t < epochs.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np
from scipy.linalg import cho_factor, cho_solve
from scipy.special import ndtr

from aquasurf_ray.analysis.benchmarks.benchmark import Scores
from aquasurf_ray.surrogate.learning_curves import ENOUGH

DECAYS = (0.5, 1.0, 2.0, 4.0)  # constants of the kernel over epochs, and exponents of the power laws, to choose from
SHARES = (0.5, 0.8, 0.95)  # of the variance that is the asymptote's
NOISES = (1e-3, 1e-2, 1e-1)  # relative to the rest
WIDTHS = (0.02, 0.05, 0.1, 0.2, 0.5)  # of residuals, relative to the deviation of last scores


@dataclass(frozen=True)
class FreezeThaw:
    """Curves as a Gaussian process over epochs: around an asymptote of their own, towards which they decay.

    The kernel is that of exponential decays with rates from a gamma distribution, k(t, u) = (b / (t + u + b))^a
    (Swersky, Snoek and Adams 2014, "Freeze-Thaw Bayesian Optimization"). Unlike theirs, the process has the
    curves' mean course, since all of them rise, and asymptotes are not correlated between functions.

    Args:
        mean: the mean curve [epochs].
        covariance: of the scores of a curve [epochs, epochs].
    """

    mean: Scores
    covariance: Scores

    @classmethod
    def fitted(cls, curves: Scores, epoch: int) -> FreezeThaw | None:
        """Return the process with the largest marginal likelihood on a grid; None for too few curves, or equal ones."""
        better = _better_half(curves, epoch)
        if better is None:
            return None
        mean = better.mean(axis=0)
        deviations = better - mean
        m, epochs = better.shape
        t = np.arange(1, epochs + 1)
        best, found = -np.inf, None
        for a, b, share, noise in product(DECAYS, DECAYS, SHARES, NOISES):
            decay = (b / (t[:, None] + t[None, :] + b)) ** a
            unit = share + (1 - share) * decay / decay[0, 0] + noise * np.eye(epochs)
            factor = cho_factor(unit, lower=True)
            # The scale has a closed form, as in `surrogate.gaussian_process`.
            scale = float(np.sum(deviations * cho_solve(factor, deviations.T).T)) / (m * epochs)
            likelihood = -0.5 * m * (epochs * np.log(scale) + 2 * np.log(np.diagonal(factor[0])).sum())
            if likelihood > best:
                best, found = likelihood, scale * unit
        return None if found is None else cls(mean, found)

    def chance_to_exceed(self, best: float, curve: Scores) -> float:
        """Return the probability that the last score of a training with this curve so far is above `best`: its
        posterior is normal."""
        t = len(curve)
        weights = np.linalg.solve(self.covariance[:t, :t], self.covariance[:t, -1])
        expected = self.mean[-1] + weights @ (curve - self.mean[:t])
        variance = self.covariance[-1, -1] - weights @ self.covariance[:t, -1]
        return float(ndtr((expected - best) / np.sqrt(variance)))


@dataclass(frozen=True)
class PowerLaws:
    """Curves as power laws c - s t^(-e): another curve goes on as those of the finished trainings do that it is like.

    A curve so far gives each law a weight by its likelihood, with normal residuals, and continues it from where it is:
    the fitted form of what ifBO (Rakotoarison et al. 2024) has a network learn from curves that are drawn from a prior.

    Args:
        laws: the values of the fitted laws [m, epochs].
        width: the standard deviation of the residuals.
    """

    laws: Scores
    width: float

    @classmethod
    def fitted(cls, curves: Scores, epoch: int) -> PowerLaws | None:
        """Return the laws by least squares, with the width that predicts each curve's last score best from the other
        laws; None for too few curves, or equal ones."""
        better = _better_half(curves, epoch)
        if better is None:
            return None
        laws = np.stack([_law(curve) for curve in better])
        spread = float(better[:, -1].std()) or float(np.ptp(better))
        models = [cls(laws, width * spread) for width in WIDTHS]
        return max(models, key=lambda model: model._left_out(better, epoch))

    def chance_to_exceed(self, best: float, curve: Scores) -> float:
        """Return the same probability, by a mixture of normal distributions."""
        weights, ends = self._ends(self.laws, curve)
        return float(weights @ ndtr((ends - best) / self.width))

    def _left_out(self, curves: Scores, epoch: int) -> float:
        """Return the log density of the curves' last scores, each by the laws of the others."""
        total = 0.0
        for i, curve in enumerate(curves):
            weights, ends = self._ends(np.delete(self.laws, i, axis=0), curve[:epoch])
            density = weights @ np.exp(-(((ends - curve[-1]) / self.width) ** 2) / 2) / self.width
            total += float(np.log(max(density, np.finfo(np.float64).tiny)))
        return total

    def _ends(self, laws: Scores, curve: Scores) -> tuple[Scores, Scores]:
        """Return the weights of the laws, and where each of them takes a curve."""
        residuals = curve - laws[:, : len(curve)]
        distances = (residuals**2).sum(axis=1) / (2 * self.width**2)
        weights = np.exp(distances.min() - distances)
        return weights / weights.sum(), laws[:, -1] + residuals.mean(axis=1)


def _law(curve: Scores) -> Scores:
    """Return the power law nearest to a curve, at its epochs."""
    t = np.arange(1.0, len(curve) + 1)
    fits = []
    for exponent in DECAYS:
        columns = np.stack([np.ones_like(t), t**-exponent], axis=1)
        fits.append(columns @ np.linalg.lstsq(columns, curve, rcond=None)[0])
    return np.asarray(min(fits, key=lambda fit: float(((fit - curve) ** 2).sum())))


def _better_half(curves: Scores, epoch: int) -> Scores | None:
    """Return the curves that are better after an epoch; None if they say too little."""
    if len(curves) < ENOUGH:
        return None
    better = curves[curves[:, epoch - 1] >= np.median(curves[:, epoch - 1])]
    return better if np.ptp(better, axis=0).any() else None
