"""The reference of a task: the function that a search has to beat, first among its baselines.

That is `Task.reference`, or else the activation that the user's own network has, as an expression (in a network with
roles, one for each), or else ReLU. An activation that no expression computes becomes an operator of this process, so a
task's own functions are parsed after `with_reference` or `register_own_operators`.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

from aquasurf_ray.activations import fingerprint, parse, same_or_by_role
from aquasurf_ray.activations.rendering import readable
from aquasurf_ray.baselines import BASELINES, REFERENCE
from aquasurf_ray.driver.candidates import function_row, refuse_baselines
from aquasurf_ray.tasks import Task
from aquasurf_ray.workers.own_activation import expressions_of, own_activations, register_own_activation

logger = logging.getLogger(__name__)


def with_reference(task: Task) -> Task:
    """Return the task with its reference, if that is another function than ReLU, as one of its baselines.

    The task's digest, which finds the activations that the network's code calls, has been computed before.

    Raises:
        BadUse: `Task.reference` or one of the baselines is not an expression.
    """
    refuse_named_functions(task)
    text = task.reference or _own(task)
    if text is None:
        return task
    function = canonical_name(text, task.roles)
    return task if function == REFERENCE else task.with_reference(function)


def canonical_name(text: str, roles: Sequence[str] | None = None) -> str:
    """Return a function by the name that runs have for it: the paper's baselines have theirs, however it is written.

    Raises:
        BadUse: the text is not an expression, or is for other roles.
    """
    row = function_row(text, roles)
    known = {fingerprint(name): name for name in BASELINES}
    return known.get(row.fingerprint, row.name)


def refuse_named_functions(task: Task) -> None:
    """Refuse a task whose reference, or one of whose baselines, is no function; each may have the activation of the
    task's own network as an operator. The network has been made once before.

    Raises:
        BadUse: names it and what is wrong with it.
    """
    register_own_activation(task)
    refuse_baselines(task)


def register_own_operators(task: Task) -> None:
    """Make the activations of the task's own network operators of this process, if no expression computes them.

    Raises:
        TaskError: the network cannot be built or the data cannot be loaded, on which called activations are found.
    """
    if hasattr(task.network, "own_activations"):
        _ = task.digest
        register_own_activation(task)


def _own(task: Task) -> str | None:
    """Return the activation of the task's own network; if its roles have different ones, a function for each role."""
    of_role = own_activations(task)
    if not of_role or not all(of_role.values()):
        return None
    found = expressions_of(of_role)
    unknown = next((of_role[role][0][0] for role, (text, *_) in found.items() if text is None), None)
    if unknown is not None:
        logger.warning(
            "the network's own activation %s is not elementwise, or has parameters of its own, so gains "
            "are over ReLU; name another reference with Task(reference=...)",
            unknown,
        )
        return None
    texts = {role: text for role, (text, *_) in found.items() if text is not None}
    for role, own in of_role.items():
        others = {text or str(each) for text, (each, _) in zip(found[role], own, strict=True)} - {texts[role]}
        if others:
            is_most = own[0][1] > own[1][1]
            logger.warning(
                "the network has several activations of its own%s: %s and %s; gains are over the first%s, or name "
                "another with Task(reference=...)",
                f" in the role {role}" if role else "",
                readable(texts[role]),
                ", ".join(sorted(map(readable, others))),
                ", which is in most places" if is_most else "",
            )
    return str(same_or_by_role({role: parse(text) for role, text in texts.items()}))
