"""The model's predictive distribution: how targets are drawn from it, and the loss whose gradients make the Fisher.

A distribution is two functions of the network's outputs, so that one more kind of output is one more class with the
same two names. The loss is summed over samples and positions, never averaged: the Fisher is made of per-sample
gradients.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional

from workers.fisher.errors import SpectrumInputError


class Likelihood(Protocol):
    """A family of distributions of targets given a network's outputs."""

    def sample(self, outputs: Tensor, generator: torch.Generator) -> Tensor:
        """Targets drawn for the outputs, with a generator on the CPU."""
        ...

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Negative log-likelihood of the targets, summed: a scalar."""
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
        if outputs.dim() < 2 or not outputs.is_floating_point():
            raise SpectrumInputError(
                f"the model must return real logits (batch, ..., classes), got {outputs.dtype} {tuple(outputs.shape)}"
            )
        return outputs.float() if outputs.dtype in (torch.float16, torch.bfloat16) else outputs

    @staticmethod
    def _labels(targets: Tensor, n_classes: int) -> Tensor:
        if targets.is_floating_point() or targets.is_complex():
            raise SpectrumInputError(f"targets must be integer class labels, got {targets.dtype}")
        low, high = int(targets.min()), int(targets.max())
        if low < 0 or high >= n_classes:
            raise SpectrumInputError(f"targets must lie in [0, {n_classes}), got {low} to {high}")
        return targets.long()
