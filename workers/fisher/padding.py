"""The rows of a product that are likely to belong to targets that count, by shapes alone.

`workers.fisher.counted_rows` decides by gradients. This is for rows that no gradient reaches: a ReLU is off everywhere,
or a pooling took another position.

    targets (n, ...)    rows of a product              a row counts if
    (n, t)              (n, t, ...)                    the target at its position does
    (n, t)              (n * t,), (t, n), (n, h, t)    likewise: tokens in one dimension, positions first, heads between
    (n, h, w)           (n, h / 2, w / 2)              one of the targets in its place does
    (n, t)              (n,) at each of t steps        the target at its step does
    (n, ...)            (n, ...) otherwise             any target of its sample does
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
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

    >>> padding = Padding(torch.tensor([[True, True], [False, False]]))
    >>> best, *_ = padding.guesses((4,))
    >>> [mask.tolist() for mask in best]  # samples first or positions first
    [[True, True, False, False], [True, False, True, False]]
    """

    counted: Tensor
    has_values: bool = False

    def guesses(self, shape: Sequence[int], step: int = 0, n_steps: int = 1) -> Iterator[list[Tensor]]:
        """Yield booleans of a product's rows, which count: the most likely first, equally likely ones in one list.

        None if samples cannot be found in the shape.

        Args:
            shape: the samples and positions of the rows.
            step: the number of this use among the `n_steps` uses of the weight.
        """
        counted = self.counted.cpu()
        counted = counted.reshape(len(counted), *(size for size in counted.shape[1:] if size != 1))
        arrangements = list(_arrangements(counted, tuple(shape)))
        for of_rows in (self._of_positions, _of_samples):
            masks: list[Tensor] = []
            for samples_first, put_back in arrangements:
                is_step = len(samples_first) == 1
                mask = _of_step(counted, step, n_steps) if is_step else of_rows(counted, samples_first)
                mask = put_back(mask.expand(samples_first)).reshape(tuple(shape))
                if not any(torch.equal(mask, other) for other in masks):
                    masks.append(mask)
            if masks:
                yield masks

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


Arrangement = tuple[tuple[int, ...], Callable[[Tensor], Tensor]]


def _arrangements(counted: Tensor, shape: tuple[int, ...]) -> Iterator[Arrangement]:
    """Yield the ways in which rows of a shape may be samples first, and what puts a tensor of them back."""
    n = len(counted)
    if shape[:1] == (n,):
        yield shape, lambda mask: mask
    if shape[1:2] == (n,):
        yield (n, shape[0], *shape[2:]), lambda mask: mask.transpose(0, 1)
    if shape and shape[0] > n and shape[0] % n == 0:
        places = _positions(counted, shape[0] // n)
        whole = (n, *places, *shape[1:])
        yield whole, lambda mask: mask
        yield whole, lambda mask: mask.flatten(1, len(places)).transpose(0, 1)


def _positions(counted: Tensor, size: int) -> tuple[int, ...]:
    """Return the leading dimensions of positions that have this many elements, or the size itself."""
    for d in range(2, counted.dim() + 1):
        if counted.shape[1:d].numel() == size:
            return tuple(counted.shape[1:d])
    return (size,)


def _of_samples(counted: Tensor, shape: tuple[int, ...]) -> Tensor:
    return counted.reshape(len(counted), -1).any(1).reshape(-1, *[1] * (len(shape) - 1))


def _of_step(counted: Tensor, step: int, n_steps: int) -> Tensor:
    """Return the mask of the samples (n,) at one step; the first step may have no use of the weight."""
    if counted.dim() > 1 and step < n_steps and 0 <= counted.shape[1] - n_steps <= 1 < n_steps:
        counted = counted[:, step + counted.shape[1] - n_steps]
    return counted.flatten(1).any(1) if counted.dim() > 1 else counted
