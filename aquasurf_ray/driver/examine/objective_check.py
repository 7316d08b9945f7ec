"""A check that a task's loss accepts one batch, which also reports what is ambiguous about the batch."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from aquasurf_ray.as_float import as_float
from aquasurf_ray.driver.examine.sentence import sentence
from aquasurf_ray.tasks import Objective, TaskError
from aquasurf_ray.tasks.classes import assumed_dimension, class_dimension, fitting_dimensions
from aquasurf_ray.tasks.inputs import form_of
from aquasurf_ray.tasks.losses import name_of, scalar_loss

TRAIN = " in the train split"  # where the batch comes from
LARGE_TARGET = 100.0
"""Targets this far from the outputs, in deviations of the outputs or in ones, are not scaled."""


def loss_of(objective: Objective, outputs: Tensor, targets: Tensor) -> float:
    """Return the loss of one batch.

    Raises:
        TaskError: the loss raises, or is not a single number.
    """
    try:
        with objective.naming_float_labels(outputs, targets, TRAIN):
            value = objective.loss(outputs, targets)
    except Exception as error:  # the loss may be the user's own, and the targets of any kind
        raise TaskError(refusal("loss", name_of(objective.loss), outputs, targets, error)) from error
    loss = scalar_loss(value, objective.loss)
    objective.refuse_ruled_out(outputs, targets)
    objective.refuse_hidden_labels(outputs, targets)
    return as_float(loss)


def ambiguous_classes(objective: Objective, outputs: Tensor, targets: Tensor) -> list[str]:
    """Return a sentence on the dimension of the classes, if labels allow two or nothing tells it."""
    if objective.likelihood != "categorical":
        return []
    try:
        assumed = assumed_dimension(outputs, targets, objective.loss)
        if assumed is not None:
            return [f"warning: {assumed}"]
        if targets.is_floating_point():
            return []
        if len(fitting_dimensions(outputs, targets)) == 1:
            return []
        dimension = class_dimension(outputs, targets, objective.loss)
    except TaskError:  # a loss of the user's own may take targets of any form
        return []
    return [f"the classes may be in dimension 1 or {outputs.dim() - 1}, and are taken to be in {dimension}"]


def no_mean(objective: Objective, loss: float, outputs: Tensor, targets: Tensor) -> list[str]:
    """Return a warning if the losses of two parts of the batch do not make up that of the batch."""
    cut = max(1, len(targets) // 3)
    parts = [(outputs[:cut], targets[:cut]), (outputs[cut:], targets[cut:])]
    weights = [float(objective.weights(part).sum()) for _, part in parts]
    if 0 in weights:
        return []
    try:
        losses = [loss_of(objective, *part) for part in parts]
    except TaskError:  # a loss of the user's own may take whole batches only
        return []
    together = sum(losses) if objective.sums else sum(map(math.prod, zip(losses, weights, strict=True))) / sum(weights)
    if math.isclose(loss, together, rel_tol=1e-3, abs_tol=1e-5):
        return []
    return [
        f"warning: the loss is not a mean over the targets that count, {loss:.4g} and {together:.4g} in two parts, so "
        "losses of several batches are approximate; settings inside a function (ignore_index, reduction, weight) "
        "cannot be seen: bind them with functools.partial"
    ]


def unscaled_targets(objective: Objective, outputs: Tensor, targets: Tensor) -> list[str]:
    """Return a warning if numbers to be predicted are far from the untrained network's outputs, which may have their
    scale already."""
    if objective.likelihood != "gaussian" or targets.numel() != outputs.numel() or len(targets) < 2:
        return []
    wanted, given = (each.detach().double().reshape(len(each), -1) for each in (targets, outputs))
    apart = (wanted - given.mean(0)).square().mean(0).sqrt()
    is_far = apart > LARGE_TARGET * given.std(0).clamp(min=1.0)
    if not bool(is_far.any()):
        return []
    column = int(apart.argmax())
    mean, deviation = wanted[:, column].mean().item(), wanted[:, column].std().item()
    which = f"target {column} (from 0) has" if wanted.shape[1] > 1 else "the targets have"
    return [
        f"warning: {which} mean {mean:.3g} and deviation {deviation:.3g}, far from the untrained network's outputs, so "
        "no learning rate fits; scale the targets to about mean 0 and deviation 1"
    ]


def refuse_all_pairs(objective: Objective, outputs: Tensor, targets: Tensor) -> None:
    """Refuse a loss that broadcasts (n, 1) against (n,), and so compares each output with all examples' targets.

    Such a loss stays the same when the examples exchange their targets.

    Raises:
        TaskError: the loss is of this kind.
    """
    exchanged = targets.roll(1, 0)
    if objective.likelihood == "categorical" or torch.equal(exchanged, targets):
        return
    for width in (1.0, float(targets.abs().max())):  # small for losses with an exponential, large for large targets
        spread = torch.linspace(0, width, len(outputs), dtype=outputs.dtype, device=outputs.device)
        distinct = outputs + spread.reshape(-1, *[1] * (outputs.dim() - 1))
        before, after = loss_of(objective, distinct, targets), loss_of(objective, distinct, exchanged)
        if not math.isfinite(before) or not math.isclose(before, after, rel_tol=1e-6):
            return
    raise TaskError(
        f"the loss '{name_of(objective.loss)}' must compare each output with its own target and "
        f"compares all pairs: it broadcasts outputs {form_of(outputs)} and targets {form_of(targets)}; "
        "bring both to one shape"
    )


def refusal(kind: str, name: str, outputs: Tensor, targets: Tensor, error: Exception) -> str:
    """Return the message on a loss or metric that raises on a batch."""
    return f"the {kind} '{name}' does not take {forms(outputs, targets)}: {sentence(error)}"


def forms(outputs: Tensor, targets: Tensor) -> str:
    """Return the shapes and types of a batch, for a message."""
    return f"outputs {form_of(outputs)} and targets {form_of(targets)}"
