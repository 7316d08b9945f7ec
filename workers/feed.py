"""What a network is fed in a training step: the batch augmented, mixed, and in the recipe's memory format.

The health gate takes the first step's batch from here, and so sees exactly what the training would begin with.
Augmentation and mixing draw from a generator on the CPU that is set from seed, epoch and rank; processes that train
together therefore augment their shares differently from one process that trains alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn

from aquasurf_ray.tasks import Splits, Task
from workers.batches import WHOLE, Share, batch_source
from workers.mixing import BatchMixing
from workers.precision import Arithmetic
from workers.seeding import seeded, stream_seed


class Step(NamedTuple):
    """What one step trains on.

    `targets` are what the loss sees, `labels` what they were before mixing. They count for `n` of the step's
    `n_together` examples.
    """

    inputs: Tensor
    targets: Tensor
    labels: Tensor
    n: float
    n_together: int


class TrainingFeed:
    """The steps of each epoch of one training."""

    def __init__(
        self,
        task: Task,
        splits: Splits,
        arithmetic: Arithmetic,
        device: torch.device,
        *,
        seed: int,
        loader_workers: int = 0,
        share: Share = WHOLE,
    ) -> None:
        self._task, self._arithmetic, self._device = task, arithmetic, device
        self._seed, self._share = seed, share
        self._source = batch_source(
            splits.train, task.recipe.batch_size, device, loader_workers=loader_workers, share=share
        )
        self._mixing: BatchMixing | None = None
        self.n_steps = self._source.n_batches

    def epoch_seed(self, epoch: int) -> int:
        """What torch's global generator is set to for an epoch: it draws the dropout masks, here and on other ranks."""
        if self._share.index == 0:
            return self._seed * 1_000_003 + epoch
        return stream_seed(self._seed, epoch, self._share.index, "masks")  # torch's CPU generator reads 32 bits only

    def epoch(self, epoch: int, order: torch.Generator, network: nn.Module) -> Iterator[Step]:
        """The steps of an epoch, the order drawn from `order`. The network is asked once for its number of classes, if
        labels are mixed.

        Raises:
            TaskError: mixing, and no images with class labels.
        """
        draws = torch.Generator().manual_seed(stream_seed(self._seed, epoch, self._share.index))
        augment = self._task.augment
        for inputs, labels, n, n_together in self._source.shuffled(order, stream_seed(self._seed, epoch)):
            if augment is not None:
                inputs = augment(inputs, draws)
            inputs, targets = self._mixed(inputs, labels, draws, network)
            yield Step(self._arithmetic.formatted(inputs), targets, labels, n, n_together)

    def _mixed(
        self, inputs: Tensor, labels: Tensor, draws: torch.Generator, network: nn.Module
    ) -> tuple[Tensor, Tensor]:
        recipe = self._task.recipe
        if recipe.mixup == 0 and recipe.cutmix == 0:
            return inputs, labels
        if self._mixing is None:
            self._mixing = BatchMixing(recipe, _n_outputs(network, inputs, self._device))
        return self._mixing(inputs, labels, draws)


@torch.no_grad()
def _n_outputs(network: nn.Module, inputs: Tensor, device: torch.device) -> int:
    """The width of the outputs; in evaluation mode, which leaves batch norm's statistics alone."""
    was_training = network.training
    with seeded(0, device):
        width: int = network.eval()(inputs[:1]).shape[-1]
    network.train(was_training)
    return width
