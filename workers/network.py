"""The untrained network of a task with a given function, and the batch that its spectrum is taken on.

Both depend on nothing but task, function and seed, so the spectrum describes exactly the network that a training with
the same seed starts from. torch's global generator is seeded inside and left as it was found.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import nn
from torch.utils.data import DataLoader, default_collate

from aquasurf_ray.activations import form_factory
from aquasurf_ray.baselines import REFERENCE
from aquasurf_ray.tasks import Splits, Task, TaskError
from aquasurf_ray.tasks.task import ActivationFactory, ExampleSet
from aquasurf_ray.workers.engine.batches import has_batch_of_one
from aquasurf_ray.workers.engine.optimisation import make_optimizer


def untrained_network(task: Task, activation: ActivationFactory, *, seed: int, device: torch.device) -> nn.Module:
    """The network in training mode on `device`, its weights drawn on the CPU from `seed` so that all devices agree."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        network = task.network(activation)
    return network.to(device).train()


def spectrum_batch(task: Task, splits: Splits, *, seed: int, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """`task.spectrum_batch_size` training inputs (n, ...) and targets (n, ...), drawn without replacement."""
    examples = splits.for_spectrum()
    n_train = len(examples)  # type: ignore[arg-type]
    generator = torch.Generator().manual_seed(seed)
    chosen = torch.randperm(n_train, generator=generator)[: task.spectrum_batch_size].tolist()
    return _collated(task, examples, chosen, device)


def refuse_splits_without_batches(task: Task, splits: Splits) -> None:
    """A `DataLoader` that drops its last batch may have none left.

    Raises:
        TaskError: one of the three has none.
    """
    for name in ("train", "validation", "test"):
        examples = getattr(splits, name)
        if isinstance(examples, DataLoader) and len(examples) == 0:
            raise TaskError(
                f"{name} split of task '{task.name}' gives no batch: its DataLoader drops the last one, and has "
                f"{len(examples.dataset)} examples for batches of {examples.batch_size}"  # type: ignore[arg-type]
            )


def _collated(
    task: Task, examples: ExampleSet, indices: Iterable[int], device: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
    """Examples by number as a batch on the device, put together as a `DataLoader` does it."""
    items = [examples[i] for i in indices]
    odd = next((item for item in items if not isinstance(item, tuple | list) or len(item) != 2), None)
    if odd is not None:
        got = f"{len(odd)} parts" if isinstance(odd, tuple | list) else type(odd).__name__
        raise TaskError(f"items of the training split of task '{task.name}' must be (input, target) pairs, got {got}")
    inputs, targets = default_collate(items)
    return inputs.to(device), targets.to(device)


def try_network(task: Task, splits: Splits, *, device: torch.device) -> None:
    """Tries what belongs to the task and not to any function, so that its own mistakes are told first: the network with
    relu on two training examples, the objective on what comes out, the optimiser, and whether each split has batches.

    Raises:
        TaskError: one of them raises, the loss is no scalar, a split has no batch, or a batch of one is refused.
        torch.OutOfMemoryError: the device is full.
    """
    refuse_splits_without_batches(task, splits)
    network = _relu_network(task, device)
    examples = splits.for_spectrum()
    inputs, labels = _collated(task, examples, range(min(2, len(examples))), device)  # type: ignore[arg-type]
    with _refusing(task, "optimizer"):
        make_optimizer(network, task.recipe)
    with _refusing(task, "network"):
        outputs = network(inputs)
    with _refusing(task, "objective"):
        loss = task.objective.loss(outputs, labels)
        if loss.dim() > 0:
            raise ValueError(f"the loss must be a scalar, got shape {tuple(loss.shape)}")
        metric = task.objective.metric.begin(device)
        metric.update(outputs.detach(), labels)
        float(metric.compute())
    with _refusing(task, "backward pass"):  # recomputed forms need their input as it was, and not changed in place
        torch.autograd.backward(loss)
    refuse_batch_of_one(task, splits, device=device)


def refuse_batch_of_one(task: Task, splits: Splits, *, device: torch.device) -> None:
    """Tries the network on one example where a training epoch has such a batch, which batch norm does not take.

    Raises:
        TaskError: it raises.
    """
    if not has_batch_of_one(splits.train, task.recipe.batch_size):
        return
    inputs, _ = _collated(task, splits.for_spectrum(), [0], device)
    with _refusing(task, "network", "a training batch of one example (change batch_size, or drop_last=True)"):
        _relu_network(task, device)(inputs)


def _relu_network(task: Task, device: torch.device) -> nn.Module:
    return untrained_network(task, form_factory(REFERENCE, "recomputed"), seed=0, device=device)


@contextmanager
def _refusing(task: Task, what: str, on: str = "the task's own examples") -> Iterator[None]:
    try:
        yield
    except (torch.OutOfMemoryError, TaskError):
        raise
    except (Exception, SystemExit) as error:  # the user's own code: whatever it raises is a reason to refuse the task
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise TaskError(f"{what} of task '{task.name}' fails on {on}: {reason}") from error
