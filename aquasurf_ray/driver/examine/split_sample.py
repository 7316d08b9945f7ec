"""Random examples of each split of a task, and what the checks need of them, which is kept in place of the examples.

A bounded number is read, since an image folder in order shows one class for long.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from aquasurf_ray.tasks import Objective, Splits, TaskError
from aquasurf_ray.tasks.classes import sums_to_one
from aquasurf_ray.tasks.inputs import Inputs, named_tensors
from aquasurf_ray.tasks.loaders import Examples, in_memory, n_examples
from aquasurf_ray.tasks.samples import random_batches
from aquasurf_ray.tasks.targets import ignored_label

MOST_EXAMPLES = 2_000
MOST_IN_MEMORY = 50_000
SECONDS_PER_SPLIT = 10.0
BATCH = 32
SPLIT_SEED = 0


@dataclass
class SplitSample:
    """The random examples of one split that were read, as far as the checks need them.

    Attributes:
        n_read, n: examples read, and examples of the split.
        not_finite: by the name of a tensor, how many examples have a value in it that is not finite, and the first.
        labels: for class labels, in how many examples each occurs.
        form: the type of the targets, and the shape of an example's, without dimensions of one.
        least, most: smallest and largest target that counts, for each target of an example; None if it has one label.
        contents: how often the inputs of an example occur, by their hash; nothing where no tensor has a row for each.
        favoured: for class probabilities, the classes that are the most probable of an example, -1 where several are.
    """

    name: str
    n: int
    n_read: int = field(default=0, init=False)
    not_finite: dict[str, tuple[int, Any]] = field(default_factory=dict, init=False)
    labels: dict[int, int] = field(default_factory=dict, init=False)
    first_of_label: dict[int, Any] = field(default_factory=dict, init=False)
    contents: Counter[int] = field(default_factory=Counter, init=False)
    form: tuple[torch.dtype, tuple[int, ...]] | None = field(default=None, init=False)
    least: Tensor | None = field(default=None, init=False)
    most: Tensor | None = field(default=None, init=False)
    favoured: set[int] = field(default_factory=set, init=False)

    @property
    def favourite(self) -> int | None:
        """The class that the probabilities of every example favour, if there is one."""
        first, *others = self.favoured or {-1}
        return None if others or first == -1 else first

    @property
    def is_whole(self) -> bool:
        """True if every example of the split was read."""
        return self.n_read >= self.n

    @property
    def says(self) -> str:
        """The examples that were read, such as `2,000 of 50,000 train`."""
        return f"{self.n_read:,} {self.name}" if self.is_whole else f"{self.n_read:,} of {self.n:,} {self.name}"


def sample_splits(objective: Objective, splits: Splits) -> list[SplitSample]:
    """Read a bounded number of random examples of each split.

    Raises:
        TaskError: items have a form that networks are not called with.
    """
    samples = []
    for name, examples in splits.named().items():
        try:
            samples.append(_sampled(objective, name, examples))
        except TaskError as error:
            raise TaskError(f"{name} split: {error}") from error
    return samples


def _sampled(objective: Objective, name: str, examples: Examples) -> SplitSample:
    is_in_memory = in_memory(examples) is not None
    most, size = (MOST_IN_MEMORY, MOST_EXAMPLES) if is_in_memory else (MOST_EXAMPLES, BATCH)
    sample = SplitSample(name, n_examples(examples))
    end = time.monotonic() + SECONDS_PER_SPLIT
    for numbers, inputs, targets in random_batches(examples, size, SPLIT_SEED):
        _add(objective, sample, numbers, inputs, targets)
        if sample.n_read >= most or time.monotonic() > end:
            break
    return sample


def _add(objective: Objective, sample: SplitSample, numbers: list[Any], inputs: Inputs, targets: Tensor) -> None:
    if len(targets) == 0:
        return  # the check of a batch says what is wrong with a loader that makes such
    sample.n_read += len(targets)
    sample.contents.update(_contents(inputs, len(targets)))
    sample.form = sample.form or (targets.dtype, tuple(size for size in targets.shape[1:] if size != 1))
    for tensor, values in [*_named(inputs), ("targets", targets)]:
        is_bad = ~values.isfinite() if "mask" not in tensor else values.isnan()  # masks may add minus infinity
        bad = is_bad.reshape(len(values), -1).any(1).nonzero().flatten()
        if len(bad) and len(values) == len(targets):
            count, first = sample.not_finite.get(tensor, (0, numbers[int(bad[0])]))
            sample.not_finite[tensor] = count + len(bad), first
    if objective.likelihood != "categorical":
        _add_range(sample, targets, ignored_label(objective.loss))
    elif not targets.is_floating_point():
        _add_labels(sample, numbers, targets, objective.counted(targets))
        if targets.dim() == 2 and targets.shape[1] > 1:  # perhaps one-hot, in which each example has two numbers
            _add_range(sample, targets, ignored_label(objective.loss))
    elif targets[0].numel() > 1:  # floats of one number are labels of a wrong type
        _add_range(sample, targets, math.nan)  # a probability may be the label that does not count
        sample.favoured |= _favoured(targets)


def _add_range(sample: SplitSample, targets: Tensor, padding: float) -> None:
    rows = targets.reshape(len(targets), -1).double()
    is_padding = rows == padding
    least, most = rows.masked_fill(is_padding, math.inf).amin(0), rows.masked_fill(is_padding, -math.inf).amax(0)
    if sample.least is None or sample.most is None or least.shape != sample.least.shape:
        sample.least, sample.most = least, most
    else:
        sample.least, sample.most = torch.minimum(sample.least, least), torch.maximum(sample.most, most)


def _favoured(targets: Tensor) -> set[int]:
    """Return the classes that probabilities (n, ...) favour, -1 where several are equal; none for other targets."""
    for dimension in (1, -1):
        if targets.shape[dimension] > 1 and sums_to_one(targets, dimension, may_be_zero=True):
            top = targets.double().topk(2, dimension)
            first, second = top.values.unbind(dimension)
            classes = torch.where(first > second, top.indices.select(dimension, 0), -1)
            return set(torch.unique(classes[first > 0]).tolist())  # zero is a place without a class
    return set()


def _add_labels(sample: SplitSample, numbers: list[Any], targets: Tensor, counted: Tensor) -> None:
    rows = torch.arange(len(targets)).reshape(-1, *[1] * (targets.dim() - 1)).expand(targets.shape)
    pairs = torch.stack([targets[counted].long(), rows[counted]])
    pairs = torch.unique(pairs, dim=1)
    labels, first, counts = *_first_places(pairs[0]), torch.unique(pairs[0], return_counts=True)[1]
    for label, place, count in zip(labels.tolist(), first.tolist(), counts.tolist(), strict=True):
        sample.labels[label] = sample.labels.get(label, 0) + count
        sample.first_of_label.setdefault(label, numbers[int(pairs[1, place])])


def _first_places(labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return the distinct values of sorted labels, and where each begins."""
    values, counts = torch.unique_consecutive(labels, return_counts=True)
    return values, counts.cumsum(0) - counts


def _named(inputs: Inputs) -> list[tuple[str, Tensor]]:
    return [(f"inputs '{name}'" if name else "inputs", tensor) for name, tensor in named_tensors(inputs)]


def _contents(inputs: Inputs, n: int) -> list[int]:
    """Return a hash of each example's inputs, of the tensors that have a row for each example."""
    rows = [tensor.reshape(n, -1) for _, tensor in named_tensors(inputs) if tensor.dim() and len(tensor) == n]
    bits = [row.cpu().contiguous().view(torch.uint8) for row in rows if row.shape[1]]
    return [hash(row.tobytes()) for row in torch.cat(bits, 1).numpy()] if bits else []
