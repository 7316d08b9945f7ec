"""What a network is fed in a training step: the batch augmented, mixed, and in the recipe's memory format.

There is one feed for all that belongs to a training. The health gate, the choice of a form and the price take the first
step from it, and so see exactly what the training would begin with.
Augmentation and mixing draw from a generator on the CPU that is set from seed, epoch and rank; processes that train
together therefore augment their shares differently from one process that trains alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn

from aquasurf_ray.tasks import Splits, Task
from aquasurf_ray.workers.engine.batches import WHOLE, Batch, Share, batch_source
from aquasurf_ray.workers.engine.mixing import BatchMixing
from aquasurf_ray.workers.engine.precision import Arithmetic
from aquasurf_ray.workers.engine.seeding import seeded, stream_seed


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
    """The steps of each epoch of one training, and what they follow from: task, splits, seed, device, arithmetic."""

    def __init__(
        self,
        task: Task,
        splits: Splits,
        device: torch.device,
        *,
        seed: int,
        loader_workers: int = 0,
        share: Share = WHOLE,
    ) -> None:
        self.task, self.splits, self.device, self.seed = task, splits, device, seed
        self.loader_workers = loader_workers
        self.arithmetic = Arithmetic(task.recipe, device)
        self._share = share
        self._source = batch_source(
            splits.train, task.recipe.batch_size, device, loader_workers=loader_workers, share=share
        )
        self._mixing: BatchMixing | None = None
        self.n_steps = self._source.n_batches

    def epoch_seed(self, epoch: int) -> int:
        """What torch's global generator is set to for an epoch: it draws the dropout masks, here and on other ranks."""
        if self._share.index == 0:
            return self.seed * 1_000_003 + epoch
        return stream_seed(self.seed, epoch, self._share.index, "masks")  # torch's CPU generator reads 32 bits only

    def epoch(self, epoch: int, order: torch.Generator, network: nn.Module) -> Iterator[Step]:
        """The steps of an epoch, the order drawn from `order`. The network is asked once for its number of classes, if
        labels are mixed.

        Raises:
            TaskError: mixing, and no images with class labels.
        """
        draws = self._draws(epoch)
        for batch in self._source.shuffled(order, stream_seed(self.seed, epoch)):
            yield self._step(batch, draws, network)

    def first_step(self, network: nn.Module) -> Step:
        """The step that a training with `network` begins with; see `epoch`."""
        order = torch.Generator().manual_seed(self.seed)
        return self._step(self._source.first(order, stream_seed(self.seed, 1)), self._draws(1), network)

    def _draws(self, epoch: int) -> torch.Generator:
        return torch.Generator().manual_seed(stream_seed(self.seed, epoch, self._share.index))

    def _step(self, batch: Batch, draws: torch.Generator, network: nn.Module) -> Step:
        inputs, labels, n, n_together = batch
        if self.task.augment is not None:
            inputs = self.task.augment(inputs, draws)
        inputs, targets = self._mixed(inputs, labels, draws, network)
        return Step(self.arithmetic.formatted(inputs), targets, labels, n, n_together)

    def _mixed(
        self, inputs: Tensor, labels: Tensor, draws: torch.Generator, network: nn.Module
    ) -> tuple[Tensor, Tensor]:
        recipe = self.task.recipe
        if recipe.mixup == 0 and recipe.cutmix == 0:
            return inputs, labels
        if self._mixing is None:
            self._mixing = BatchMixing(recipe, _n_outputs(network, inputs, self.device))
        return self._mixing(inputs, labels, draws)


@torch.no_grad()
def _n_outputs(network: nn.Module, inputs: Tensor, device: torch.device) -> int:
    """The width of the outputs; in evaluation mode, which leaves batch norm's statistics alone."""
    was_training = network.training
    with seeded(0, device):
        width: int = network.eval()(inputs[:1]).shape[-1]
    network.train(was_training)
    return width
