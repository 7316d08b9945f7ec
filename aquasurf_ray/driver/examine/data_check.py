"""The values of a task's data: numbers that are not finite, targets that are the same, classes that a split lacks.

A bounded sample of random examples of each split is read, since an image folder in order shows one class for long.
All problems are found before the first is reported, and each kind is reported once for a split.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from aquasurf_ray.tasks import Objective, Splits, TaskError
from aquasurf_ray.tasks.classes import class_dimension, float_labels_text, sums_to_one
from aquasurf_ray.tasks.inputs import Inputs, named_tensors
from aquasurf_ray.tasks.loaders import Examples, in_memory, n_examples
from aquasurf_ray.tasks.samples import random_batches
from aquasurf_ray.tasks.targets import ignored_label

MOST_EXAMPLES = 2_000
MOST_IN_MEMORY = 50_000
SECONDS_PER_SPLIT = 10.0
BATCH = 32
CHANCE = 1e-6
"""A class counts as lacking in a split if a sample of this size would lack it by chance with this probability."""
LEAST_EXAMPLES = 20
"""The size that both splits need before a missing common class is reported."""
CLASSES_NAMED = 5
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
        favoured: for class probabilities, the classes that are the most probable of an example, -1 where several are.
    """

    name: str
    n: int
    n_read: int = field(default=0, init=False)
    not_finite: dict[str, tuple[int, Any]] = field(default_factory=dict, init=False)
    labels: dict[int, int] = field(default_factory=dict, init=False)
    first_of_label: dict[int, Any] = field(default_factory=dict, init=False)
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


def refuse_values(objective: Objective, samples: list[SplitSample]) -> None:
    """Refuse data on which no search makes sense.

    Raises:
        TaskError: with all problems in one sentence: values that are not finite, targets that are all the same in a
            split, or training and validation examples without a common class.
    """
    problems = []
    for sample in samples:
        for tensor, (count, first) in sample.not_finite.items():
            have = "has" if count == 1 else "have"
            problems.append(
                f"{count:,} of {sample.n_read:,} sampled {sample.name} examples {have} NaN or infinite {tensor}, "
                f"such as example {first}"
            )
        constant = _constant(sample)
        if constant is not None:
            problems.append(f"all targets of {sample.n_read:,} sampled {sample.name} examples are {constant}")
    problems += _float_labels(objective, samples)
    train, validation = samples[0], samples[1]
    is_enough = min(train.n_read, validation.n_read) >= LEAST_EXAMPLES
    if is_enough and train.labels and validation.labels and not set(train.labels) & set(validation.labels):
        problems.append(
            f"no class of the {validation.says} examples ({_listed(validation.labels)}) is among those of the "
            f"{train.says} examples ({_listed(train.labels)}); split the examples at random"
        )
    if problems:
        raise TaskError("; ".join(problems))


def lacking_classes(samples: list[SplitSample]) -> list[str]:
    """Return a warning for each split that lacks classes which others have, beyond chance."""
    warnings = []
    labelled = [sample for sample in samples if sample.labels]  # the others have probabilities
    for sample in labelled:
        others = [other for other in labelled if other is not sample]
        lacking = sorted(
            label
            for label in {label for other in others for label in other.labels} - set(sample.labels)
            if _is_surely_lacking(sample, max(other.labels.get(label, 0) / other.n_read for other in others))
        )
        if lacking:
            classes = "class" if len(lacking) == 1 else "classes"
            warnings.append(f"warning: the {sample.name} split lacks {classes} {_listed(lacking)}, which another has")
    return warnings


def one_sided_targets(objective: Objective, samples: list[SplitSample]) -> list[str]:
    """Return a warning for each split in which some of an example's several targets are always the same, or whose class
    probabilities all favour one class, so that an accuracy tells no functions apart."""
    warnings = []
    for sample in samples:
        where = f"in all {sample.n_read:,} sampled {sample.name} examples"
        if sample.favourite is not None:
            warnings.append(f"warning: class {sample.favourite} is the most probable {where}")
        elif objective.likelihood != "categorical" and sample.n_read > 1:
            warnings += [f"warning: {what} {where}" for what in _constant_columns(sample)]
    return warnings


