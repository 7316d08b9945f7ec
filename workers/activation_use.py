"""A check that a network uses the activation that its factory is given: its outputs must depend on what that returns.

A network that makes the searched function and then calls another one in its own code trains to the same result with
every candidate, so a search on it finds nothing. Weights that begin at zero, such as those of a last layer or of a
residual branch, hide every function behind them; so all weights are moved a little before the outputs are compared.

They are compared with those of a network whose activations return noise. No second function would do: where all inputs
are large or have one sign, any two of the usual functions are equal, and after a layer norm two that differ by a factor
are. Outputs may be saturated, or add little of the activations to something large, so noise is drawn several times,
each time larger; on outputs that do not depend on the activations, noise of no size has an effect.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from aquasurf_ray.activations import Activation
from aquasurf_ray.baselines import REFERENCE
from aquasurf_ray.network_state import move_weights
from aquasurf_ray.tasks import ActivationCall, ActivationFactory, Splits, Task, TaskError, activation_calls
from aquasurf_ray.tasks.inputs import Inputs, call_network
from aquasurf_ray.tasks.outputs import output_of
from aquasurf_ray.tasks.replacement.replace import few
from aquasurf_ray.workers.engine.seeding import seeded
from aquasurf_ray.workers.network import sized_network

DRAWS = 10
"""Of two examples and two classes, a saturated output that depends on the noise is the same in one draw of four."""
GROWTH = 10.0
"""The size of a draw's noise as a multiple of that before."""
TOLERANCE = 1e-5
"""Relative; outputs on a GPU differ by about 1e-7 from one pass to the next."""


class _Noise(Activation):
    """Returns noise in the place of a function's values."""

    def __init__(self, source: _NoiseIn) -> None:
        super().__init__(REFERENCE)
        self._source = source

    def forward(self, x: Tensor) -> Tensor:
        size = self._source.size * max(1.0, x.abs().mean(dtype=torch.float64).item())
        most = torch.finfo(x.dtype).max / 1e3  # so that noise is finite, and zero times noise is zero
        return torch.randn(x.shape, generator=self._source.draws).to(x) * min(size, most)


class _NoiseIn:
    """A factory of activations that return noise in one role, "" for that of a network without roles, and of ReLU in
    the others.

    Attributes:
        size: that of the noise as a multiple of its input's, or of 1 if that is larger.
        draws: a generator of its own, so that dropout draws the same masks as with a function.
    """

    name = "noise"

    def __init__(self, role: str, roles: tuple[str, ...]) -> None:
        self.roles = roles or None
        self.size = 1.0
        self.draws = torch.Generator().manual_seed(0)
        self._role = role

    def for_role(self, role: str) -> ActivationFactory:
        """Return the factory for a role."""
        return self if role == self._role else _relu

    def __call__(self) -> nn.Module:
        """Return a new activation that returns noise."""
        return _Noise(self)


def _relu() -> nn.Module:
    return Activation(REFERENCE)


def refuse_unused_activation(task: Task, splits: Splits, inputs: Inputs, *, device: torch.device) -> None:
    """Refuse a network whose outputs do not depend on its activations, or on those of one of its roles.

    Args:
        inputs: a batch (n, ...) on `device`, n at least 2 where there is batch norm.

    Raises:
        TaskError: they do not; it names the role, and the activations that the network's own code calls instead.
    """
    first = next(_outputs(task, splits, _relu, inputs, device))
    for role in task.roles or ("",):
        if _depends(first, task, splits, _NoiseIn(role, task.roles), inputs, device):
            continue
        calls = [call for call in called_in_code(task, splits, inputs, device=device) if not call.stays]
        instead = f"; its code calls {named_calls(calls)} instead" if calls else ""
        makes = f"of role '{role}'" if role else "that it makes"
        raise TaskError(
            f"the network of task '{task.name}' must use the activations {makes}, and gives the same outputs whatever "
            f"they return{instead}"
        )


def _depends(first: Tensor, task: Task, splits: Splits, noise: _NoiseIn, inputs: Inputs, device: torch.device) -> bool:
    """Return whether noise in the place of activations makes the outputs differ from the first ones."""
    for second in _outputs(task, splits, noise, inputs, device):
        if _differ(first, second):
            return True
        noise.size *= GROWTH
    return False


def _differ(first: Tensor, second: Tensor) -> bool:
    if first.shape != second.shape or not (first.isfinite().all() and second.isfinite().all()):
        return True  # other checks report these
    return not torch.allclose(first, second, rtol=TOLERANCE, atol=TOLERANCE * float(first.abs().mean()))


def size_at_activation(task: Task, splits: Splits, inputs: Inputs, *, device: torch.device) -> float | None:
    """Return the mean absolute input of the untrained network's first activation; None if it calls none."""
    network = sized_network(task, splits, _relu, seed=0, device=device)
    sizes: list[float] = []

    def note(module: nn.Module, arguments: tuple[Tensor, ...]) -> None:
        if not sizes:
            sizes.append(arguments[0].abs().mean(dtype=torch.float64).item())

    for module in network.modules():
        if isinstance(module, Activation):
            module.register_forward_pre_hook(note)
    with torch.no_grad():
        call_network(network, inputs)
    return sizes[0] if sizes else None


def called_in_code(
    task: Task, splits: Splits, inputs: Inputs, *, device: torch.device, training: bool = True
) -> list[ActivationCall]:
    """Return the activations that the network's code calls outside of the modules that its factory made, in training or
    in evaluation."""
    network = sized_network(task, splits, _relu, seed=0, device=device)
    made = [module for module in network.modules() if isinstance(module, Activation)]
    with torch.no_grad():
        return list(activation_calls(network, inputs, outside=made, training=training))


def unused_activations(task: Task, splits: Splits, inputs: Inputs, *, device: torch.device) -> list[str]:
    """Return the names of the activation modules that one pass does not call."""
    network = sized_network(task, splits, _relu, seed=0, device=device)
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
    """Return calls as text, with files and lines."""
    return few([*map(str, calls)])


def _outputs(
    task: Task, splits: Splits, activation: ActivationFactory, inputs: Inputs, device: torch.device
) -> Iterator[Tensor]:
    """Yield the outputs of the network with moved weights, the same ones and the same dropout for every activation."""
    network = sized_network(task, splits, activation, seed=0, device=device)
    move_weights(network, {id(p) for m in network.modules() if isinstance(m, Activation) for p in m.parameters()})
    for _ in range(DRAWS):
        with torch.no_grad(), seeded(0, device):
            outputs = output_of(call_network(network, inputs)).float()
        yield outputs
