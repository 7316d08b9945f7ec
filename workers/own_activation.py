"""The activation of the user's own network in a worker: the driver may ask for it by name, as a baseline."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from aquasurf_ray.activations.recognition import own_expression
from aquasurf_ray.tasks import Task


def own_activation(task: Task) -> Callable[[Tensor], Tensor] | None:
    """Return the activation that a task's own network has where the candidates go; None if it has none."""
    find = getattr(task.network, "own_activation", None)
    return None if find is None else find()


def register_own_activation(task: Task) -> None:
    """Make the activation that a task's own network has an operator of this process, if no expression computes it.

    The network has been made once before, on the task's data, so that the activations that its code calls are known.
    """
    own = own_activation(task)
    if own is not None:
        own_expression(own)
