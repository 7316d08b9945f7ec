"""Loss and score of a network on a whole split, in evaluation mode."""

from __future__ import annotations

import torch
from torch import nn

from aquasurf_ray.tasks import Objective
from aquasurf_ray.workers.engine.batches import BatchSource
from aquasurf_ray.workers.engine.precision import Arithmetic
from aquasurf_ray.workers.engine.seeding import seeded

LARGEST_BATCH = 1024


def evaluation_batch_size(batch_size: int) -> int:
    """Four training batches, up to 1024 examples: without gradients, that takes less memory than one training step."""
    return max(batch_size, min(4 * batch_size, LARGEST_BATCH))


@torch.no_grad()
def evaluate(
    network: nn.Module, source: BatchSource, objective: Objective, arithmetic: Arithmetic, device: torch.device
) -> tuple[float, float]:
    """Mean loss, and the metric's score, which is higher where the network is better.

    The loss is NaN where the network overflowed: a batch's loss is not finite, and neither are its outputs. It is
    infinite where finite outputs lie too far from the targets for float32, which is a bad prediction and no fault;
    -inf for classes that a network rules out is no fault either, as long as no example is of such a class.
    """
    network.eval()
    metric = objective.metric.begin(device)
    total = torch.zeros((), device=device, dtype=torch.float64)
    n_examples = 0.0
    with seeded(0, device):
        for inputs, targets, n, _ in source.in_order():
            outputs = arithmetic.forward(network, arithmetic.formatted(inputs))
            loss = objective.loss(outputs, targets)
            sound = loss.isfinite() | outputs.isfinite().all()
            total += torch.where(sound, loss, torch.nan) * n
            metric.update(outputs, targets)
            n_examples += n
    return total.item() / n_examples, objective.metric.score(float(metric.compute()))
