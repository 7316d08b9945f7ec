"""Which rows of a product belong to targets that count.

Padding is to count nowhere, so a spectrum of padded targets has only the rows of samples and positions whose target
counts, and the rows of others that have a gradient, such as those of padding that real tokens attend to. A row of a
target that counts stays also without a gradient: its ReLU is off, or a pooling took another position.

    targets (n, ...)    rows of a product              a row counts if
    (n, t)              (n, t, ...)                    the target at its position does
    (n, t)              (n * t,), (t, n), (n, h, t)    likewise: tokens in one dimension, positions first, heads between
    (n, h, w)           (n, h / 2, w / 2)              one of the targets in its place does
    (n, t)              (n,) at each of t steps        the target at its step does
    (n, ...)            (n, ...) otherwise             any target of its sample does
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import adaptive_max_pool1d, adaptive_max_pool2d, adaptive_max_pool3d

POOLINGS = {1: adaptive_max_pool1d, 2: adaptive_max_pool2d, 3: adaptive_max_pool3d}


@dataclass(frozen=True)
class Padding:
    """The targets of a batch of which some do not count.

    Attributes:
        counted: booleans (n, ...), which count.
        has_values: the last dimension may hold several values of one position, and not positions.

    >>> padding = Padding(torch.tensor([[True, False], [False, False]]))
    >>> padding.rows((2, 2)).tolist(), padding.rows((4,)).tolist()
    ([[True, False], [False, False]], [True, False, False, False])
    >>> padding.rows((2, 3)).tolist(), padding.rows((2,), step=1, n_steps=2).tolist()
    ([[True, True, False], [False, False, False]], [False, False])
    """

    counted: Tensor
    has_values: bool = False

    def rows(self, shape: Sequence[int], step: int = 0, n_steps: int = 1) -> Tensor:
        """Return which rows of a product count, as booleans of the rows' shape; all, if samples cannot be found in it.

        Args:
            shape: the samples and positions of the rows.
            step: the number of this use among the `n_steps` uses of the weight.
        """
        counted = self.counted
        counted = counted.reshape(len(counted), *(size for size in counted.shape[1:] if size != 1))
        return self._rows(counted, tuple(shape), step, n_steps)

    def _rows(self, counted: Tensor, shape: tuple[int, ...], step: int, n_steps: int) -> Tensor:
        n = len(counted)
        if len(shape) > 1 and shape[0] != n and shape[1] == n:
            return self._rows(counted, (n, shape[0], *shape[2:]), step, n_steps).transpose(0, 1)
        if shape and shape[0] != n and shape[0] % n == 0:
            whole = (n, *_positions(counted, shape[0] // n), *shape[1:])
            return self._rows(counted, whole, step, n_steps).reshape(shape)
        if not shape or shape[0] != n:
            return torch.ones(shape, dtype=torch.bool, device=counted.device)
        mask = _of_step(counted, step, n_steps) if len(shape) == 1 else self._of_positions(counted, shape)
        return mask.expand(shape)

    def _of_positions(self, counted: Tensor, shape: tuple[int, ...]) -> Tensor:
        """Return the mask in a form that broadcasts to the rows' shape (n, ...)."""
        own, rows = counted.shape[1:], shape[1:]
        same = 0
        while same < min(len(own), len(rows)) and own[same] == rows[same]:
            same += 1
        may_differ = same == 0 and not self.has_values
        if may_differ and own and rows[-len(own) :] == own:
            return counted.reshape(len(counted), *[1] * (len(rows) - len(own)), *own)
        if may_differ and len(own) == len(rows) and len(own) in POOLINGS:
            return POOLINGS[len(own)](counted[:, None].float(), rows)[:, 0] > 0
        mask = counted.flatten(1 + same).any(-1) if len(own) > same else counted
        return mask.reshape(*mask.shape, *[1] * (len(shape) - mask.dim()))


def _positions(counted: Tensor, size: int) -> tuple[int, ...]:
    """Return the leading dimensions of positions that have this many elements, or the size itself."""
    for d in range(2, counted.dim() + 1):
        if counted.shape[1:d].numel() == size:
            return tuple(counted.shape[1:d])
    return (size,)


def _of_step(counted: Tensor, step: int, n_steps: int) -> Tensor:
    """Return the mask of the samples (n,) at one step; the first step may have no use of the weight."""
    if counted.dim() > 1 and step < n_steps and 0 <= counted.shape[1] - n_steps <= 1 < n_steps:
        counted = counted[:, step + counted.shape[1] - n_steps]
    return counted.flatten(1).any(1) if counted.dim() > 1 else counted
