"""Two rules that loss, metrics and spectra share: which targets count, and which dimension of outputs holds classes.

The shape of the targets says which dimension of the outputs holds the classes, as it does for PyTorch's cross-entropy:

    outputs                targets
    (n, classes)           labels (n,) or (n, 1); one-hot or probabilities (n, classes)
    (n, classes, h, w)     labels (n, h, w) or (n, 1, h, w); probabilities (n, classes, h, w)
    (n, classes, t)        labels (n, t)
    (n, t, classes)        labels (n, t); probabilities (n, t, classes)

Where two dimensions fit (t = classes, or probabilities), the loss decides: PyTorch's own take dimension 1, this
package's `cross_entropy` the last, and `_classes_of_loss` finds the dimension of any other loss.

A label that is the loss's `ignore_index`, by default -100, is padding. It counts neither in the loss nor in a metric,
a Fisher matrix or the weight of a batch. Yes-or-no targets (`bernoulli`) have the same mark, also as real numbers,
where -100 is no probability. Other targets that are real numbers all count.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from aquasurf_ray.tasks.errors import TaskError

Loss = Callable[[Tensor, Tensor], Tensor]

IGNORED = -100
"""PyTorch's own mark of a target that does not count, such as padding."""

SHIFT_TOLERANCE = 1e-4


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
        return torch.full((len(targets),), float(targets[:1].numel()), dtype=torch.float64)
    counted = counted_targets(targets, loss)
    weights = _class_weights(loss)
    if weights is None:
        return numbers_counted(counted)
    labels = torch.where(counted, targets, 0).long()
    found = torch.where(counted, weights.to(targets.device).double()[labels], 0.0)
    return (found.flatten(1).sum(1) if found.dim() > 1 else found).cpu()


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
    """Return a loss for targets that are probabilities, beside which PyTorch refuses an `ignore_index` of 0 or more.

    >>> loss = loss_of_probabilities(nn.CrossEntropyLoss(ignore_index=255))
    >>> round(loss(torch.zeros(1, 4), torch.full((1, 4), 0.25)).item(), 4)
    1.3863
    """
    if ignored_label(loss) < 0:
        return loss
    if isinstance(_function(loss), nn.Module):
        loss = deepcopy(loss)
        for module in _function(loss).modules():
            if isinstance(getattr(module, "ignore_index", None), int):
                module.ignore_index = IGNORED
        return loss
    return partial(loss, ignore_index=IGNORED) if isinstance(loss, partial) else loss


def class_dimension(outputs: Tensor, targets: Tensor, loss: Loss | None = None) -> int:
    """Return the dimension of the outputs that holds the classes, from the targets' shape.

    Raises:
        TaskError: the targets fit no dimension.

    >>> class_dimension(torch.zeros(2, 3, 8, 8), torch.zeros(2, 8, 8, dtype=torch.int64))
    1
    >>> class_dimension(torch.zeros(2, 8, 3), torch.zeros(2, 8, dtype=torch.int64))
    2
    """
    fitting = fitting_dimensions(outputs, targets)
    return fitting[0] if len(fitting) == 1 else _classes_of_loss(outputs, targets, loss)


def fitting_dimensions(outputs: Tensor, targets: Tensor) -> list[int]:
    """Return the dimensions of the outputs that may hold the classes: 1, the last, or both.

    Raises:
        TaskError: the targets fit no dimension.

    >>> fitting_dimensions(torch.zeros(2, 8, 8), torch.zeros(2, 8, dtype=torch.int64))
    [1, 2]
    """
    last = outputs.dim() - 1
    if last < 1:
        raise TaskError(f"logits must have shape (n, classes) or more dimensions, got {tuple(outputs.shape)}")
    shapes = {d: _without(outputs.shape, d) for d in sorted({1, last})}
    if _is_like_outputs(targets, outputs):
        return list(shapes)
    if not targets.is_floating_point():
        fitting = [d for d, shape in shapes.items() if targets.shape == shape]
        fitting = fitting or [d for d, shape in shapes.items() if _same_but_ones(targets.shape, shape)]
        if fitting:
            return fitting
    expected = outputs.shape if targets.is_floating_point() else shapes[last]
    raise TaskError(f"targets must have shape {tuple(expected)}, got {tuple(targets.shape)}")


