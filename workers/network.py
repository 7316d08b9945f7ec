"""The untrained network of a task with a given function, and the batch that its spectrum is taken on.

Both depend on nothing but task, function and seed, so the spectrum describes exactly the network that a training with
the same seed starts from. torch's global generator is seeded inside and left as it was found.
"""

from __future__ import annotations

import torch
from torch import nn

from aquasurf_ray.tasks import Splits, Task
from aquasurf_ray.tasks.task import ActivationFactory


def untrained_network(task: Task, activation: ActivationFactory, *, seed: int, device: torch.device) -> nn.Module:
    """The network in training mode on `device`, its weights drawn on the CPU from `seed` so that all devices agree."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = task.network(activation)
    return network.to(device).train()


def spectrum_batch(task: Task, splits: Splits, *, seed: int, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Inputs (n, ...) and targets (n,) of `task.spectrum_batch_size` training examples, drawn without replacement."""
    n_train = len(splits.train)  # type: ignore[arg-type]
    generator = torch.Generator().manual_seed(seed)
    chosen = torch.randperm(n_train, generator=generator)[: task.spectrum_batch_size].tolist()
    inputs, targets = zip(*(splits.train[i] for i in chosen), strict=True)
    return torch.stack(inputs).to(device), torch.stack([torch.as_tensor(t) for t in targets]).to(device)
