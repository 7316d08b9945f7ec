"""A check that a network uses the activation that its factory is given: two functions must give two different outputs.

A network that makes the searched function and then calls another one in its own code trains to the same result with
every candidate, so a search on it finds nothing. Weights that begin at zero, such as those of a last layer or of a
residual branch, hide every function behind them; so all weights are moved a little before the outputs are compared.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from aquasurf_ray.activations import Activation, Function, factory_of, parse, same_or_by_role
from aquasurf_ray.baselines import REFERENCE
from aquasurf_ray.tasks import ActivationCall, Splits, Task, TaskError, activation_calls
from aquasurf_ray.tasks.inputs import Inputs, call_network
from aquasurf_ray.tasks.outputs import output_of
from aquasurf_ray.workers.engine.seeding import seeded
from aquasurf_ray.workers.network import sized_network

ANOTHER = "mul(sigmoid(x),elu(x))"
SHIFT = 0.1
"""By how much weights are moved, as a share of their mean size."""
LEAST_SIZE = 0.1
"""The mean size that weights at zero count as having."""
TOLERANCE = 1e-5
"""Relative; outputs on a GPU differ by about 1e-7 from one pass to the next."""


def refuse_unused_activation(task: Task, splits: Splits, inputs: Inputs, *, device: torch.device) -> None:
    """Refuse a network whose outputs are the same with two functions, in all its roles or in a single one.

    Args:
        inputs: a batch (n, ...) on `device`, n at least 2 where there is batch norm.

    Raises:
        TaskError: the outputs are equal; it names the role, and the activations that the network's own code calls
            instead.
    """
    reference, another = parse(REFERENCE), parse(ANOTHER)
    first = _outputs(task, splits, reference, inputs, device)
    changed = {
        role: same_or_by_role({r: another if r == role else reference for r in task.roles}) for role in task.roles
    }
    for role, function in (changed or {"": another}).items():
        second = _outputs(task, splits, function, inputs, device)
        if first.shape != second.shape or not (first.isfinite().all() and second.isfinite().all()):
            continue  # other checks report these
        if not torch.allclose(first, second, rtol=TOLERANCE, atol=TOLERANCE * float(first.abs().mean())):
            continue
        calls = [call for call in called_in_code(task, splits, inputs, device=device) if not call.is_gate]
        instead = f"; its code calls {named_calls(calls)} instead" if calls else ""
        makes = f"of role '{role}'" if role else "that it makes"
        raise TaskError(
            f"the network of task '{task.name}' must use the activations {makes}, and gives the same outputs with "
            f"{REFERENCE} and {ANOTHER}{instead}"
        )


def called_in_code(task: Task, splits: Splits, inputs: Inputs, *, device: torch.device) -> list[ActivationCall]:
    """Return the activations that the network's code calls outside of the modules that its factory made."""
    network = sized_network(task, splits, lambda: Activation(REFERENCE), seed=0, device=device)
    made = [module for module in network.modules() if isinstance(module, Activation)]
    with torch.no_grad():
        return list(activation_calls(network, inputs, outside=made))


def unused_activations(task: Task, splits: Splits, inputs: Inputs, *, device: torch.device) -> list[str]:
    """Return the names of the activation modules that one pass does not call."""
    network = sized_network(task, splits, lambda: Activation(REFERENCE), seed=0, device=device)
    unused = {name: module for name, module in network.named_modules() if isinstance(module, Activation)}

    def called(name: str) -> Callable[..., None]:
        def note(*_: object) -> None:
            unused.pop(name, None)

        return note

    for name, module in list(unused.items()):
        module.register_forward_pre_hook(called(name))
    with torch.no_grad():
        call_network(network, inputs)
    return list(unused)


def named_calls(calls: list[ActivationCall]) -> str:
    """Return calls as text, with file and line."""
    return ", ".join(f"{call.function} in '{call.module}' ({call.place})" for call in calls)


def _outputs(task: Task, splits: Splits, function: Function, inputs: Inputs, device: torch.device) -> Tensor:
    """Return the outputs of the network with moved weights, the same ones and the same dropout for every function."""
    network = sized_network(task, splits, factory_of(function), seed=0, device=device)
    _move_weights(network)
    with torch.no_grad(), seeded(0, device):
        return output_of(call_network(network, inputs)).float()


def _move_weights(network: nn.Module) -> None:
    inside = {id(p) for module in network.modules() if isinstance(module, Activation) for p in module.parameters()}
    draw = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in network.parameters():
            if id(weight) not in inside and weight.is_floating_point():
                size = max(float(weight.abs().mean()), LEAST_SIZE)
                weight.add_(SHIFT * size * torch.randn(weight.shape, generator=draw).to(weight))
