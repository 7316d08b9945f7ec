"""The role that each weight of a network with roles belongs to: that of the first activation which it reaches.

A weight reaches an activation if the activation's input depends on it. With residual connections it reaches many, so
it belongs to the first, in the order in which a pass calls them: the two matrices of a feed-forward block and the
attention before the next one belong to the activations that come after them. A weight that reaches the network's
output and no activation, such as one of the last layer, belongs to no role.

Dependence is read off the graph that autograd records in one pass, with ReLU everywhere. It holds for every function,
and knows nothing of what the network does inside operations that hide their graph, such as reentrant checkpoints:
weights that are used only there are left out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import Node

from aquasurf_ray.activations import Activation
from aquasurf_ray.baselines import REFERENCE
from aquasurf_ray.tasks import Splits, Task
from aquasurf_ray.tasks.inputs import call_network, tensors_of
from aquasurf_ray.tasks.outputs import output_of
from aquasurf_ray.workers.fisher.blocks import trained_weights
from aquasurf_ray.workers.fisher.left_as_found import left_as_found
from aquasurf_ray.workers.network import sized_network, two_examples

NO_ROLE = ""
"""The role of weights behind the last activation."""


def role_of_weights(task: Task, splits: Splits, *, device: torch.device) -> dict[str, str]:
    """Return the role of each trained weight of the task's network by the parameter's name; none without roles.

    The network must have run on the task's examples before (`workers.network.try_network`).
    """
    if not task.roles:
        return {}
    network = sized_network(task, splits, lambda: Activation(REFERENCE), seed=0, device=device)
    inputs = two_examples(splits, device)
    weights = trained_weights(network)
    graph = _Graph(weights)
    with left_as_found(network, tensors_of(inputs), 0), torch.enable_grad():
        for weight in weights.values():
            weight.requires_grad_(True)
        with _each_input(network, task.places, graph.assign):
            output = output_of(call_network(network, inputs))
        graph.assign(output, NO_ROLE)
    return graph.role_of


def role_of_block(parameters: Sequence[str], role_of: Mapping[str, str]) -> str | None:
    """Return the role of a block of weights; None if none of them was seen in a graph.

    >>> role_of_block(["a.weight", "a.bias"], {"a.weight": "late", "a.bias": "late"})
    'late'
    """
    return next((role_of[name] for name in parameters if name in role_of), None)


class _Graph:
    """The graph of one pass, walked from each activation's input back to what no earlier one depends on."""

    def __init__(self, weights: Mapping[str, nn.Parameter]) -> None:
        self._names = {id(weight): name for name, weight in weights.items()}
        # Held, because a node is known by the object that stands for it, which lives as long as somebody has it.
        self._seen: set[Node] = set()
        self.role_of: dict[str, str] = {}

    def assign(self, tensor: Tensor, role: str) -> None:
        """Give the role to all weights that the tensor depends on and that have none yet."""
        waiting = [tensor.grad_fn]
        while waiting:
            node = waiting.pop()
            if node is None or node in self._seen:
                continue
            self._seen.add(node)
            name = self._names.get(id(getattr(node, "variable", None)))
            if name is not None:
                self.role_of[name] = role
            waiting += [before for before, _ in node.next_functions]


@contextmanager
def _each_input(
    network: nn.Module, places: Mapping[str, Sequence[str]], assign: Callable[[Tensor, str], None]
) -> Iterator[None]:
    """Call `assign` with the input and the role of each activation as it is called."""

    def hook(role: str) -> Callable[[nn.Module, tuple[Any, ...]], None]:
        return lambda _, arguments: assign(arguments[0], role)

    modules = [(network.get_submodule(name), role) for role, names in places.items() for name in names]
    handles = [module.register_forward_pre_hook(hook(role)) for module, role in modules]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
