"""How long a training takes to read its data: to load, transform, collate and augment its batches.

A step's cost is measured on a batch that has been read before, so the time of reading is the other part of a forecast,
and the larger one where images are decoded for each batch. The batches come from the sources that a training reads, a
bounded number of each split.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from contextlib import closing
from dataclasses import replace

import torch
from torch.utils.data import DataLoader

from aquasurf_ray.activations import Activation
from aquasurf_ray.baselines import REFERENCE
from aquasurf_ray.measured_cost import ReadingTime
from aquasurf_ray.tasks import Splits, Task
from aquasurf_ray.tasks.loaders import Examples, in_memory
from aquasurf_ray.workers.engine.batches import WHOLE, Share, batch_source
from aquasurf_ray.workers.engine.feed import TrainingFeed
from aquasurf_ray.workers.engine.seeding import seeded
from aquasurf_ray.workers.engine.validation import evaluation_batch_size
from aquasurf_ray.workers.network import untrained_network

SECONDS_PER_SPLIT = 1.0
MOST_BATCHES = 16
SMALL_BATCH = 16
"""Examples that are read one at a time take the same time in a batch of any size, so small batches bound the sample."""


def reading_time(
    task: Task, splits: Splits, device: torch.device, *, loader_workers: int = 0, share: Share = WHOLE
) -> ReadingTime:
    """Measure how long one training takes to read its data, on the first batches of each split that is not in memory,
    and of the training split in any case, because its augmentation takes time too.

    Args:
        loader_workers: data-loading processes, for data sets that do not fit in memory.
        share: this process's part of each training batch.

    Raises:
        TaskError, and whatever the data set raises.
    """
    size, lanes = _sampled_size(splits.train, task.recipe.batch_size), _lanes(splits.train, loader_workers)
    sampled = task.with_recipe(replace(task.recipe, batch_size=size))
    feed = TrainingFeed(sampled, splits, device, seed=0, loader_workers=loader_workers, share=share)
    network = untrained_network(task, lambda: Activation(REFERENCE), seed=0, device=device)
    with seeded(0, device):
        with closing(feed.epoch(1, torch.Generator().manual_seed(0), network)) as steps:
            of_training, of_batch = _pass_seconds(steps, feed.n_steps, lanes)
        of_validation, of_test = (
            _evaluation_seconds(task, examples, device, loader_workers) for examples in (splits.validation, splits.test)
        )
    return ReadingTime(
        batch_seconds=of_batch * max(1, lanes) * task.step_examples / sampled.step_examples,
        training_seconds=task.recipe.epochs * (of_training + of_validation) + of_test,
        overlaps=device.type == "cuda" or lanes > 0,
    )


def _evaluation_seconds(task: Task, examples: Examples, device: torch.device, loader_workers: int) -> float:
    if in_memory(examples) is not None:
        return 0.0
    size = _sampled_size(examples, evaluation_batch_size(task.recipe.batch_size))
    source = batch_source(examples, size, device, weigh=task.objective.weights, loader_workers=loader_workers)
    seconds, _ = _pass_seconds(source.in_order(), source.n_batches, _lanes(examples, loader_workers))
    return seconds


def _pass_seconds(batches: Iterable[object], n: int, lanes: int) -> tuple[float, float]:
    """Return how long a pass over `n` batches takes, and one of them, from the first few.

    The first batch is left out, because what happens once in a process happens in it, such as an import. Where `lanes`
    processes read, each pass starts them, so it counts; and batches then come `lanes` at a time, or nearly so.
    """
    started = time.monotonic()
    came = []
    for _ in batches:
        came.append(time.monotonic() - started)
        n_further = len(came) - 1
        is_round = n_further > 0 and n_further % max(1, lanes) == 0
        if is_round and (came[-1] > SECONDS_PER_SPLIT or n_further >= MOST_BATCHES):
            break
    first, last = came[0], came[-1]
    each = (last - first) / (len(came) - 1) if len(came) > 1 else first
    return (first + max(0, n - lanes) * each if lanes else n * each), each


def _sampled_size(examples: Examples, batch_size: int) -> int:
    """Return the size of the batches that are read for the measurement; a loader of the user's has its own."""
    return batch_size if in_memory(examples) is not None else min(batch_size, SMALL_BATCH)


def _lanes(examples: Examples, loader_workers: int) -> int:
    """Return how many processes read the batches of a split; 0 where the training's own does."""
    if isinstance(examples, DataLoader):
        return examples.num_workers
    return 0 if in_memory(examples) is not None else loader_workers