def refuse_labels_out_of_range(
    objective: Objective, samples: list[SplitSample], outputs: Tensor, targets: Tensor
) -> None:
    """Refuse class labels that the network has no output for, and targets of a yes-or-no that are neither.

    Raises:
        TaskError: names the split, the label and an example.
    """
    if objective.likelihood == "categorical" and not targets.is_floating_point() and targets.shape != outputs.shape:
        try:
            n_classes = outputs.shape[class_dimension(outputs, targets, objective.loss)]
        except TaskError:
            return  # the loss reports targets of a wrong shape, or takes them
        for sample in samples:
            wrong = [label for label in sorted(sample.labels) if not 0 <= label < n_classes]
            if wrong:
                raise TaskError(
                    f"labels must be 0 to {n_classes - 1} for a network with {n_classes} outputs, got "
                    f"{_listed(wrong)} in the {sample.name} split, such as example {sample.first_of_label[wrong[0]]}"
                )
    if objective.likelihood == "bernoulli":
        for sample in samples:
            if sample.least is not None and sample.most is not None:
                low, high = float(sample.least.min()), float(sample.most.max())
                if low < 0 or high > 1:
                    raise TaskError(f"targets must lie in [0, 1], got {low:g} to {high:g} in the {sample.name} split")


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


def _constant(sample: SplitSample) -> str | None:
    """Return the one value of all targets of a split; None if there are several, or only one example was read."""
    if sample.n_read < 2:
        return None
    if len(sample.labels) == 1:
        return f"of class {next(iter(sample.labels))}"
    if sample.least is None or sample.most is None or not torch.equal(sample.least, sample.most):
        return None
    if sample.labels and float(sample.least.sum()) != 1:
        return None  # labels of several places, which may differ from place to place alone
    if sample.favourite is not None:
        return f"the same, for class {sample.favourite}"
    return f"{float(sample.least[0]):g}" if sample.least.numel() == 1 else "the same"


def _constant_columns(sample: SplitSample) -> list[str]:
    """Return a phrase on the columns of targets (n, columns) that are always the same, if there are such."""
    if sample.least is None or sample.most is None or sample.form is None or len(sample.form[1]) != 1:
        return []  # a picture or a mask may well have a border
    columns = (sample.least == sample.most).nonzero().flatten().tolist()
    of = f"of the {len(sample.least)} targets"
    if len(columns) == 1:
        return [f"target {columns[0]} (from 0) {of} is {float(sample.least[columns[0]]):g}"]
    return [f"targets {_listed(columns)} (from 0) {of} are the same"] if columns else []


def _float_labels(objective: Objective, samples: list[SplitSample]) -> list[str]:
    """Return a problem for each split whose class labels are floats, where another has integers of the same shape.

    Floats in all splits may be probabilities, which the shape of the outputs decides.
    """
    if objective.likelihood != "categorical":
        return []
    forms = [(sample.name, *sample.form) for sample in samples if sample.form]
    labels = {shape for _, dtype, shape in forms if not dtype.is_floating_point}
    return [
        float_labels_text(dtype, f" in the {name} split")
        for name, dtype, shape in forms
        if dtype.is_floating_point and shape in labels
    ]


def _is_surely_lacking(sample: SplitSample, share: float) -> bool:
    """Return whether a sample without a class of this share shows that the split lacks it."""
    return bool((1 - share) ** sample.n_read < CHANCE)


def _listed(labels: Mapping[int, int] | list[int]) -> str:
    named = ", ".join(map(str, sorted(labels)[:CLASSES_NAMED]))
    return named + (f" and {len(labels) - CLASSES_NAMED} more" if len(labels) > CLASSES_NAMED else "")
