"""Leaves a network as it was found where it is only run to be looked at, not trained."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


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
