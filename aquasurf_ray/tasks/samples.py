"""Random examples of a split, read in small batches, so that a reader can stop when it has seen enough."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from aquasurf_ray.tasks.inputs import Inputs, part_of
from aquasurf_ray.tasks.loaders import Examples, collated, given_batches, in_memory, is_plain, n_examples


def random_batches(examples: Examples, batch_size: int, seed: int) -> Iterator[tuple[list[Any], Inputs, Tensor]]:
    """Yield all examples of a split in random order, each once: their numbers, inputs (n, ...) and targets (n, ...).

    A loader without automatic batches, whose items are batches, gives these in random order, under the number of each.

    Raises:
        TaskError: items have a form that networks are not called with.
    """
    order = torch.Generator().manual_seed(seed)
    for chunk in _chunks(examples, batch_size, order):
        tensors = in_memory(examples)
        if tensors is not None and len(tensors) == 2:  # one read for all of them is faster than one for each
            yield chunk, tensors[0][chunk], tensors[1][chunk]
        else:
            inputs, targets = collated(examples, chunk, seed)
            if len(chunk) == 1 and len(targets) > 1:
                inputs = part_of(inputs, slice(0, len(targets)), len(targets))
                yield [chunk[0]] * len(targets), inputs, targets
            else:
                yield chunk, inputs, targets


def _chunks(examples: Examples, size: int, order: torch.Generator) -> Iterator[list[Any]]:
    if not isinstance(examples, DataLoader) or is_plain(examples):
        numbers: list[Any] = torch.randperm(n_examples(examples), generator=order).tolist()
    else:
        batches = given_batches(examples)
        if examples.batch_sampler is None:
            yield from (batches[i] for i in torch.randperm(len(batches), generator=order))
            return
        given = [index for batch in batches for index in batch]
        numbers = [given[i] for i in torch.randperm(len(given), generator=order)]
    for start in range(0, len(numbers), size):
        yield numbers[start : start + size]
