"""Inspection of a network in training with a function, or one for each role: each activation's inputs, and gradients.

The network is inspected on the first batch of the training, before the first step and after the last epoch, in training
mode both times, so that batch norm takes the batch's own statistics and the two can be compared. Buffers and random
state are restored. The training itself is the recipe's, in the function's eager form.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from aquasurf_ray.activations import Activation, RoleActivations
from aquasurf_ray.tasks import Splits, Task
from aquasurf_ray.tasks.losses import scalar_loss
from aquasurf_ray.training_metrics import TrainingMetrics
from aquasurf_ray.workers.engine.feed import Step, TrainingFeed
from aquasurf_ray.workers.engine.form import named_form
from aquasurf_ray.workers.engine.loop import ProgressCallback, TrainingLoop
from aquasurf_ray.workers.engine.precision import process_settings
from aquasurf_ray.workers.engine.probe import probe
from aquasurf_ray.workers.engine.ranks import Alone
from aquasurf_ray.workers.engine.seeding import seeded
from aquasurf_ray.workers.fisher.left_as_found import state_kept

# Enough for a histogram's bins to be smooth; all inputs of a layer may be millions.
N_VALUES = 20_000

Values = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Site:
    """One activation of the network, at one moment.

    Attributes:
        name: the module's name in the network, with a number where it is called several times.
        inputs: its pre-activations, float32 [m], at most `N_VALUES` of them at even distances.
        gradient_rms: root mean square of the loss's gradient with respect to them.
        function: the function there; of a function per role, that of the activation's role.
    """

    name: str
    inputs: Values
    gradient_rms: float
    function: str


@dataclass(frozen=True, eq=False)
class Layer:
    """One weight of two dimensions or more, at one moment: the root mean square of its gradient."""

    name: str
    gradient_rms: float


@dataclass(frozen=True, eq=False)
class NetworkState:
    """The network at one moment: sites in the order in which they are reached, and layers in the network's order."""

    sites: tuple[Site, ...]
    layers: tuple[Layer, ...]


@dataclass(frozen=True, eq=False)
class Inspection:
    """One training, inspected before and after."""

    function: str
    before: NetworkState
    after: NetworkState
    metrics: TrainingMetrics


def inspect_training(
    task: Task,
    activation: Activation | RoleActivations,
    *,
    splits: Splits | None = None,
    seed: int = 0,
    device: torch.device | str = "cpu",
    on_epoch: ProgressCallback | None = None,
) -> Inspection:
    """Train a network as `workers.training.train` does, and inspect it before and after.

    Args:
        task: the network, data and recipe.
        activation: the function, or one for each role.
        splits: the task's data; by default `task.splits()`.
        seed: the seed of the initial weights, the data order, the augmentation and the dropout masks.
        device: the device to train on.
        on_epoch: called after each epoch.

    Raises:
        FunctionFault: the function fails, or a loss or the score is not finite.
        TaskError: the task's data cannot be read.
    """
    device = torch.device(device)
    with process_settings(task.recipe, device):
        probe(activation, device)
        feed = TrainingFeed(task, splits or task.splits(), device, seed=seed)
        loop = TrainingLoop(feed, named_form(activation), Alone())
        # The training's own first batch, kept for the second inspection, so that only the weights differ.
        step = feed.first_step(loop.network)
        before = inspect_network(loop, step)
        metrics = loop.to_the_end(None, float("inf"), on_epoch, None)
        return Inspection(activation.name, before, inspect_network(loop, step), metrics)


def inspect_network(loop: TrainingLoop, step: Step) -> NetworkState:
    """Inspect the loop's network on one batch: forward, backward, and no step."""
    network = loop.network.train()
    sites: list[tuple[str, str, Tensor]] = []
    with state_kept(network), seeded(loop.feed.seed, loop.device), _recorded(network, sites):
        outputs = loop.arithmetic.forward(network, step.inputs)
        loss = scalar_loss(loop.loss(outputs, step.targets), loop.loss)
        weights = [(name, p) for name, p in network.named_parameters() if p.dim() > 1 and p.requires_grad]
        # Inputs and weights in one call: each backward pass of a network costs as much as a step.
        wanted = [*(inputs for *_, inputs in sites), *(p for _, p in weights)]
        gradients = torch.autograd.grad(loss, wanted, allow_unused=True)
    names = _numbered([name for name, *_ in sites])
    at_sites, at_weights = gradients[: len(sites)], gradients[len(sites) :]
    return NetworkState(
        tuple(
            Site(name, _sampled(inputs), _rms(gradient), function)
            for name, (_, function, inputs), gradient in zip(names, sites, at_sites, strict=True)
        ),
        tuple(Layer(name, _rms(gradient)) for (name, _), gradient in zip(weights, at_weights, strict=True)),
    )


@contextmanager
def _recorded(network: nn.Module, sites: list[tuple[str, str, Tensor]]) -> Iterator[None]:
    """Record the name, the function and the input of each activation as it is called."""

    def hook(name: str) -> object:
        def note(module: Activation, arguments: tuple[Tensor, ...]) -> tuple[Tensor, ...] | None:
            if arguments[0].requires_grad:
                sites.append((name, module.name, arguments[0]))
                return None
            watched = arguments[0].detach().requires_grad_()  # the network's input requires no gradient by itself
            sites.append((name, module.name, watched))
            return (watched, *arguments[1:])

        return note

    modules = [(name, module) for name, module in network.named_modules() if isinstance(module, Activation)]
    handles = [module.register_forward_pre_hook(hook(name)) for name, module in modules]  # type: ignore[arg-type]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _numbered(names: list[str]) -> list[str]:
    """Number the names that occur several times by their calls.

    >>> _numbered(["a", "b", "a"])
    ['a:1', 'b', 'a:2']
    """
    seen: dict[str, int] = {}
    found = []
    for name in names:
        seen[name] = seen.get(name, 0) + 1
        found.append(f"{name}:{seen[name]}" if names.count(name) > 1 else name)
    return found


def _sampled(values: Tensor) -> Values:
    flat = values.detach().float().flatten()
    # At even distances and not at random, so that the same training gives the same picture.
    stride = max(1, -(-len(flat) // N_VALUES))
    sampled: Values = flat[::stride].cpu().numpy()
    return sampled


def _rms(gradient: Tensor | None) -> float:
    return 0.0 if gradient is None else float(gradient.detach().float().square().mean().sqrt())
