"""Losses with settings within a function that are not seen here: an `ignore_index`, or class weights.

Loss, metrics and spectra agree on which targets count, and means over several batches and processes are exact, only if
the setting can be seen (`aquasurf_ray.tasks.targets`). A loss that leaves a label out has no gradient at the logits of
its targets, wherever they are, which a few batches of random logits and exchanged targets show. One that divides by the
sum of its labels' weights scales the gradient of one example by the labels of the others.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from aquasurf_ray.tasks.classes import class_dimension
from aquasurf_ray.tasks.errors import TaskError
from aquasurf_ray.tasks.held_state import HeldState
from aquasurf_ray.tasks.losses import cross_entropy, name_of
from aquasurf_ray.tasks.seeding import seeded
from aquasurf_ray.tasks.targets import Loss, class_weights, counted_targets, function_of, is_of_torch

MOST_EXAMPLES = 8
MOST_LOGITS = 2**24
"""So many show it, if one example has not more. Language models have a logit for each word at each position."""
MOST_LABELS = 16
"""So many labels are tried for a weight of their own."""
DRAWS = 32
"""A loss of the hardest quarter of the positions misses the only target of a label in all of them 1 time in 10,000."""


def refuse_hidden_labels(loss: Loss, outputs: Tensor, targets: Tensor) -> None:
    """Refuse a loss of labels that leaves out a label which is counted, or gives labels different weights.

    Args:
        outputs, targets: those of one batch that the loss takes.

    Raises:
        TaskError: it does.
    """
    if is_of_torch(loss) or function_of(loss) is cross_entropy:
        return
    if targets.is_floating_point() or targets.dtype == torch.bool:
        return
    n = min(MOST_EXAMPLES, max(1, MOST_LOGITS // max(1, outputs[:1].numel())))
    state = HeldState(loss.modules() if isinstance(loss, nn.Module) else [loss])
    try:
        with seeded(0, outputs.device):
            hidden = _labels_without_gradient(loss, outputs.detach()[:n], targets[:n])
            weighs = not hidden and class_weights(loss) is None and _weighs_labels(loss, outputs[:n], targets[:n])
    except Exception:  # a loss of the user's own may take whole batches, or the network's own logits, only
        return
    finally:
        state.restore()  # such as the mean of earlier outputs that a loss keeps
    if hidden:
        raise TaskError(
            f"the loss '{name_of(loss)}' leaves out targets of label {', '.join(map(str, hidden))}, which metrics and "
            "spectra would count; show the setting, as functools.partial(cross_entropy, ignore_index=...) does, or "
            "mark such targets with -100"
        )
    if weighs:
        raise TaskError(
            f"the loss '{name_of(loss)}' divides by a number that depends on the batch's labels, so its mean over "
            "several batches or processes would be wrong; show class weights, as functools.partial(cross_entropy, "
            "weight=...) does, or divide by the number of targets"
        )


def _labels_without_gradient(loss: Loss, outputs: Tensor, targets: Tensor) -> list[int]:
    """Return the labels that count whose logits never have a gradient, although those of others have."""
    dimension = class_dimension(outputs, targets, loss)
    draw = torch.Generator().manual_seed(0)
    missing = set(torch.unique(targets[counted_targets(targets, loss)]).tolist())
    n_labels = len(missing)
    for _ in range(DRAWS):
        order = torch.randperm(targets.numel(), generator=draw)
        exchanged = targets.flatten()[order.to(targets.device)].reshape(targets.shape)
        logits = torch.randn(outputs.shape, generator=draw).to(outputs.device).requires_grad_()
        with torch.enable_grad():
            (gradient,) = torch.autograd.grad(torch.as_tensor(loss(logits, exchanged)).sum(), logits)
        has_gradient = (gradient != 0).any(dimension).reshape(targets.shape)
        missing -= set(torch.unique(exchanged[has_gradient]).tolist())
        if not missing:
            return []
    return sorted(missing) if len(missing) < n_labels else []


def _weighs_labels(loss: Loss, outputs: Tensor, targets: Tensor) -> bool:
    """Return whether the gradient of one example keeps its direction, and not its length, if other labels change."""
    counted = counted_targets(targets, loss)
    labels = torch.unique(targets[counted])
    if len(labels) < 2 or targets.shape == outputs.shape:
        return False
    example = int(counted.flatten(1).any(1).nonzero()[0]) if counted.dim() > 1 else int(counted.nonzero()[0])
    others = counted.clone()
    others[example] = False
    logits = torch.randn(outputs.shape, generator=torch.Generator().manual_seed(0)).to(outputs.device).requires_grad_()

    def gradient(label: Tensor) -> Tensor:
        with torch.enable_grad():
            value = torch.as_tensor(loss(logits, torch.where(others, label, targets))).sum()
        return torch.autograd.grad(value, logits)[0][example].double().flatten()

    first = gradient(labels[0])
    size = first.dot(first)
    if size == 0:
        return False
    found = [gradient(label) for label in labels[1 : MOST_LABELS + 1]]
    scales = [float(other.dot(first) / size) for other in found]
    far = [float((other - scale * first).norm() / size.sqrt()) for other, scale in zip(found, scales, strict=True)]
    # A loss with a state of its own, such as a mean of earlier values, changes also where the labels do not.
    is_steady = torch.allclose(gradient(labels[0]), first, rtol=1e-6)
    return is_steady and max(far) < 1e-4 and min(scales) > 0 and any(abs(scale - 1) > 1e-3 for scale in scales)
