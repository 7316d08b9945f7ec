"""The model's predictive distribution: how targets are drawn from it, and the loss whose gradients make the Fisher.

A distribution is two functions of the network's outputs, so that one more kind of output is one more class with the
same two names and one entry in `LIKELIHOODS`. The loss is the negative log-likelihood summed over samples, positions
and values, never averaged: the Fisher is made of per-sample gradients.

    likelihood     outputs                      targets                                gradient by the outputs
    categorical    logits [n, ..., classes]     int64 classes [n, ...]                 softmax(f) - onehot(y)
    gaussian       means [n, ..., values]       numbers like the outputs               f - y (variance 1)
    bernoulli      logits of a yes [n, ...]     yes or no, or the probability of yes   sigmoid(f) - y

Dimensions between are positions (tokens, pixels). Targets are drawn in float64 on the CPU, so that one seed draws the
same on every device. Where a network's training loss is a multiple of this one (the squared error is twice it), its
Fisher would be the square of that: the log-eigenvalues of all functions shift alike, which no distance sees.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional

from aquasurf_ray.tasks.objective import IGNORED
from aquasurf_ray.workers.fisher.errors import SpectrumInputError


class Likelihood(Protocol):
    """A family of distributions of targets given a network's outputs."""

    def sample(self, outputs: Tensor, generator: torch.Generator) -> Tensor:
        """Targets drawn for the outputs, with a generator on the CPU."""
        ...

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Negative log-likelihood of the targets, summed, but for a constant: a scalar."""
        ...


class Categorical:
    """Softmax over the last dimension: outputs [..., classes] are logits, targets [...] are int64 class labels."""

    def sample(self, outputs: Tensor, generator: torch.Generator) -> Tensor:
        logits = self._checked(outputs).detach().to("cpu", torch.float64)
        probabilities = logits.reshape(-1, logits.shape[-1]).softmax(-1)
        labels = torch.multinomial(probabilities, 1, generator=generator)
        return labels.reshape(logits.shape[:-1]).to(outputs.device)

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        logits = self._checked(outputs)
        if targets.shape != logits.shape[:-1]:
            raise SpectrumInputError(
                f"targets must have shape {tuple(logits.shape[:-1])} for these logits, got {tuple(targets.shape)}"
            )
        labels = self._labels(targets, logits.shape[-1]).to(logits.device)
        return functional.cross_entropy(logits.reshape(-1, logits.shape[-1]), labels.reshape(-1), reduction="sum")

    @staticmethod
    def _checked(outputs: Tensor) -> Tensor:
        _require_real(outputs, "logits (batch, ..., classes)", min_dim=2)
        return outputs.float() if outputs.dtype in (torch.float16, torch.bfloat16) else outputs

    @staticmethod
    def _labels(targets: Tensor, n_classes: int) -> Tensor:
        if targets.is_floating_point() or targets.is_complex():
            raise SpectrumInputError(f"targets must be integer class labels, got {targets.dtype}")
        counted = targets[targets != IGNORED]
        if counted.numel() == 0:
            raise SpectrumInputError(f"targets must not all be {IGNORED}, which does not count")
        low, high = int(counted.min()), int(counted.max())
        if low < 0 or high >= n_classes:
            raise SpectrumInputError(f"targets must lie in [0, {n_classes}), got {low} to {high}")
        return targets.long()


class Gaussian:
    """A normal distribution of variance 1 around every output: the likelihood behind the squared error.

    The loss is formed in float64, so that its gradient is the drawn noise also where outputs are large. A variance of
    s^2 would divide the Fisher by s^2.
    """

    def sample(self, outputs: Tensor, generator: torch.Generator) -> Tensor:
        means = self._checked(outputs).detach().cpu()
        return (means + torch.randn(means.shape, dtype=torch.float64, generator=generator)).to(outputs.device)

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        means = self._checked(outputs)
        return (means - _fitting(targets, means)).square().sum() / 2

    @staticmethod
    def _checked(outputs: Tensor) -> Tensor:
        _require_real(outputs, "means (batch, ...)")
        return outputs.double()


class Bernoulli:
    """A yes or no for every output, its logit: the likelihood behind the binary cross-entropy with logits.

    The loss is formed in float64 and from the logits, so that it is finite and has a gradient far from 0 too. Targets
    that are given may be probabilities.
    """

    def sample(self, outputs: Tensor, generator: torch.Generator) -> Tensor:
        yes = self._checked(outputs).detach().cpu().sigmoid()
        return (torch.rand(yes.shape, dtype=torch.float64, generator=generator) < yes).to(outputs.device)

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        logits = self._checked(outputs)
        answers = _fitting(targets, logits)
        low, high = answers.min().item(), answers.max().item()
        if low < 0 or high > 1:
            raise SpectrumInputError(f"targets must lie in [0, 1], got {low:g} to {high:g}")
        return functional.binary_cross_entropy_with_logits(logits, answers, reduction="sum")

    @staticmethod
    def _checked(outputs: Tensor) -> Tensor:
        _require_real(outputs, "logits (batch, ...)")
        return outputs.double()


LIKELIHOODS: dict[str, Likelihood] = {"categorical": Categorical(), "gaussian": Gaussian(), "bernoulli": Bernoulli()}


def likelihood_named(name: str) -> Likelihood:
    """The likelihood of that name.

    Raises:
        SpectrumInputError: there is none.
    """
    if name not in LIKELIHOODS:
        raise SpectrumInputError(f"likelihood must be one of {', '.join(LIKELIHOODS)}, got {name!r}")
    return LIKELIHOODS[name]


def _require_real(outputs: Tensor, expected: str, *, min_dim: int = 1) -> None:
    if outputs.dim() < min_dim or not outputs.is_floating_point():
        raise SpectrumInputError(f"the model must return real {expected}, got {outputs.dtype} {tuple(outputs.shape)}")


def _fitting(targets: Tensor, outputs: Tensor) -> Tensor:
    """Numbers as targets, in the shape, on the device and in the precision of the outputs: (n,) fits (n, 1)."""
    if [d for d in targets.shape if d != 1] != [d for d in outputs.shape if d != 1]:
        raise SpectrumInputError(
            f"targets must have shape {tuple(outputs.shape)} as these outputs, got {tuple(targets.shape)}"
        )
    if targets.is_complex() or not targets.isfinite().all():
        what = "complex numbers" if targets.is_complex() else "NaN or infinity"
        raise SpectrumInputError(f"targets must be real and finite, got {what}")
    return targets.reshape(outputs.shape).to(outputs)
