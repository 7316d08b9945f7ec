"""What is done to a network that is only run to be looked at, not trained: it is left as it was found, or moved."""

from __future__ import annotations

from collections.abc import Container, Iterator
from contextlib import contextmanager

import torch
from torch import nn
from torch.nn.parameter import is_lazy

SHIFT = 0.1
"""By how much weights are moved, as a share of their mean size."""
LEAST_SIZE = 0.1
"""The mean size that weights at zero count as having."""


@contextmanager
def modes_and_buffers_kept(network: nn.Module) -> Iterator[None]:
    """Put back the mode of each module, the `requires_grad` of each parameter, the values of the buffers, and the
    generators that the network draws from.

    Other attributes stay as the caller sets them; `workers.fisher.left_as_found` puts back these too.
    """
    modes = [(module, module.training) for module in network.modules()]
    trained = [(parameter, parameter.requires_grad) for parameter in network.parameters()]
    buffers = [(buffer, buffer.clone()) for buffer in network.buffers()]
    tensors = [*network.parameters(), *network.buffers()]
    gpus = sorted({tensor.device.index for tensor in tensors if tensor.device.type == "cuda"})
    try:
        with torch.random.fork_rng(devices=gpus):
            yield
    finally:
        for module, mode in modes:
            module.training = mode
        for parameter, is_trained in trained:
            # Assigned, because a learned parameter of channels without its size yet refuses the method.
            parameter.requires_grad = is_trained
        with torch.no_grad():
            for buffer, values in buffers:
                buffer.copy_(values)


def move_weights(network: nn.Module, but: Container[int] = ()) -> None:
    """Move all weights a little, always by the same numbers: weights that begin at zero, such as those of a last layer
    or of a residual branch, would hide whatever is behind them.

    Args:
        but: ids of parameters that stay.
    """
    draw = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in network.parameters():
            if id(weight) not in but and not is_lazy(weight) and weight.is_floating_point():
                size = max(float(weight.abs().mean()), LEAST_SIZE)
                weight.add_(SHIFT * size * torch.randn(weight.shape, generator=draw).to(weight))
