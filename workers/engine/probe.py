"""The probe: runs a function alone, forward and backward, before a network is built. Most faults show here."""

from __future__ import annotations

import torch

from aquasurf_ray.activations import Activation, RoleActivations
from aquasurf_ray.activations.identity import is_constant
from aquasurf_ray.workers.faults import FunctionFault, is_infrastructure_failure, reason_of


def probe(activation: Activation | RoleActivations, device: torch.device) -> None:
    """Run the function alone on 256 points, forward and backward; that of each role, and name the role at fault.

    Raises:
        FunctionFault: any error of the function's own, an output of another shape or type, a constant, nothing finite
            anywhere, or no gradient.
        torch.OutOfMemoryError, and other infrastructure failures.
    """
    if isinstance(activation, RoleActivations):
        for role, expression in activation.expression.of_role.items():
            try:
                probe(Activation(expression), device)
            except FunctionFault as error:
                raise FunctionFault(f"role '{role}': {error}") from error
        return
    try:
        _probe(activation, device)
    except Exception as error:  # only the function runs in here, so every error is its own
        if isinstance(error, FunctionFault) or is_infrastructure_failure(error):
            raise
        raise FunctionFault(reason_of(error)) from error


def _probe(activation: Activation, device: torch.device) -> None:
    x = torch.linspace(-3.0, 3.0, 256, device=device, requires_grad=True)
    y = activation.expression.evaluate(x) if activation.learned else activation(x)
    if not isinstance(y, torch.Tensor) or y.shape != x.shape:
        raise FunctionFault(
            f"output is {getattr(y, 'shape', type(y).__name__)}, expected a tensor of the input's shape"
        )
    if y.dtype != x.dtype:
        raise FunctionFault(f"output has type {y.dtype}, expected {x.dtype}")
    values = y.detach()
    if not values.isfinite().any():
        raise FunctionFault("output is nowhere finite on [-3, 3]")
    if bool((values == values[0]).all()) and (not activation.learned or is_constant(activation.expression)):
        raise FunctionFault(f"output is the constant {values[0].item():g}: no gradient passes")
    if not y.requires_grad:
        raise FunctionFault("output is detached from the input: no gradient passes")
    # NaN in a part of the range is not a fault by itself: the network may never go there.
    torch.autograd.backward(y.nan_to_num().sum())
