"""Networks that rule classes out, by logits of minus infinity, and the losses that do not accept it.

The loss of labels is finite as long as no label names such a class. That of probabilities is NaN in PyTorch, where 0
times infinity is; that of smoothed labels is infinite, since each class has a probability.
"""

from __future__ import annotations

import torch
from torch import Tensor

from aquasurf_ray.tasks.classes import class_dimension
from aquasurf_ray.tasks.errors import TaskError
from aquasurf_ray.tasks.losses import name_of
from aquasurf_ray.tasks.targets import Loss, counted_targets


def refuse_ruled_out(loss: Loss, outputs: Tensor, targets: Tensor, *, mixes: bool, smooths: bool) -> None:
    """Refuse a loss that is not finite because the network rules classes out.

    Outputs that overflow have NaN or plus infinity too, or rows without a finite number.

    Args:
        mixes: labels are mixed to probabilities first.
        smooths: the recipe smooths labels.

    Raises:
        TaskError: it is not, with targets of the likeliest classes.
    """
    # A masked attention or a legal-moves network sets logits of impossible classes to minus infinity.
    ruled_out = outputs.isneginf()
    if not bool(ruled_out.any()):
        return
    if not bool((ruled_out | outputs.isfinite()).all()) or bool(ruled_out.flatten(1).all(1).any()):
        return
    # Mixing turns labels into probabilities later; any probabilities show whether the loss can take them.
    if targets.is_floating_point() or mixes:
        targets = targets if targets.is_floating_point() else outputs.softmax(-1)
        value = torch.as_tensor(loss(outputs, targets))
        is_smoothed, is_wrong = smooths, bool((~value.isfinite() if smooths else value.isnan()).any())
    else:
        likely = _likely_labels(outputs, targets, loss)
        is_smoothed, is_wrong = (
            True,
            likely is not None and bool(torch.as_tensor(loss(outputs, likely)).isposinf().any()),
        )
    if is_wrong and is_smoothed:
        raise TaskError(
            f"the loss '{name_of(loss)}' is not finite where a logit is minus infinity, since smoothed labels give "
            "that class a probability; set label_smoothing to 0"
        )
    if is_wrong:
        raise TaskError(
            f"the loss '{name_of(loss)}' is NaN where a logit is minus infinity and targets are one-hot, "
            "probabilities or mixed labels, since 0 * infinity is; give labels without mixing, finite logits, or "
            "the loss of classification()"
        )


def _likely_labels(outputs: Tensor, labels: Tensor, loss: Loss) -> Tensor | None:
    """Return the labels with the largest logit, which is of no class that is ruled out, where labels count; None for
    one-hot labels."""
    likely = outputs.argmax(class_dimension(outputs, labels, loss))
    if likely.numel() != labels.numel():
        return None
    return torch.where(counted_targets(labels, loss), likely.reshape(labels.shape), labels.long())
