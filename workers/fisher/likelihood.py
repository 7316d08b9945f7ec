"""The model's predictive distribution: how targets are drawn from it, and the loss whose gradients make the Fisher.

A distribution is two functions of the network's outputs, so that one more kind of output is one more class with the
same two names and one entry in `LIKELIHOODS`. The loss is the negative log-likelihood summed over samples, positions
and values, never averaged: the Fisher is made of per-sample gradients.

    likelihood     outputs                      targets                                gradient by the outputs
    categorical    logits [rows, classes]       classes [rows], or probabilities       softmax(f) - onehot(y)
    gaussian       means [n, ..., values]       numbers like the outputs               f - y (variance 1)
    bernoulli      logits of a yes [n, ...]     yes or no, or the probability of yes   sigmoid(f) - y

Labels and yes-or-no targets of -100 are padding and count nowhere.

`aquasurf_ray.tasks.classes` says which dimension of a network's outputs holds the classes, `aquasurf_ray.tasks.targets`
which targets count.
Dimensions between are positions (tokens, pixels). A logit of minus infinity rules a class out: it has probability 0, is
never drawn and has no gradient. Any other output that is not finite is an overflow. Targets are drawn in float64 on the
CPU, so that one seed draws the same on every device. Where a network's training loss is a multiple of this one (the
squared error is twice it), its Fisher would be the square of that: the log-eigenvalues of all functions shift alike,
which no distance sees.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional

from aquasurf_ray.tasks.targets import IGNORED
from aquasurf_ray.workers.fisher.errors import NonFiniteSpectrum, SpectrumInputError


class Likelihood(Protocol):
    """A family of distributions of targets given a network's outputs."""

    def sample(self, outputs: Tensor, generator: torch.Generator) -> Tensor:
        """Return targets drawn for the outputs, with a generator on the CPU."""
        ...

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the negative log-likelihood of the targets, summed, but for a constant: a scalar."""
        ...


class Categorical:
    """Softmax over the last dimension: outputs [rows, classes] are logits, targets int64 class labels [rows], or
    probabilities like the logits."""

    def sample(self, outputs: Tensor, generator: torch.Generator) -> Tensor:
        probabilities = self._checked(outputs).detach().to("cpu", torch.float64).softmax(-1)
        return torch.multinomial(probabilities, 1, generator=generator).squeeze(-1).to(outputs.device)

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        logits = self._checked(outputs)
        if targets.is_floating_point():
            return self._expected_loss(logits, targets)
        labels = self._labels(targets, logits)
        return functional.cross_entropy(logits, labels, reduction="sum", ignore_index=IGNORED)

    @staticmethod
    def _expected_loss(logits: Tensor, probabilities: Tensor) -> Tensor:
        weights = probabilities.to(logits)
        if not bool((weights >= 0).all()) or not bool(weights.isfinite().all()):
            raise SpectrumInputError(
                "targets must be class labels, one-hot or probabilities, got negative numbers or NaN"
            )
        unlikely = torch.where(weights > 0, logits.log_softmax(-1), torch.zeros_like(logits))
        if bool(unlikely.isneginf().any()):
            raise SpectrumInputError("targets give a probability to a class whose logit is minus infinity")
        return -(weights * unlikely).sum()

    @staticmethod
    def _checked(outputs: Tensor) -> Tensor:
        if bool((outputs.isnan() | outputs.isposinf()).any()) or bool(outputs.isneginf().all(-1).any()):
            raise NonFiniteSpectrum("network", "output")
        return outputs.float() if outputs.dtype in (torch.float16, torch.bfloat16) else outputs

    @staticmethod
    def _labels(targets: Tensor, logits: Tensor) -> Tensor:
        n_classes = logits.shape[-1]
        counted = targets != IGNORED
        if not bool(counted.any()):
            raise SpectrumInputError(f"targets must not all be {IGNORED}, which does not count")
        low, high = int(targets[counted].min()), int(targets[counted].max())
        if low < 0 or high >= n_classes:
            raise SpectrumInputError(f"targets must lie in [0, {n_classes}), got {low} to {high}")
        labels = targets.long().to(logits.device)
        chosen = logits.detach().gather(-1, labels.clamp(min=0)[:, None])[:, 0]
        if bool((chosen.isneginf() & (labels != IGNORED)).any()):
            raise SpectrumInputError("targets name a class whose logit is minus infinity")
        return labels


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
        require_real(outputs, "means (batch, ...)")
        return _finite(outputs)


class Bernoulli:
    """A yes or no for every output, its logit: the likelihood behind the binary cross-entropy with logits.

    The loss is formed in float64 and from the logits, so that it is finite and has a gradient far from 0 too. Targets
    that are given may be probabilities.
    """

    def sample(self, outputs: Tensor, generator: torch.Generator) -> Tensor:
        yes = self._checked(outputs).detach().cpu().sigmoid()
        return (torch.rand(yes.shape, dtype=torch.float64, generator=generator) < yes).to(outputs.device)

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        logits, answers = self._counted(self._checked(outputs), targets)
        refuse_answers_outside_unit_interval(answers)
        return functional.binary_cross_entropy_with_logits(logits, answers, reduction="sum")

    @staticmethod
    def _counted(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        answers = _fitting(targets, logits)
        counted = answers != IGNORED
        if not bool(counted.any()):
            raise SpectrumInputError(f"targets must not all be {IGNORED}, which does not count")
        return logits[counted], answers[counted]

    @staticmethod
    def _checked(outputs: Tensor) -> Tensor:
        require_real(outputs, "logits (batch, ...)")
        return _finite(outputs)


LIKELIHOODS: dict[str, Likelihood] = {"categorical": Categorical(), "gaussian": Gaussian(), "bernoulli": Bernoulli()}


def refuse_answers_outside_unit_interval(answers: Tensor) -> None:
    """Refuse answers, the targets of a Bernoulli likelihood, outside [0, 1].

    Raises:
        SpectrumInputError: one lies outside.
    """
    wrong = answers[(answers < 0) | (answers > 1)]
    if len(wrong):
        raise SpectrumInputError(f"targets must lie in [0, 1], got {wrong.min():g} to {wrong.max():g}")


def likelihood_named(name: str) -> Likelihood:
    """Return the likelihood of that name.

    Raises:
        SpectrumInputError: there is none.
    """
    if name not in LIKELIHOODS:
        raise SpectrumInputError(f"likelihood must be one of {', '.join(LIKELIHOODS)}, got {name!r}")
    return LIKELIHOODS[name]


def require_real(outputs: Tensor, expected: str, *, min_dim: int = 1) -> None:
    """Refuse outputs that are not real numbers.

    Raises:
        SpectrumInputError: they are of another type, or have too few dimensions.
    """
    if outputs.dim() < min_dim or not outputs.is_floating_point():
        raise SpectrumInputError(f"the model must return real {expected}, got {outputs.dtype} {tuple(outputs.shape)}")


def _finite(outputs: Tensor) -> Tensor:
    if not bool(outputs.detach().isfinite().all()):
        raise NonFiniteSpectrum("network", "output")
    return outputs.double()


def _fitting(targets: Tensor, outputs: Tensor) -> Tensor:
    """Return numbers as targets, in the shape, on the device and in the precision of the outputs: (n,) fits (n, 1)."""
    if [d for d in targets.shape if d != 1] != [d for d in outputs.shape if d != 1]:
        raise SpectrumInputError(
            f"targets must have shape {tuple(outputs.shape)} as these outputs, got {tuple(targets.shape)}"
        )
    if targets.is_complex() or not targets.isfinite().all():
        what = "complex numbers" if targets.is_complex() else "NaN or infinity"
        raise SpectrumInputError(f"targets must be real and finite, got {what}")
    return targets.reshape(outputs.shape).to(outputs)
