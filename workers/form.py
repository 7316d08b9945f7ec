"""Which form of the activation function a training uses: eager, or one that computes the same faster.

A form changes the last bits of a result. So it is chosen once, for a whole training, and its name is kept in the
checkpoint: a training that goes on uses the form that it began with.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from aquasurf_ray.activations import Activation
from aquasurf_ray.tasks import Splits, Task
from workers.batches import WHOLE, Share
from workers.feed import TrainingFeed
from workers.network import untrained_network
from workers.precision import Arithmetic
from workers.seeding import seeded

EAGER = "eager"


class ActivationForm(Protocol):
    """A form by name, with what makes the modules."""

    @property
    def name(self) -> str:
        """As it is kept in checkpoints."""
        ...

    @property
    def factory(self) -> Callable[[], nn.Module]:
        """Makes one new activation module at each call."""
        ...


@dataclass(frozen=True)
class FormRequest:
    """What a form is wanted for.

    Args:
        activation: the function.
        device: where the network is trained.
        n_elements: of the input of one call, the mean over the calls of a training step.
        expected_calls: forward passes through single activations in the whole training.
        dtype: of the activations' inputs; under autocast, the request is made under the same autocast.
        deterministic: whether the recipe wants the bits of the eager form.
        kept: the name of the form that the training began with, which must be taken; None at its beginning.
    """

    activation: Activation
    device: torch.device
    n_elements: int
    expected_calls: int
    dtype: torch.dtype
    deterministic: bool
    kept: str | None


@dataclass(frozen=True)
class KeptForm:
    """A form that is taken without measuring."""

    name: str
    factory: Callable[[], nn.Module]


FormChoice = Callable[[FormRequest], ActivationForm]


@dataclass(frozen=True)
class EagerForm:
    """The function as `Activation` computes it."""

    activation: Activation
    name: str = EAGER

    def factory(self) -> nn.Module:
        """A new `Activation`."""
        return Activation(self.activation.expression)


def chosen_form(
    choose: FormChoice | None,
    task: Task,
    activation: Activation,
    splits: Splits,
    *,
    seed: int,
    device: torch.device,
    kept: str | None,
    share: Share = WHOLE,
) -> ActivationForm:
    """The form that `choose` takes for this training; None is always eager.

    What the request says of the activations is measured in one forward pass of a training batch.
    """
    if choose is None:
        return EagerForm(activation)
    sizes: list[int] = []
    types: list[torch.dtype] = []

    def note(_: nn.Module, arguments: tuple[Tensor, ...], __: Tensor) -> None:
        sizes.append(arguments[0].numel())
        types.append(arguments[0].dtype)

    def make() -> nn.Module:
        module = Activation(activation.expression)
        module.register_forward_hook(note)
        return module

    arithmetic = Arithmetic(task.recipe, device)
    network = arithmetic.prepared(untrained_network(task, make, seed=seed, device=device))
    feed = TrainingFeed(task, splits, arithmetic, device, seed=seed, share=share)
    with seeded(seed, device), torch.no_grad():
        step = next(feed.epoch(1, torch.Generator().manual_seed(seed), network))
        sizes.clear()
        types.clear()
        arithmetic.forward(network, step.inputs)
    request = FormRequest(
        activation=activation,
        device=device,
        n_elements=max(1, sum(sizes) // max(1, len(sizes))),
        expected_calls=max(1, len(sizes) * feed.n_steps * task.recipe.epochs),
        dtype=types[0] if types else torch.float32,
        deterministic=task.recipe.deterministic,
        kept=kept,
    )
    with arithmetic.autocast():
        return choose(request)
