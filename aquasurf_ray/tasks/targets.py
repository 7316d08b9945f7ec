"""The targets that count: the rule that loss, metrics and spectra share, and the settings of a loss that it depends on.

A label that is the loss's `ignore_index`, by default -100, is padding. It counts neither in the loss nor in a metric,
a Fisher matrix or the weight of a batch. Yes-or-no targets (`bernoulli`) have the same mark, also as real numbers,
where -100 is not a probability. Other targets that are real numbers all count.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

Loss = Callable[[Tensor, Tensor], Tensor]

IGNORED = -100
"""PyTorch's own mark of a target that does not count, such as padding."""


def ignored_label(loss: Loss | None = None) -> int:
    """Return the label that does not count for a loss: its `ignore_index`, by default -100.

    >>> ignored_label(nn.CrossEntropyLoss(ignore_index=0)), ignored_label(functional.cross_entropy)
    (0, -100)
    """
    index = _setting(loss, "ignore_index")
    return index if isinstance(index, int) else IGNORED


def counted_targets(targets: Tensor, loss: Loss | None = None) -> Tensor:
    """Return which targets count, as booleans of the targets' shape.

    >>> counted_targets(torch.tensor([3, -100]))
    tensor([ True, False])
    """
    if targets.is_floating_point() or targets.dtype == torch.bool:
        return torch.ones_like(targets, dtype=torch.bool)
    return targets.long() != ignored_label(loss)  # -100 would be 156 in uint8


def counted_answers(targets: Tensor, loss: Loss | None = None) -> Tensor:
    """Return which yes-or-no targets count, whatever their type, as booleans of the targets' shape.

    >>> counted_answers(torch.tensor([[0.0, 1.0, -100.0]]))
    tensor([[ True,  True, False]])
    """
    if targets.is_floating_point():
        return targets != ignored_label(loss)
    return counted_targets(targets, loss)


def example_weights(targets: Tensor, loss: Loss | None = None) -> Tensor:
    """Return what each example counts for in the mean that a loss takes: float64 (n,), on the CPU.

    That is the number of its targets that count, or, for PyTorch's losses with class weights, the sum of their classes'
    weights, by which these losses divide. A mean over batches with the sums of these weights is the loss on all of them
    together.
    """
    if targets.is_floating_point():
        return torch.full((len(targets),), _n_distributions(targets, loss), dtype=torch.float64)
    counted = counted_targets(targets, loss)
    weights = class_weights(loss)
    if weights is None:
        return numbers_counted(counted)
    labels = torch.where(counted, targets, 0).long()
    found = torch.where(counted, weights.to(targets.device).double()[labels], 0.0)
    return (found.flatten(1).sum(1) if found.dim() > 1 else found).cpu()


def _n_distributions(probabilities: Tensor, loss: Loss | None) -> float:
    """Return how many distributions over the classes an example has, by which a sum over them becomes a mean."""
    if probabilities.dim() < 2:
        return 1.0
    is_last = loss is not None and not is_of_torch(loss) and bool(((probabilities.sum(-1) - 1).abs() < 0.01).all())
    return probabilities[:1].numel() / probabilities.shape[-1 if is_last else 1]


def numbers_counted(counted: Tensor) -> Tensor:
    """Return how many targets of each example count, float64 (n,) on the CPU.

    >>> numbers_counted(torch.tensor([[True, True], [False, True]]))
    tensor([2., 1.], dtype=torch.float64)
    """
    return (counted.flatten(1).sum(1) if counted.dim() > 1 else counted).double().cpu()


def is_sum(loss: Loss | None) -> bool:
    """Return whether a loss is a sum over its targets and not their mean: PyTorch's `reduction="sum"`."""
    return bool(_setting(loss, "reduction") == "sum")


def loss_of_probabilities(loss: Loss) -> Loss:
    """Return a loss for targets that are probabilities, with which PyTorch refuses an `ignore_index` of 0 or more.

    >>> loss = loss_of_probabilities(nn.CrossEntropyLoss(ignore_index=255))
    >>> round(loss(torch.zeros(1, 4), torch.full((1, 4), 0.25)).item(), 4)
    1.3863
    """
    if ignored_label(loss) < 0:
        return loss
    if isinstance(function_of(loss), nn.Module):
        loss = deepcopy(loss)
        for module in function_of(loss).modules():
            if isinstance(getattr(module, "ignore_index", None), int):
                module.ignore_index = IGNORED
        return loss
    return partial(loss, ignore_index=IGNORED) if isinstance(loss, partial) else loss


def function_of(loss: Any) -> Any:
    """Return the loss beneath the settings that `partial` binds."""
    while isinstance(loss, partial):
        loss = loss.func
    return loss


def is_of_torch(loss: Loss) -> bool:
    """Return whether a loss is PyTorch's cross-entropy or negative log-likelihood, whose classes are in dimension 1."""
    function = function_of(loss)
    return isinstance(function, nn.CrossEntropyLoss | nn.NLLLoss) or function in (
        functional.cross_entropy,
        functional.nll_loss,
    )


def class_weights(loss: Loss | None) -> Tensor | None:
    """Return the weights of the classes by whose sum a loss divides, where they can be seen; else None."""
    inner = _inner_loss(function_of(loss))
    if loss is None or not is_of_torch(inner) or getattr(inner, "reduction", None) == "none":
        return None  # whatever reduces the losses of PyTorch's "none" does not divide by the weights
    weights = _setting(loss, "weight")
    return weights if isinstance(weights, Tensor) else None


def _setting(loss: Any, name: str) -> Any:
    """Return a setting of a loss, bound by `partial` or an attribute; None if it has no such setting.

    A module of one's own that has no such attribute has the setting of PyTorch's loss within it, if there is only one.
    """
    while isinstance(loss, partial):
        if name in loss.keywords:
            return loss.keywords[name]
        loss = loss.func
    setting = getattr(loss, name, None)
    return setting if setting is not None else getattr(_inner_loss(loss), name, None)


def _inner_loss(loss: Any) -> Any:
    """Return the only one of PyTorch's losses in a module, or what is given if there is none or several."""
    if not isinstance(loss, nn.Module):
        return loss
    found = [module for module in loss.modules() if isinstance(module, nn.modules.loss._Loss)]
    return found[0] if len(found) == 1 else loss
