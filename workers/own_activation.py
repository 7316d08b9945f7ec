"""The activation of the user's own network in a worker: the driver may ask for it by name, as a baseline."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from aquasurf_ray.activations.recognition import own_expressions
from aquasurf_ray.tasks import Task


def own_activations(task: Task) -> dict[str, list[Callable[[Tensor], Tensor]]]:
    """Return the activations that a task's own network has where the candidates go, that of most places first, by role,
    or under "" without roles; nothing for a network that is made for any activation.

    Roles are in alphabetical order, on which the names of operators depend (`recognition.own_expressions`)."""
    find = getattr(task.network, "own_activations", None)
    return {} if find is None else dict(sorted(find().items()))


def register_own_activation(task: Task) -> None:
    """Make the activations that a task's own network has operators of this process, if no expression computes them.

    The network has been made once before, on the task's data, so that the activations that its code calls are known.
    """
    own_expressions([own[0] for own in own_activations(task).values() if own])
