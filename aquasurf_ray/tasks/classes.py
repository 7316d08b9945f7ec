"""The dimension of outputs that holds the classes: the rule that loss, metrics and spectra share.

The shape of the targets says it, as it does for PyTorch's cross-entropy:

    outputs                targets
    (n, classes)           labels (n,) or (n, 1); one-hot or probabilities (n, classes)
    (n, classes, h, w)     labels (n, h, w) or (n, 1, h, w); probabilities (n, classes, h, w)
    (n, classes, t)        labels (n, t)
    (n, t, classes)        labels (n, t); probabilities (n, t, classes)

Where two dimensions fit (t = classes, or probabilities), these decide, in this order:

1. The loss. PyTorch's own take dimension 1, this package's `cross_entropy` takes the last for labels. A loss that goes
   through a softmax does not change when a constant is added to all logits of one position, so constants that differ
   from position to position tell the classes of any other loss from its positions.
2. The targets, if they are probabilities: they sum to 1 over the classes.
3. Dimension 1, as for PyTorch's losses. `assumed_dimension` says that nothing better is known.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from aquasurf_ray.tasks.errors import TaskError
from aquasurf_ray.tasks.targets import Loss, counted_targets, function_of, is_of_torch

PROBED_EXAMPLES = 8
"""So few show how a loss changes, since each position has a constant of its own."""
SAME = 1e-3
"""A loss stays the same in one dimension if its change is this share of that in the other: float32 leaves 1e-6."""
NOTHING = 1e-6
"""Changes of the loss below this share of it are rounding, and tell nothing."""
SUM_TOLERANCE = 1e-2
"""Probabilities in bfloat16 sum to 1 as closely as this."""


def class_dimension(outputs: Tensor, targets: Tensor, loss: Loss | None = None) -> int:
    """Return the dimension of the outputs that holds the classes, as the module says.

    Raises:
        TaskError: the targets fit no dimension, or are not probabilities where their sums have to decide.

    >>> class_dimension(torch.zeros(2, 3, 8, 8), torch.zeros(2, 8, 8, dtype=torch.int64))
    1
    >>> class_dimension(torch.zeros(2, 8, 3), torch.zeros(2, 8, dtype=torch.int64))
    2
    """
    return _found(outputs, targets, loss)[0]


def assumed_dimension(outputs: Tensor, targets: Tensor, loss: Loss | None = None) -> str | None:
    """Return a sentence if neither shapes nor loss nor targets tell the dimension of the classes; else None.

    Raises:
        TaskError: as `class_dimension`.
    """
    dimension, is_known = _found(outputs, targets, loss)
    if is_known:
        return None
    return (
        f"the classes may be in dimension 1 or {outputs.dim() - 1} of the outputs {tuple(outputs.shape)}, neither loss "
        f"nor targets tell which, and they are taken to be in {dimension}, as by PyTorch's losses"
    )


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
        # Masks are often stored with a channel of one, as (n, 1, h, w); an exact fit wins.
        fitting = fitting or [d for d, shape in shapes.items() if _same_but_ones(targets.shape, shape)]
        if fitting:
            return fitting
    if are_float_labels(outputs, targets):
        raise TaskError(float_labels_text(targets.dtype))
    expected = outputs.shape if targets.is_floating_point() else shapes[last]
    raise TaskError(f"targets must have shape {tuple(expected)}, got {tuple(targets.shape)}")


def sums_to_one(targets: Tensor, dimension: int, *, may_be_zero: bool = False) -> bool:
    """Return whether targets are probabilities over the classes in this dimension, or, if allowed, zero there."""
    values = targets.double()
    sums = values.sum(dimension)
    fit = (sums - 1).abs() <= SUM_TOLERANCE
    if may_be_zero:
        fit |= sums == 0
    return bool((values >= 0).all()) and bool(fit.all())


def float_labels_text(dtype: torch.dtype, place: str = "") -> str:
    """Return the sentence on labels of a type that classes cannot have; `place` says where they are."""
    name = str(dtype).removeprefix("torch.")
    return f"classes must be whole numbers of an integer type, as labels.long() gives, got {name}{place}"


def are_float_labels(outputs: Tensor, targets: Tensor) -> bool:
    """Return whether targets are floats in the shape that labels would have, and not in that of probabilities."""
    if not targets.is_floating_point() or outputs.dim() < 2 or _is_like_outputs(targets, outputs):
        return False
    return any(_same_but_ones(targets.shape, _without(outputs.shape, d)) for d in (1, outputs.dim() - 1))


def class_rows(outputs: Tensor, targets: Tensor, loss: Loss | None = None) -> tuple[Tensor, Tensor]:
    """Return logits with a row for each position, (rows, classes), and the targets of these rows: labels (rows,) int64,
    or probabilities (rows, classes).

    Raises:
        TaskError: the targets do not fit the outputs, or are whole numbers in their shape that are not one-hot.
    """
    dimension = class_dimension(outputs, targets, loss)
    logits = outputs.movedim(dimension, -1)
    rows = logits.reshape(-1, logits.shape[-1])
    if not _is_like_outputs(targets, outputs):
        return rows, targets.reshape(-1).long()
    if not targets.is_floating_point() and not sums_to_one(targets, dimension):
        raise _no_probabilities(outputs, targets)
    probabilities = targets.reshape(outputs.shape).movedim(dimension, -1)
    return rows, probabilities.reshape(rows.shape).to(outputs.dtype)


def _found(outputs: Tensor, targets: Tensor, loss: Loss | None) -> tuple[int, bool]:
    """Return the dimension of the classes, and whether it is known or assumed."""
    fitting = fitting_dimensions(outputs, targets)
    if len(fitting) == 1:
        return fitting[0], True
    if loss is not None and is_of_torch(loss):
        return 1, True
    is_own = loss is None or _is_own(loss)
    are_probabilities = _is_like_outputs(targets, outputs)
    if is_own and not are_probabilities:
        return fitting[1], True
    unchanged = None if is_own or loss is None else _unchanged(outputs, targets, loss, fitting)
    if unchanged is not None:
        return unchanged, True
    if are_probabilities:
        shaped = targets.reshape(outputs.shape)
        for may_be_zero in (False, True):  # such as the pixels of no class
            summing = [d for d in fitting if sums_to_one(shaped, d, may_be_zero=may_be_zero)]
            if summing:
                return summing[0], len(summing) == 1
        if is_own:
            raise _no_probabilities(outputs, targets)
    return 1, False


def _unchanged(outputs: Tensor, targets: Tensor, loss: Loss, dimensions: list[int]) -> int | None:
    """Return the dimension over which the loss goes through a softmax, or None if its changes do not tell.

    The constants have the spread of the logits: smaller ones would not change the loss of large logits.
    """
    counted = counted_targets(targets, loss)
    chosen = (counted.flatten(1).any(1) if counted.dim() > 1 else counted).nonzero()[:PROBED_EXAMPLES, 0]
    before, *after = _shifted_losses(outputs.detach(), targets, loss, dimensions, chosen)
    changes = [abs(value - before) for value in after]
    if not all(map(math.isfinite, [before, *after])) or max(changes) <= NOTHING * abs(before):
        return None
    # Softmax removes the constants of one dimension; over the other they move the loss.
    least = changes.index(min(changes))
    return dimensions[least] if changes[least] <= SAME * max(changes) else None


@torch.no_grad()
def _shifted_losses(outputs: Tensor, targets: Tensor, loss: Loss, dimensions: list[int], chosen: Tensor) -> list[float]:
    """Return the loss of the chosen examples, and with a random constant added to all logits of each position, for each
    dimension as that of the classes."""
    logits, answers = outputs[chosen].double(), targets[chosen]
    finite = logits[logits.isfinite()]
    spread = float(finite.std()) if finite.numel() > 1 else 0.0
    shifted = [logits]
    for dimension in dimensions:
        shape = logits.select(dimension, 0).shape
        constants = torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
        shifted.append(logits + (spread or 1.0) * constants.to(logits.device).unsqueeze(dimension))
    for dtype in (torch.float64, torch.float32, outputs.dtype):
        given = answers.to(dtype) if answers.is_floating_point() else answers
        try:
            return [_value(loss(each.to(dtype), given)) for each in shifted]
        except Exception:  # such as class weights within a function, which are float32
            if dtype == outputs.dtype:
                raise
    raise AssertionError("the outputs' own type is the last that is tried")


def _value(loss: Tensor | float) -> float:
    return float(torch.as_tensor(loss).double().sum())


def _no_probabilities(outputs: Tensor, targets: Tensor) -> TaskError:
    return TaskError(
        f"targets in the shape of the outputs, {tuple(outputs.shape)}, must be one-hot or probabilities, which sum to "
        f"1 over the classes, got {targets.dtype} from {float(targets.min()):g} to {float(targets.max()):g}; labels "
        "have one dimension less"
    )


def _is_own(loss: Loss) -> bool:
    return str(getattr(function_of(loss), "__module__", "")).startswith("aquasurf_ray.")


def _is_like_outputs(targets: Tensor, outputs: Tensor) -> bool:
    """Return whether targets are one-hot or probabilities: real numbers, or integers in the outputs' shape."""
    if targets.is_floating_point():
        return _same_but_ones(targets.shape, outputs.shape)
    return targets.shape == outputs.shape and outputs.shape[-1] > 1


def _without(shape: torch.Size, dimension: int) -> torch.Size:
    return torch.Size([*shape[:dimension], *shape[dimension + 1 :]])


def _same_but_ones(shape: torch.Size, other: torch.Size) -> bool:
    return [d for d in shape if d != 1] == [d for d in other if d != 1]
