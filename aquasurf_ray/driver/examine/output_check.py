"""Outputs that went through a softmax or sigmoid already, where the loss takes logits and applies its own.

Such a network trains, slowly and to a worse end, with every function. What a loss takes is seen from its values: one
that goes through a softmax stays the same when a constant is added to all logits.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from torch import Tensor

from aquasurf_ray.driver.examine.objective_check import loss_of
from aquasurf_ray.tasks import Objective, TaskError
from aquasurf_ray.tasks.classes import class_dimension
from aquasurf_ray.tasks.losses import name_of

SEEDS = (1, 2, 3)
"""Logits of an untrained network may all lie between 0 and 1 by chance, but not with further initial weights too."""
MIDDLE = (0.25, 0.75)
"""The mean of an untrained network's outputs after a sigmoid lies between these."""
TOLERANCE = 1e-3
SHIFT = 10.0


def squashed_outputs(
    objective: Objective, outputs: Tensor, targets: Tensor, with_seed: Callable[[int], Tensor]
) -> list[str]:
    """Return a warning if the network ends in a softmax, log-softmax or sigmoid, and the loss takes logits.

    Args:
        outputs: of an untrained network for a batch.
        with_seed: returns the outputs with the initial weights of another seed.
    """
    try:
        last = _last(objective, outputs, targets)
        is_sure = last != "Sigmoid" or all(_is_after_sigmoid(with_seed(seed)) for seed in SEEDS)
        if last is None or not is_sure or not _takes_logits(objective, outputs, targets):
            return []
    except TaskError:  # a loss of the user's own may take targets of any form
        return []
    return [
        f"warning: the network's outputs are those of a {last}, and the loss '{name_of(objective.loss)}' takes logits, "
        f"as it applies its own; leave out the {last} at the network's end"
    ]


def _last(objective: Objective, outputs: Tensor, targets: Tensor) -> str | None:
    """Return what the outputs look as if they had gone through; None for logits and numbers.

    Raises:
        TaskError: the targets fit no dimension of classes.
    """
    values = outputs.double()
    if objective.likelihood == "categorical":
        classes = class_dimension(outputs, targets, objective.loss)
        if bool((values >= 0).all()) and _are(values.sum(classes), 1.0):
            return "Softmax"
        if bool((values <= 0).all()) and _are(values.logsumexp(classes), 0.0):
            return "LogSoftmax"
    is_of_logits = objective.likelihood in ("categorical", "bernoulli")
    return "Sigmoid" if is_of_logits and _is_after_sigmoid(outputs) else None


def _are(values: Tensor, number: float) -> bool:
    return bool(((values - number).abs() < TOLERANCE).all())


def _is_after_sigmoid(outputs: Tensor) -> bool:
    return bool(((outputs > 0) & (outputs < 1)).all()) and MIDDLE[0] < float(outputs.double().mean()) < MIDDLE[1]


def _takes_logits(objective: Objective, outputs: Tensor, targets: Tensor) -> bool:
    """Return whether the loss goes through a softmax, or, for a yes or no, takes any number."""
    shifted = loss_of(objective, outputs - SHIFT, targets)  # raises, or is NaN, where probabilities are expected
    if objective.likelihood == "bernoulli":
        return math.isfinite(shifted)
    return math.isclose(shifted, loss_of(objective, outputs, targets), rel_tol=TOLERANCE, abs_tol=TOLERANCE)
