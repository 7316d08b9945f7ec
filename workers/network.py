"""The untrained network of a task with a given function, and the batch that its spectrum is taken on.

Both depend on nothing but task, function and seed, so the spectrum describes exactly the network that a training with
the same seed starts from. torch's global generator is seeded inside and left as it was found.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from aquasurf_ray.activations import form_factory
from aquasurf_ray.tasks import Splits, Task, TaskError
from aquasurf_ray.tasks.task import ActivationFactory


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
    inputs, targets = zip(*(examples[i] for i in chosen), strict=True)
    return torch.stack(inputs).to(device), torch.stack([torch.as_tensor(t) for t in targets]).to(device)


def try_network(task: Task, splits: Splits, *, device: torch.device) -> None:
    """Runs the network with relu on two training examples, and the objective on what comes out, so that a task's own
    mistakes are told before any function's.

    Raises:
        TaskError: the network, the loss or the metric raises, or the loss is no scalar.
        torch.OutOfMemoryError: the device is full.
    """
    network = untrained_network(task, form_factory("relu(x)", "recomputed"), seed=0, device=device)
    examples = splits.for_spectrum()
    inputs, targets = zip(*(examples[i] for i in range(min(2, len(examples)))), strict=True)  # type: ignore[arg-type]
    with _refusing(task, "network"):
        outputs = network(torch.stack(inputs).to(device))
    with _refusing(task, "objective"):
        labels = torch.stack([torch.as_tensor(t) for t in targets]).to(device)
        loss = task.objective.loss(outputs, labels)
        if loss.dim() > 0:
            raise ValueError(f"the loss must be a scalar, got shape {tuple(loss.shape)}")
        metric = task.objective.metric.begin(device)
        metric.update(outputs.detach(), labels)
        float(metric.compute())
    with _refusing(task, "backward pass"):  # recomputed forms need their input as it was, and not changed in place
        torch.autograd.backward(loss)


@contextmanager
def _refusing(task: Task, what: str) -> Iterator[None]:
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # the user's own code: whatever it raises is a reason to refuse the task
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise TaskError(f"{what} of task '{task.name}' fails on the task's own examples: {reason}") from error
