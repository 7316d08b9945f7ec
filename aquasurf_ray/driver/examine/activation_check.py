"""The activations that a search does not reach: those that the network's own code calls or writes out, in training or
only in evaluation, and modules that no pass calls."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from aquasurf_ray.tasks import ActivationCall, Splits, Task
from aquasurf_ray.tasks.inputs import Inputs
from aquasurf_ray.tasks.replacement import ModelNetwork
from aquasurf_ray.workers.activation_use import called_in_code, named_calls, size_at_activation, unused_activations

LARGE_INPUT = 20.0
"""Layers with the usual weights give an activation about 1; beyond this, the usual functions are straight lines."""


def unreached_activations(task: Task, splits: Splits, inputs: Inputs, *, device: torch.device) -> list[str]:
    """Return warnings about the activations of a network that the searched function does not replace, and about those
    that it replaces to no effect."""
    calls = _left(task, splits, inputs, device, training=True)
    says = [*_named(calls, task), *_in_evaluation(task, splits, inputs, calls, device)]
    size = size_at_activation(task, splits, inputs, device=device)
    if size is not None and size > LARGE_INPUT:
        says.append(
            f"warning: the inputs of the first activation are about {size:.2g} in size, where functions are "
            "straight lines or constants; scale the network's inputs, such as to mean 0 and deviation 1"
        )
    unused = unused_activations(task, splits, inputs, device=device)
    if unused:
        says.append(f"warning: activation modules that the network does not call: {', '.join(unused)}")
    return says


def _left(task: Task, splits: Splits, inputs: Inputs, device: torch.device, *, training: bool) -> list[ActivationCall]:
    """Return the calls that act as activations and are not replaced; with `only=`, what stays was said to stay."""
    network = task.network
    if isinstance(network, ModelNetwork):
        calls = network.calls(inputs, training=training)
        return [call for call in calls if not call.stays or (call.hidden and network.only is None)]
    calls = called_in_code(task, splits, inputs, device=device, training=training)
    return [call for call in calls if not call.stays or call.hidden]


def _named(calls: Sequence[ActivationCall], task: Task) -> list[str]:
    says = []
    if stray := [call for call in calls if not call.stays]:
        says.append(f"warning: not replaced, since the network's own code calls them: {named_calls(stray)}")
    if hidden := [replace(call, places=call.hidden) for call in calls if call.stays]:
        says.append(
            f"warning: left in place, though used as activations: {named_calls(hidden)}; to search them too, "
            f"{_remedy(task)}"
        )
    return says


def _remedy(task: Task) -> str:
    if isinstance(task.network, ModelNetwork):
        return "make each a module and name its class in only=; to keep them, name in only= what to replace"
    return "call a module of the activation that the factory is given there; else they stay as they are"


def _in_evaluation(
    task: Task, splits: Splits, inputs: Inputs, known: Sequence[ActivationCall], device: torch.device
) -> list[str]:
    """Return a warning if the network in evaluation has activations of its own that it has not in training."""
    calls = _left(task, splits, inputs, device, training=False)
    others = [call for call in calls if call not in known]
    if not others:
        return []
    return [
        f"warning: in evaluation only, the network's own code calls {named_calls(others)}; a score must be that of the "
        "function that was trained, so use the same activations in both"
    ]
