"""The learned parameters of a network's activations: which they are, and their sizes.

A parameter of channels has no size until its module has seen an input, but optimisers, moving averages and processes
that train together need every parameter before the first step. So the network runs once (`sized`), and is left as it
was found. In that run the channels of an input are found by the layer whose output it is, or has the shape of: the last
dimension after a linear layer, the first one after the batch's after a convolution. Where no such layer ran before, the
rule of `Activation` decides. A network that knows better sets `channel_dim` of its activations itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd
from torch.nn.parameter import UninitializedParameter

from aquasurf_ray.activations.expression import number_in
from aquasurf_ray.activations.grammar import Learned
from aquasurf_ray.activations.module import PREFIX, Activation
from aquasurf_ray.network_state import modes_and_buffers_kept


class LearnedParameter(NamedTuple):
    """A learned parameter of one activation in a network: the module's name, its own, its leaf, and its tensor."""

    layer: str
    name: str
    leaf: Learned
    tensor: nn.Parameter


def learned_parameters(network: nn.Module) -> list[LearnedParameter]:
    """Return the learned parameters of all activations in a network, in its order; those of a shared module once.

    >>> network = nn.Sequential(nn.Linear(2, 2), Activation("mul(learn(0.5),x)"))
    >>> [(p.layer, p.name, p.tensor.item()) for p in learned_parameters(network)]
    [('1', 'a', 0.5)]
    """
    return [
        LearnedParameter(layer, name.removeprefix(PREFIX), leaf, getattr(module, name))
        for layer, module in network.named_modules()
        if isinstance(module, Activation)
        for name, leaf in module.learned.items()
    ]


def sized(network: nn.Module, run: Callable[[], Any]) -> nn.Module:
    """Return the network after giving all its learned parameters their sizes: `run` runs it once, on any batch.

    Mode, buffers and torch's generators are left as they were found. The parameters of an activation that the run does
    not reach get one channel and are not trained. Nothing runs if every parameter has its size.

    >>> network = nn.Sequential(nn.Conv1d(2, 3, 1), Activation("mul(learn_channel(0.5),x)"))
    >>> sized(network, lambda: network(torch.zeros(4, 2, 8)))[1].learned_a.shape
    torch.Size([3])
    """
    if not _unsized(network):
        return network
    with modes_and_buffers_kept(network), _layouts_noted(network), torch.no_grad():
        # In training mode, because some networks run auxiliary heads only there, and these have activations, too.
        network.train()
        run()
    for parameter in _unsized(network):
        with torch.no_grad():
            # Optimisers and state dicts need a size; no gradient will ever reach it.
            parameter.tensor.materialize((1,))  # type: ignore[attr-defined]
            parameter.tensor.fill_(number_in(parameter.tensor.dtype, parameter.leaf.initial)).requires_grad_(False)
    return network


def _unsized(network: nn.Module) -> list[LearnedParameter]:
    return [p for p in learned_parameters(network) if isinstance(p.tensor, UninitializedParameter)]


@contextmanager
def _layouts_noted(network: nn.Module) -> Iterator[None]:
    """Set the dimension of the channels of each activation by the last layer with an output of its input's shape."""
    latest: dict[torch.Size, int] = {}

    def after_layer(layer: nn.Module, _: Any, output: Tensor) -> None:
        # From the end for a convolution, because an input without a batch has one dimension less.
        latest[output.shape] = -1 if isinstance(layer, nn.Linear) else 1 - layer.weight.dim()  # type: ignore[operator]

    def before_activation(module: nn.Module, arguments: tuple[Any, ...]) -> None:
        if isinstance(module, Activation) and module.channel_dim is None and arguments:
            module.channel_dim = latest.get(arguments[0].shape)

    handles = []
    for module in network.modules():
        if isinstance(module, nn.Linear | _ConvNd):
            handles.append(module.register_forward_hook(after_layer))
        elif isinstance(module, Activation):
            handles.append(module.register_forward_pre_hook(before_activation))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
