"""The rows of a product that count, by the gradients that reach them.

Padding is to count nowhere. A row of a product counts if the gradient of a target that counts reaches it, whatever
the layout of the rows: positions first or flattened, a step or a chunk at a time, permuted, two views in one batch. So
two backward passes with random gradients precede that of the loss: one from the outputs of targets that do not count,
one from all others. They are random because a loss may have a gradient of zero where a target counts.

A row that neither reaches belongs to a ReLU that is off everywhere, a position that a pooling did not take, or a layer
before a weight of zero. It keeps its place if its sample and position count, which these tell, in this order:

1. the rows in its place in other products of the same shape, the next ones first,
2. the shape of the targets (`workers.fisher.padding`),
3. the other rows of its sample, if all of them agree,

as long as they contradict no row of the product that a gradient does reach. Otherwise the guess by shapes that
contradicts the fewest rows decides, and `RowCounts.uncertain` says where even that is none.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from math import prod

import torch
from torch import Tensor

from aquasurf_ray.workers.fisher.padding import Padding

MOST_NEIGHBOURS = 64
"""A loop over long sequences has thousands of products of one shape; those further away tell nothing more."""


class Reach:
    """The rows of one use of a weight that gradients reach.

    Attributes:
        name: the name of the weight's block.
        shape: the shape of the rows.
        step: the number of this use among the uses of the weight.
        is_met: a gradient came, if only of zeros.
        by_counted, by_padding: booleans of the rows, flat: those that targets that count reach, and the others.
    """

    def __init__(self, name: str, shape: Sequence[int], step: int) -> None:
        self.name, self.shape, self.step = name, tuple(shape), step
        self.is_met = False
        self.by_counted = torch.zeros(prod(shape), dtype=torch.bool)
        self.by_padding = torch.zeros_like(self.by_counted)

    @property
    def known(self) -> Tensor:
        return self.by_counted | self.by_padding


@dataclass(frozen=True)
class RowCounts:
    """The rows that count, of every use.

    Attributes:
        masks: booleans of the rows of each use, flat.
        uncertain: the names of blocks with rows of which nothing tells whether they count.
    """

    masks: list[Tensor]
    uncertain: list[str]

    @classmethod
    def of(cls, reaches: Sequence[Reach], padding: Padding, n_steps: Sequence[int]) -> RowCounts:
        """Decide all rows.

        Args:
            reaches: the uses, in the order in which they ran.
            n_steps: for each use, the number of uses of its weight.
        """
        masks, uncertain = [], []
        for i, (reach, n) in enumerate(zip(reaches, n_steps, strict=True)):
            mask, is_certain = _decided(
                reach, _neighbours(reaches, i), list(padding.guesses(reach.shape, reach.step, n))
            )
            masks.append(mask)
            if not is_certain and reach.name not in uncertain:
                uncertain.append(reach.name)
        return cls(masks, uncertain)


class _Rows:
    """The rows of one use as they are decided, one after another."""

    def __init__(self, reach: Reach) -> None:
        self._reach = reach
        self._sure = reach.known
        self.counted = reach.by_counted.clone()
        self.missing = ~self._sure

    def n_contradicted(self, counted: Tensor, known: Tensor) -> int:
        """Return how many of the rows that gradients reach are otherwise in an opinion about the rows."""
        return int(((counted != self._reach.by_counted) & known & self._sure).sum())

    def fill(self, counted: Tensor, known: Tensor) -> None:
        """Take the opinion about the rows that are missing yet."""
        self.counted |= counted & known & self.missing
        self.missing &= ~known


def _decided(reach: Reach, neighbours: Iterator[Reach], guesses: list[list[Tensor]]) -> tuple[Tensor, bool]:
    """Return the rows that count, and whether there was something to tell all of them by."""
    rows = _Rows(reach)
    if not rows.missing.any():
        return rows.counted, True
    for other in neighbours:
        if rows.n_contradicted(other.by_counted, other.known) == 0:
            rows.fill(other.by_counted, other.known)
            if not rows.missing.any():
                return rows.counted, True
    every = torch.ones_like(rows.missing)
    if len(reach.shape) == 1 and guesses:  # as many rows as samples may all be of one sample
        counted, known = _of_groups(reach, 0)
        guesses = [[*guesses[0], counted] if bool(known.all()) else guesses[0], *guesses[1:]]
    for masks in guesses:
        fitting = [m.flatten() for m in masks if rows.n_contradicted(m.flatten(), every) == 0]
        if fitting:
            is_one = all(torch.equal(m & rows.missing, fitting[0] & rows.missing) for m in fitting)
            rows.fill(fitting[0] if is_one else every, every)
            return rows.counted, is_one
    for d in range(len(reach.shape)):
        rows.fill(*_of_groups(reach, d))
    if rows.missing.any() and guesses:
        flat = [m.flatten() for m in chain.from_iterable(guesses)]
        rows.fill(min(flat, key=lambda m: rows.n_contradicted(m, every)), every)
    is_certain = not bool(rows.missing.any())
    rows.fill(every, every)
    return rows.counted, is_certain


def _neighbours(reaches: Sequence[Reach], at: int) -> Iterator[Reach]:
    """Yield uses with rows of the same shape: the later ones, nearer to the outputs, then the earlier ones."""
    for others in (reaches[at + 1 : at + 1 + MOST_NEIGHBOURS], reaches[max(0, at - MOST_NEIGHBOURS) : at][::-1]):
        yield from (other for other in others if other.shape == reaches[at].shape)


def _of_groups(reach: Reach, dimension: int) -> tuple[Tensor, Tensor]:
    """Return what the rows that are alike in one dimension, such as those of a sample, tell if all of them agree: which
    rows count, and which are known. Rows of one dimension may all be of one sample."""
    rest = [d for d in range(len(reach.shape)) if d != dimension] or [0]
    counted, only_padding = (
        rows.reshape(reach.shape).amax(rest, keepdim=True).expand(reach.shape).flatten()
        for rows in (reach.by_counted, reach.by_padding & ~reach.by_counted)
    )
    return counted, counted ^ only_padding
