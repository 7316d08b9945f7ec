"""The untrained network of a task with a given function, and the batch that its spectrum is taken on.

Both depend on nothing but task, function and seed, so the spectrum describes exactly the network that a training with
the same seed starts from. torch's global generator is seeded inside and left as it was found.
"""

from __future__ import annotations

import torch
from torch import nn

from aquasurf_ray.activations import Activation
from aquasurf_ray.tasks import Splits, Task, TaskError
from aquasurf_ray.tasks.task import ActivationFactory


def untrained_network(task: Task, activation: ActivationFactory, *, seed: int, device: torch.device) -> nn.Module:
    """The network in training mode on `device`, its weights drawn on the CPU from `seed` so that all devices agree."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
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
    """Runs the network with relu on two training examples, so that its own mistakes are told before any function's.

    Raises:
        TaskError: the network raises.
        torch.OutOfMemoryError: the device is full.
    """
    network = untrained_network(task, lambda: Activation("relu(x)"), seed=0, device=device)
    examples = splits.for_spectrum()
    inputs = [examples[i][0] for i in range(min(2, len(examples)))]  # type: ignore[arg-type]
    try:
        network(torch.stack(inputs).to(device))
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # the user's own code: whatever it raises is a reason to refuse the task
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise TaskError(f"network of task '{task.name}' fails on the task's own examples: {reason}") from error
