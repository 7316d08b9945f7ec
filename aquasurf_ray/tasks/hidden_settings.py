"""Losses that leave out a label which is counted here: an `ignore_index`, or a class weight of 0, within a function.

Loss, metrics and spectra agree on which targets count only if the setting can be seen (`aquasurf_ray.tasks.targets`).
A loss that leaves a label out has no gradient at the logits of its targets, wherever they are, which a few batches of
random logits and exchanged targets show.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from aquasurf_ray.tasks.classes import class_dimension
from aquasurf_ray.tasks.errors import TaskError
from aquasurf_ray.tasks.held_state import HeldState
from aquasurf_ray.tasks.losses import name_of
from aquasurf_ray.tasks.seeding import seeded
from aquasurf_ray.tasks.targets import Loss, counted_targets, is_of_torch

MOST_EXAMPLES = 8
MOST_LOGITS = 2**24
"""So many show it, if one example has not more. Language models have a logit for each word at each position."""
DRAWS = 32
"""A loss of the hardest quarter of the positions misses the only target of a label in all of them 1 time in 10,000."""


def refuse_hidden_labels(loss: Loss, outputs: Tensor, targets: Tensor) -> None:
    """Refuse a loss of labels that leaves out a label which is counted.

    Args:
        outputs, targets: of one batch that the loss takes.

    Raises:
        TaskError: it does.
    """
    if is_of_torch(loss) or targets.is_floating_point() or targets.dtype == torch.bool:
        return
    n = min(MOST_EXAMPLES, max(1, MOST_LOGITS // max(1, outputs[:1].numel())))
    state = HeldState(loss.modules() if isinstance(loss, nn.Module) else [loss])
    try:
        with seeded(0, outputs.device):
            hidden = _labels_without_gradient(loss, outputs.detach()[:n], targets[:n])
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
