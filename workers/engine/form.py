"""The form of the activation function that a training uses: eager, or one that computes the same faster.

A form changes the last bits of a result. So it is chosen once, for a whole training, and its name is part of the
checkpoint: a resumed training uses the form that it began with.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from aquasurf_ray.activations import Activation, Expression, FastForm, RoleActivations, factory_of, form_factory
from aquasurf_ray.workers.engine.feed import TrainingFeed
from aquasurf_ray.workers.engine.seeding import seeded
from aquasurf_ray.workers.network import sized_network

EAGER = "eager"


@dataclass(frozen=True)
class FormRequest:
    """The training that a form is chosen for.

    Args:
        activation: the function, or one for each role.
        device: where the network is trained.
        n_elements: the number of elements in the input of one call, the mean over the calls of a training step.
        expected_calls: forward passes through single activations in the whole training.
        dtype: the type of the activations' inputs; under autocast, the request is made under the same autocast.
        deterministic: whether the recipe needs the bits of the eager form.
        kept: the name of the form that the training began with, which must be used again; None for a new training.
    """

    activation: Activation | RoleActivations
    device: torch.device
    n_elements: int
    expected_calls: int
    dtype: torch.dtype
    deterministic: bool
    kept: str | None


FormChoice = Callable[[FormRequest], FastForm]


def named_form(activation: Activation | RoleActivations, name: str = EAGER) -> FastForm:
    """Return a form by its name, without measuring; by default the function as `Activation` computes it.

    Raises:
        ValueError: no form has that name.
    """
    return FastForm(name, form_factory(activation.expression, name))


def chosen_form(
    choose: FormChoice | None, feed: TrainingFeed, activation: Activation | RoleActivations, *, kept: str | None
) -> FastForm:
    """Return the form that `choose` picks for the training of a feed; without `choose`, the eager one.

    The sizes and types in the request are measured in one forward pass of a training batch.
    """
    if choose is None:
        return named_form(activation)
    task, device, arithmetic = feed.task, feed.device, feed.arithmetic
    sizes: list[int] = []
    types: list[torch.dtype] = []

    def note(_: nn.Module, arguments: tuple[Tensor, ...], __: Tensor) -> None:
        sizes.append(arguments[0].numel())
        types.append(arguments[0].dtype)

    def noting(expression: Expression) -> nn.Module:
        module = Activation(expression)
        module.register_forward_hook(note)
        return module

    make = factory_of(activation.expression, noting)
    network = arithmetic.prepared(sized_network(task, feed.splits, make, seed=feed.seed, device=device))
    with seeded(feed.seed, device), torch.no_grad():
        step = feed.first_step(network)  # may run the network itself, to count its outputs
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
