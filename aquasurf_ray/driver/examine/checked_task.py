"""The task that is checked, as all steps see it: its splits, a sample and a first batch of them, and its networks."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from aquasurf_ray.activations import Activation
from aquasurf_ray.driver.examine.split_sample import SplitSample, sample_splits
from aquasurf_ray.tasks import Splits, Task, TaskError
from aquasurf_ray.tasks.inputs import Inputs, map_tensors
from aquasurf_ray.tasks.loaders import Examples, leading_batches, n_examples, some_batches
from aquasurf_ray.workers.network import refuse_splits_without_targets, untrained_network

STEPS_TRAINED = 2
LARGEST_CPU_BATCH = 64  # so that the check takes about a minute on a CPU


class CheckedTask:
    """A task on a device, with what was read of it."""

    def __init__(self, task: Task, device: torch.device) -> None:
        self.task, self.device = task, device
        self._sampled: list[SplitSample] | None = None

    def cut(self, size: int) -> Splits:
        """Return the first examples that count of each split, enough for the steps of the check."""
        parts = (
            some_batches(split, STEPS_TRAINED, size, skipped=self._first_that_counts(split)[0])
            for split in self.splits().named().values()
        )
        return Splits(*parts)

    def network(self, function: str, seed: int = 0) -> nn.Module:
        """Return the untrained network with a function."""
        return untrained_network(self.task, lambda: Activation(function), seed=seed, device=self.device)

    def splits(self) -> Splits:
        """Return the splits, loaded once."""
        self._loaded = self.task.splits()  # a reference, without which the task would load them again
        return self._loaded

    def samples(self) -> list[SplitSample]:
        """Return random examples of each split, read once."""
        if self._sampled is None:
            self._sampled = sample_splits(self.task.objective, self.splits())
        return self._sampled

    def batch_size(self) -> int:
        """Return the batch size of the recipe or the loader; smaller on a CPU or with few data, and even, for mixup."""
        examples, size = self.splits().train, math.ceil(self.task.step_examples)
        if isinstance(examples, DataLoader) and examples.batch_sampler is None:  # its items are batches themselves
            size = self.task.recipe.batch_size
        most = min(size, LARGEST_CPU_BATCH) if self.device.type == "cpu" else size
        n = n_examples(examples)
        if n < STEPS_TRAINED:
            raise TaskError(f"the training split has {n} example; {STEPS_TRAINED} steps need as many")
        size = min(most, n // STEPS_TRAINED)
        return size - size % 2 if size > 2 else size

    def first_batch(self) -> tuple[Inputs, Tensor]:
        """Return the first training batch that has a target which counts."""
        refuse_splits_without_targets(self.task, self.splits())
        _, inputs, targets = self._first_that_counts(self.splits().train)
        return map_tensors(inputs, lambda tensor: tensor.to(self.device)), targets.to(self.device)

    def _first_that_counts(self, examples: Examples) -> tuple[int, Inputs, Tensor]:
        """Return the number of the split's first batch that has a target which counts, and the batch."""
        for number, (inputs, targets) in enumerate(leading_batches(examples, self.batch_size())):
            if self.task.objective.counted(targets).any():
                return number, inputs, targets
        raise TaskError("no target counts")
