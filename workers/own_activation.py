"""The activations of the user's own network in a worker: the driver may ask for them by name, one as a baseline."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from torch import Tensor

from aquasurf_ray.activations.recognition import most_common, own_expressions
from aquasurf_ray.tasks import Task

Places = Sequence[tuple[Callable[[Tensor], Tensor], int]]
"""Different activations, and in how many places of the network each is, that of most places first."""


def own_activations(task: Task) -> dict[str, Places]:
    """Return the activations that a task's own network has where the candidates go, by role, or under "" without roles;
    nothing for a network that is made for any activation.

    Roles are in alphabetical order, on which the names of operators depend (`recognition.own_expressions`)."""
    find = getattr(task.network, "own_activations", None)
    return {} if find is None else {role: most_common(found) for role, found in sorted(find().items())}


def expressions_of(own: Mapping[str, Places]) -> dict[str, list[str | None]]:
    """Return the expressions of these activations; those that no expression computes become operators of this process,
    the first of each role first."""
    places = [(role, i) for role, found in own.items() for i in range(len(found))]
    in_order = sorted(places, key=lambda place: place[1] > 0)
    found = dict(zip(in_order, own_expressions([own[role][i][0] for role, i in in_order]), strict=True))
    return {role: [found[role, i] for i in range(len(each))] for role, each in own.items()}


def register_own_activation(task: Task) -> None:
    """Make the activations that a task's own network has operators of this process, if no expression computes them.

    The network has been made once before, on the task's data, so that the activations that its code calls are known.
    """
    expressions_of(own_activations(task))
