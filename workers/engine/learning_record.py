"""The values that a network's activations learn: their parameters after each epoch, and the first step that broke one.

A parameter that becomes NaN or infinite makes every later loss NaN, and a loss that is NaN every parameter. So whether
a step's loss and the parameters after it are finite is counted on the device at each step, and read only where the
training waits for the device anyway: the one that broke first is the reason.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from aquasurf_ray.activations.learned import LearnedParameter, learned_parameters
from aquasurf_ray.training_metrics import LearnedValues

Total = Callable[[Tensor], Tensor]


class LearningRecord:
    """The learned parameters of one network in training; without any, it does nothing.

    Args:
        network: the network, its parameters sized.
    """

    def __init__(self, network: nn.Module) -> None:
        self._parameters = learned_parameters(network)
        self._means: list[list[float]] = [[] for _ in self._parameters]
        self._spreads: list[float] = [0.0] * len(self._parameters)
        device = self._parameters[0].tensor.device if self._parameters else None
        # The steps before the first one with a loss that is not finite, and with parameters that are not.
        self._finite_losses = torch.zeros((), dtype=torch.float64, device=device)
        self._finite_steps = torch.zeros((), dtype=torch.float64, device=device)
        self._loss_is_finite = torch.ones((), dtype=torch.bool, device=device)
        self._are_finite = torch.ones((), dtype=torch.bool, device=device)

    def after_step(self, loss: Tensor) -> None:
        """Note whether the step's loss, and the parameters after it, are finite."""
        if not self._parameters:
            return
        values = torch.cat([parameter.tensor.detach().reshape(-1) for parameter in self._parameters])
        self._loss_is_finite &= loss.isfinite()
        self._are_finite &= values.isfinite().all()
        self._finite_losses += self._loss_is_finite
        self._finite_steps += self._are_finite

    def diverged(self, total: Total, n_processes: int) -> str | None:
        """Return which parameter became NaN or infinite while the loss was finite, or None.

        All processes call this; they have the same parameters and different losses.
        """
        if not self._parameters:
            return None
        finite_losses = total(self._finite_losses).item()
        finite_steps = self._finite_steps.item()
        if self._are_finite.item() or finite_losses < n_processes * (finite_steps + 1):
            return None
        broken = next(p for p in self._parameters if not p.tensor.isfinite().all())
        value = broken.tensor.detach().reshape(-1)
        return f"learned parameter {broken.name} of layer '{broken.layer}' became {value[~value.isfinite()][0].item()}"

    def note_epoch(self, network: nn.Module) -> None:
        """Note the values after an epoch of the network that is validated, which may be the moving average."""
        for number, parameter in enumerate(learned_parameters(network) if self._parameters else ()):
            values = parameter.tensor.detach().double()
            self._means[number].append(values.mean().item())
            self._spreads[number] = values.std(correction=0).item()

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint keeps."""
        return {"means": self._means, "spreads": self._spreads}

    def restore(self, state: dict[str, Any], epoch: int) -> None:
        """Restore the state after `epoch`.

        Raises:
            ValueError: it is of other parameters.
        """
        lengths = [len(means) for means in state["means"]]
        if lengths != [epoch] * len(self._parameters):
            raise ValueError(f"courses of {len(lengths)} learned parameters, expected {len(self._parameters)}")
        self._means = [[float(mean) for mean in means] for means in state["means"]]
        self._spreads = [float(spread) for spread in state["spreads"]]

    def values(self) -> tuple[LearnedValues, ...]:
        """Return what was learned by the last epoch; nothing before the first."""
        rows = zip(self._parameters, self._means, self._spreads, strict=True)
        return tuple(_values(parameter, means, spread) for parameter, means, spread in rows if means)


def _values(parameter: LearnedParameter, means: list[float], spread: float) -> LearnedValues:
    return LearnedValues(
        layer=parameter.layer,
        parameter=parameter.name,
        initial=parameter.leaf.initial,
        n_channels=parameter.tensor.numel() if parameter.leaf.per_channel else None,
        mean=means[-1],
        spread=spread if math.isfinite(spread) else math.nan,
        course=tuple(means),
    )
