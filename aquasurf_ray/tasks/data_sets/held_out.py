"""A stratified validation split of the training examples, the same on every machine."""

from __future__ import annotations

import torch
from torch import Tensor

from aquasurf_ray.tasks.errors import TaskError

SPLIT_SEED = 0


def held_out(labels: Tensor, share: float, *, seed: int = SPLIT_SEED) -> tuple[Tensor, Tensor]:
    """Return the examples to train on and the examples held out, as ascending int64 indices; disjoint, together all.

    Args:
        labels: (n,) int64.
        share: the share of each class to hold out, rounded to whole examples, but at least one and not all.
        seed: the random seed of the draw.

    Raises:
        TaskError: a class has fewer than two examples.

    >>> train, validation = held_out(torch.arange(50) % 5, 0.2)
    >>> len(train), torch.bincount(validation % 5).tolist()
    (40, [2, 2, 2, 2, 2])
    """
    shuffled = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
    # A stable sort keeps the shuffled order within each class.
    by_class = shuffled[labels[shuffled].argsort(stable=True)]
    kept, out = [], []
    for members in torch.split(by_class, torch.bincount(labels).tolist()):
        if len(members) == 0:  # labels may leave out a number
            continue
        if len(members) < 2:
            raise TaskError(
                f"class {int(labels[members[0]])} has one training example; two are needed, one of them for validation"
            )
        n_out = min(max(round(share * len(members)), 1), len(members) - 1)
        out.append(members[:n_out])
        kept.append(members[n_out:])
    return torch.cat(kept).sort().values, torch.cat(out).sort().values
