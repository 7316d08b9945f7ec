"""The summed loss of a batch whose gradients make the Fisher: with the targets of the data, or drawn from the model."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import torch
from torch import Tensor

from aquasurf_ray.tasks import TaskError
from aquasurf_ray.tasks.classes import assumed_dimension, class_rows
from aquasurf_ray.tasks.hidden_settings import refuse_hidden_labels
from aquasurf_ray.tasks.objective import Likelihood
from aquasurf_ray.tasks.targets import IGNORED, Loss, counted_answers, counted_targets
from aquasurf_ray.workers.fisher.errors import AssumedClassesWarning, SpectrumInputError
from aquasurf_ray.workers.fisher.likelihood import likelihood_named, refuse_answers_outside_unit_interval, require_real
from aquasurf_ray.workers.fisher.padding import Padding


@dataclass(frozen=True)
class SummedLoss:
    """The loss of some outputs.

    Attributes:
        value: a scalar.
        outputs: those of the network, or a view of them.
        counted: booleans that broadcast to `outputs`: those of targets that count; None if all do.
    """

    value: Tensor
    outputs: Tensor
    counted: Tensor | None


class BatchLoss:
    """The summed loss of a batch as a function of the network's outputs.

    Args:
        likelihood, training_loss: as for `workers.spectrum.fisher_spectrum`.
        targets: the targets of the data; None if there are none.
        is_drawn: draw targets from the model's prediction, like those of the data where these are given.
        seed: the random seed of the drawn targets.

    Attributes:
        padding: the targets if some do not count, else None.
        n_outputs: the outputs of the last call, in dimension 0.

    Raises:
        SpectrumInputError: there is no such likelihood, or targets of a yes or no are no probabilities.
    """

    def __init__(
        self, likelihood: Likelihood, targets: Tensor | None, training_loss: Loss | None, *, is_drawn: bool, seed: int
    ) -> None:
        self._distribution = likelihood_named(likelihood)
        self._has_classes = likelihood == "categorical"
        self._training_loss = training_loss
        self._is_drawn = is_drawn
        self._seed = seed
        self.n_outputs = 0
        counted = _counted(targets, likelihood, training_loss)
        self.padding = None if counted is None else Padding(counted, has_values=likelihood == "bernoulli")
        if targets is not None and counted is not None and not self._has_classes:
            # One mark for padding, whatever label the loss ignores, so that nothing below has to know the loss.
            targets = torch.where(counted, targets, IGNORED)
        if likelihood == "bernoulli" and targets is not None and not targets.is_complex():
            refuse_answers_outside_unit_interval(targets if counted is None else targets[targets != IGNORED])
        self._targets = targets

    def __call__(self, outputs: Tensor) -> SummedLoss:
        """Return the loss of the outputs.

        Raises:
            SpectrumInputError: the outputs do not fit the likelihood or the targets.
            NonFiniteSpectrum: they are not finite.
        """
        # Known only once the network has run: inputs of several tensors may not say which dimension counts samples.
        self.n_outputs = len(outputs) if outputs.dim() > 0 else 0
        targets = self._targets
        if self._has_classes:
            outputs, targets = self._rows(outputs)
        if self._is_drawn or targets is None:
            targets = self._drawn(outputs, targets)
        value = self._distribution.loss(outputs, targets)
        if self.padding is None:
            return SummedLoss(value, outputs, None)
        counted = targets.to(outputs.device) != IGNORED
        are_labels = self._has_classes and counted.dim() < outputs.dim()
        return SummedLoss(value, outputs, counted[:, None] if are_labels else counted.reshape(outputs.shape))

    def _rows(self, outputs: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return logits [rows, classes] and their targets: labels, -100 where they do not count, or probabilities."""
        require_real(outputs, "logits (batch, ..., classes)", min_dim=2)
        if self._targets is None:
            return outputs.reshape(-1, outputs.shape[-1]), None
        if self._targets.is_complex():
            raise SpectrumInputError(
                f"targets must be class labels, one-hot or probabilities, got {self._targets.dtype}"
            )
        try:
            targets = self._targets.to(outputs.device)
            assumed = assumed_dimension(outputs, targets, self._training_loss)
            if assumed is not None:
                warnings.warn(assumed, AssumedClassesWarning, stacklevel=2)
            rows, targets = class_rows(outputs, targets, self._training_loss)
        except TaskError as error:
            raise SpectrumInputError(f"{error} for logits {tuple(outputs.shape)}") from error
        if self._training_loss is not None:
            try:
                refuse_hidden_labels(self._training_loss, outputs, self._targets.to(outputs.device))
            except TaskError as error:
                raise SpectrumInputError(str(error)) from error
        if not targets.is_floating_point():
            targets = torch.where(counted_targets(targets, self._training_loss), targets, IGNORED)
        return rows, targets

    def _drawn(self, outputs: Tensor, like: Tensor | None) -> Tensor:
        # A generator of its own, because dropout in the forward pass draws from the global one.
        drawn = self._distribution.sample(outputs, torch.Generator().manual_seed(self._seed))
        if like is not None and not self._has_classes and not bool(like.isfinite().all()):
            raise SpectrumInputError("targets must be real and finite, got NaN or infinity")
        if like is None or self.padding is None or (self._has_classes and like.is_floating_point()):
            return drawn
        if like.numel() != drawn.numel():
            raise SpectrumInputError(
                f"targets must have shape {tuple(drawn.shape)} as these outputs, got {tuple(like.shape)}"
            )
        # The model predicts at padded positions, too, but no training would take a gradient there.
        return torch.where(like.to(drawn.device).reshape(drawn.shape) == IGNORED, IGNORED, drawn)


def _counted(targets: Tensor | None, likelihood: Likelihood, training_loss: Loss | None) -> Tensor | None:
    """Return which targets count, as booleans of the targets' shape; None if all do."""
    if targets is None or likelihood == "gaussian" or targets.is_complex():
        return None
    counted = counted_answers if likelihood == "bernoulli" else counted_targets
    found = counted(targets, training_loss)
    return None if bool(found.all()) else found
