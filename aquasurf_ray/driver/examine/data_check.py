"""The values of a task's data: numbers that are not finite, targets that are the same, classes that a split lacks.

The examples are those of `split_sample`. All problems are found before the first is reported, and each kind is reported
once for a split.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from aquasurf_ray.driver.examine.split_sample import SplitSample
from aquasurf_ray.tasks import Objective, TaskError
from aquasurf_ray.tasks.classes import class_dimension, float_labels_text

CHANCE = 1e-6
"""A class counts as lacking in a split if a sample of this size would lack it by chance with this probability."""
LEAST_EXAMPLES = 20
"""The size that both splits need before a missing common class is reported."""
CLASSES_NAMED = 5


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
