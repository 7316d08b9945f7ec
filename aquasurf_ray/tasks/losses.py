"""The losses of this package, and what any loss needs: its value made a scalar, its tensors moved, its name."""

from __future__ import annotations

from copy import deepcopy
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from aquasurf_ray.tasks.classes import class_rows
from aquasurf_ray.tasks.errors import TaskError
from aquasurf_ray.tasks.targets import Loss

PLAIN = (bool, int, float, str, tuple)


def cross_entropy(logits: Tensor, targets: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """Return the mean cross-entropy in nats over the targets that count.

    Args:
        logits: (n, ..., classes), or (n, classes, ...) where the targets' shape says so.
        targets: labels (n, ...), of which -100 is padding; or probabilities in the shape of the logits.
        label_smoothing: share of each target that is spread over all classes.

    A class that a logit of minus infinity rules out adds nothing where its probability is 0, where PyTorch's
    cross-entropy of probabilities is NaN.

    >>> round(cross_entropy(torch.zeros(2, 7, 4), torch.zeros(2, 7, dtype=torch.int64)).item(), 4)
    1.3863
    """
    rows, fitting = class_rows(logits, targets, cross_entropy)
    if label_smoothing == 0:  # smoothing gives every class a probability
        rows = without_ruled_out(rows, fitting)
    return functional.cross_entropy(rows, fitting, label_smoothing=label_smoothing)


def mean_squared_error(outputs: Tensor, targets: Tensor) -> Tensor:
    """Return the mean of the squared differences; targets (n,) fit outputs (n, 1)."""
    return functional.mse_loss(outputs, shaped_like(targets, outputs).to(outputs.dtype))


def without_ruled_out(rows: Tensor, targets: Tensor) -> Tensor:
    """Return logits in which classes of logit minus infinity and probability 0 have the lowest number: 0 times it is 0,
    and 0 times infinity is not a number."""
    if not targets.is_floating_point():
        return rows
    return rows.masked_fill(rows.isneginf() & (targets == 0), torch.finfo(rows.dtype).min)


def shaped_like(targets: Tensor, outputs: Tensor) -> Tensor:
    """Return targets in the outputs' shape, where they differ by dimensions of size one.

    Broadcasting (n,) against (n, 1) would silently compare all pairs.

    Raises:
        TaskError: they differ by more.
    """
    if [d for d in targets.shape if d != 1] != [d for d in outputs.shape if d != 1]:
        raise TaskError(f"targets must have shape {tuple(outputs.shape)}, got {tuple(targets.shape)}")
    return targets.reshape(outputs.shape)


def scalar_loss(value: Any, loss: Loss) -> Tensor:
    """Return what a loss returned as a scalar: the one element of a tensor, as PyTorch's `backward` takes it.

    Raises:
        TaskError: it is not a tensor, or has several elements.

    >>> scalar_loss(torch.ones(1), nn.MSELoss())
    tensor(1.)
    """
    if isinstance(value, Tensor) and value.numel() == 1:
        return value if value.dim() == 0 else value.reshape(())
    got = f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
    raise TaskError(
        f"the loss '{name_of(loss)}' must return a scalar tensor, the mean over the counted targets, got {got}"
    )


def moved(loss: Any, device: torch.device) -> Any:
    """Return a loss with the tensors that it holds or `partial` binds on a device; the same object if it has none."""
    if isinstance(loss, Tensor):
        return loss.to(device)
    # A copy, because the driver and the workers' threads may share one task object.
    if isinstance(loss, nn.Module):
        return deepcopy(loss).to(device) if [*loss.parameters(), *loss.buffers()] else loss
    if isinstance(loss, partial):
        function, bound = moved(loss.func, device), [moved(value, device) for value in loss.args]
        named = {name: moved(value, device) for name, value in loss.keywords.items()}
        parts = [(function, loss.func), *zip(bound, loss.args, strict=True)]
        parts += [(value, loss.keywords[name]) for name, value in named.items()]
        return loss if all(new is old for new, old in parts) else partial(function, *bound, **named)
    return loss


def name_of(function: object) -> str:
    """Return the name of a callable where it was defined; for a partial one or an object, with its plain settings.

    >>> name_of(partial(cross_entropy, label_smoothing=0.1))
    'cross_entropy(label_smoothing=0.1)'
    >>> name_of(nn.HuberLoss(delta=2.0))
    "HuberLoss(delta=2.0, reduction='mean')"
    """
    if isinstance(function, partial):
        bound = [repr(a) for a in function.args if isinstance(a, PLAIN)]
        return _called(name_of(function.func), bound, function.keywords)
    name = getattr(function, "__qualname__", None)
    if name is not None:
        return str(name)
    # Private attributes and `training` say nothing of the values that the loss gives.
    settings = {
        key: value for key, value in getattr(function, "__dict__", {}).items() if key[0] != "_" and key != "training"
    }
    if isinstance(function, nn.Module):
        settings |= {key: tuple(buffer.flatten().tolist()) for key, buffer in function.named_buffers()}
    return _called(type(function).__qualname__, [], settings)


def _called(name: str, bound: list[str], settings: dict[str, Any]) -> str:
    given = bound + [f"{key}={value!r}" for key, value in sorted(settings.items()) if isinstance(value, PLAIN)]
    return f"{name}({', '.join(given)})" if given else name
