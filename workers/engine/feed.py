"""The feed of a training: for each step a batch, augmented, mixed, and in the recipe's memory format.

A training and everything around it share one feed. The health gate, the choice of a form and the cost measurement take
the first step from it, and so see exactly the batch that the training would begin with.
Augmentation and mixing draw from a generator on the CPU that is set from seed, epoch and rank; processes that train
together therefore augment their shares differently from one process that trains alone.
"""

from __future__ import annotations

from collections.abc import Generator
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn

from aquasurf_ray.tasks import Objective, Splits, Task
from aquasurf_ray.tasks.inputs import Inputs, call_network, part_of
from aquasurf_ray.tasks.outputs import output_of
from aquasurf_ray.workers.engine.batches import WHOLE, Batch, Share, Total, batch_source
from aquasurf_ray.workers.engine.mixing import BatchMixing
from aquasurf_ray.workers.engine.precision import Arithmetic
from aquasurf_ray.workers.engine.seeding import seeded, stream_seed


class Step(NamedTuple):
    """The batch that one step trains on.

    `targets` are the targets for the loss, `labels` the targets before mixing. Their weight is `n` of the step's
    `n_together`; `share` and `examples` are as in `Batch`.
    """

    inputs: Inputs
    targets: Tensor
    labels: Tensor
    n: float
    n_together: float
    share: float
    examples: int


class TrainingFeed:
    """The steps of each epoch of one training, and what determines them: task, splits, seed, device, arithmetic.

    Args:
        share: this process's part of each batch.
        total: sums a number over all processes that train together.
    """

    def __init__(
        self,
        task: Task,
        splits: Splits,
        device: torch.device,
        *,
        seed: int,
        loader_workers: int = 0,
        share: Share = WHOLE,
        total: Total | None = None,
    ) -> None:
        self.task, self.splits, self.device, self.seed = task, splits, device, seed
        self.loader_workers = loader_workers
        self.arithmetic = Arithmetic(task.recipe, device)
        self.objective = task.objective.on(device)
        self._share = share
        self._source = batch_source(
            splits.train,
            task.recipe.batch_size,
            device,
            weigh=partial(_counted_examples, objective=task.objective) if task.recipe.mixes else task.objective.weights,
            loader_workers=loader_workers,
            share=share,
            total=total,
        )
        self._mixing: BatchMixing | None = None
        self.n_steps = self._source.n_batches

    def epoch_seed(self, epoch: int) -> int:
        """Return the seed of torch's global generator for an epoch: it draws the dropout masks, each rank its own."""
        if self._share.index == 0:
            return self._first_epoch_seed(epoch)
        return stream_seed(self.seed, epoch, self._share.index, "masks")  # torch's CPU generator reads 32 bits only

    def epoch(self, epoch: int, order: torch.Generator, network: nn.Module) -> Generator[Step | None]:
        """Yield the steps of an epoch in an order drawn from `order`; None for a batch without any target that counts,
        on all processes alike. If labels are mixed, the network runs once to find its number of classes.

        Raises:
            TaskError: the recipe mixes, and the data are not images with class labels.
        """
        draws = self._draws(epoch)
        batches = self._source.shuffled(order, stream_seed(self.seed, epoch), epoch, self._first_epoch_seed(epoch))
        for batch in batches:
            yield self._step(batch, draws, network) if batch.n_together > 0 else None

    def first_step(self, network: nn.Module) -> Step:
        """Return the step that a training with `network` begins with; on several processes, this one's first step with
        targets that count. See `epoch`."""
        order = torch.Generator().manual_seed(self.seed)
        batch = self._source.first(order, stream_seed(self.seed, 1), self._first_epoch_seed(1))
        return self._step(batch, self._draws(1), network)

    def _first_epoch_seed(self, epoch: int) -> int:
        return self.seed * 1_000_003 + epoch  # no two seeds share a number within a million epochs

    def _draws(self, epoch: int) -> torch.Generator:
        return torch.Generator().manual_seed(stream_seed(self.seed, epoch, self._share.index))

    def _step(self, batch: Batch, draws: torch.Generator, network: nn.Module) -> Step:
        inputs, labels = batch.inputs, batch.targets
        if self.task.augment is not None:
            # Before mixing, as in the papers of mixup and cutmix: both mix augmented images.
            inputs = self.task.augment(inputs, draws)
        targets = labels
        if self.task.recipe.mixes and batch.n > 0:
            inputs, labels = _labelled(inputs, labels, self.task.objective, all_are=batch.n == len(labels))
            inputs, targets = self._mixed(inputs, labels, draws, network)
        counts = batch.n, batch.n_together, batch.share, batch.examples
        return Step(self.arithmetic.formatted(inputs), targets, labels, *counts)

    def _mixed(
        self, inputs: Inputs, labels: Tensor, draws: torch.Generator, network: nn.Module
    ) -> tuple[Tensor, Tensor]:
        # The number of classes is a fact of the network's outputs, which only a run tells; once is enough.
        if self._mixing is None:
            self._mixing = BatchMixing(self.task.recipe, _n_outputs(network, inputs, len(labels), self.device))
        return self._mixing(inputs, labels, draws)


def _counted_examples(targets: Tensor, objective: Objective) -> Tensor:
    """Return the weights of mixed examples: 1 each, whatever their classes weigh, and 0 without a label."""
    return _has_label(targets, objective).double().cpu()


def _labelled(inputs: Inputs, labels: Tensor, objective: Objective, *, all_are: bool) -> tuple[Inputs, Tensor]:
    """Return the examples that have a label; examples without one cannot be mixed."""
    if all_are:
        return inputs, labels
    chosen = _has_label(labels, objective).nonzero()[:, 0]
    return part_of(inputs, chosen, len(labels)), labels[chosen]


def _has_label(targets: Tensor, objective: Objective) -> Tensor:
    """Return which examples have a label, all of it: a mean of two labels of which one is padding is not a label."""
    counted = objective.counted(targets)
    return counted.flatten(1).all(1) if counted.dim() > 1 else counted


@torch.no_grad()
def _n_outputs(network: nn.Module, inputs: Inputs, n: int, device: torch.device) -> int:
    """Return the width of the outputs, found in evaluation mode, which does not change batch norm's statistics."""
    was_training = network.training
    with seeded(0, device):
        width: int = output_of(call_network(network.eval(), part_of(inputs, slice(0, 1), n))).shape[-1]
    network.train(was_training)
    return width