def class_rows(outputs: Tensor, targets: Tensor, loss: Loss | None = None) -> tuple[Tensor, Tensor]:
    """Return logits with a row for each position, (rows, classes), and the targets of these rows: labels (rows,) int64,
    or probabilities (rows, classes).

    Raises:
        TaskError: the targets do not fit the outputs.
    """
    dimension = class_dimension(outputs, targets, loss)
    logits = outputs.movedim(dimension, -1)
    rows = logits.reshape(-1, logits.shape[-1])
    if _is_like_outputs(targets, outputs):
        probabilities = targets.reshape(outputs.shape).movedim(dimension, -1)
        return rows, probabilities.reshape(rows.shape).to(outputs.dtype)
    return rows, targets.reshape(-1).long()


def _is_like_outputs(targets: Tensor, outputs: Tensor) -> bool:
    """Return whether targets are one-hot or probabilities: real numbers, or integers in the outputs' shape."""
    if targets.is_floating_point():
        return _same_but_ones(targets.shape, outputs.shape)
    return targets.shape == outputs.shape and outputs.shape[-1] > 1


def _without(shape: torch.Size, dimension: int) -> torch.Size:
    return torch.Size([*shape[:dimension], *shape[dimension + 1 :]])


def _same_but_ones(shape: torch.Size, other: torch.Size) -> bool:
    return [d for d in shape if d != 1] == [d for d in other if d != 1]


def _classes_of_loss(outputs: Tensor, targets: Tensor, loss: Loss | None) -> int:
    """Return the class dimension of a loss whose targets fit both dimension 1 and the last.

    A loss that goes through a softmax does not change when a constant is added to all logits of one position, so
    constants that differ from position to position tell the classes from the positions.
    """
    last = outputs.dim() - 1
    if loss is None or _is_own(loss):
        return last
    if _is_of_torch(loss):
        return 1
    with torch.no_grad():
        logits = outputs.detach()
        before = loss(logits, targets)
        for dimension in (last, 1):
            positions = logits.select(dimension, 0)
            shift = torch.linspace(-1.0, 1.0, positions.numel(), dtype=logits.dtype, device=logits.device)
            after = loss(logits + shift.reshape(positions.shape).unsqueeze(dimension), targets)
            if torch.allclose(after, before, rtol=SHIFT_TOLERANCE, atol=SHIFT_TOLERANCE):
                return dimension
    return last


def _function(loss: Any) -> Any:
    while isinstance(loss, partial):
        loss = loss.func
    return loss


def _is_own(loss: Loss) -> bool:
    return str(getattr(_function(loss), "__module__", "")).startswith("aquasurf_ray.")


def _is_of_torch(loss: Loss) -> bool:
    function = _function(loss)
    return isinstance(function, nn.CrossEntropyLoss | nn.NLLLoss) or function in (
        functional.cross_entropy,
        functional.nll_loss,
    )


def _class_weights(loss: Loss | None) -> Tensor | None:
    inner = _torchs_within(_function(loss))
    if loss is None or not _is_of_torch(inner) or getattr(inner, "reduction", None) == "none":
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
    return setting if setting is not None else getattr(_torchs_within(loss), name, None)


def _torchs_within(loss: Any) -> Any:
    """Return the only one of PyTorch's losses in a module, or what is given if there is none or several."""
    if not isinstance(loss, nn.Module):
        return loss
    found = [module for module in loss.modules() if isinstance(module, nn.modules.loss._Loss)]
    return found[0] if len(found) == 1 else loss
