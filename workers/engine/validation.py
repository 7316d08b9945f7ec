"""Loss and score of a network on a whole split, in evaluation mode."""

from __future__ import annotations

import torch
from torch import nn

from aquasurf_ray.tasks import Objective, TaskError
from aquasurf_ray.tasks.losses import scalar_loss
from aquasurf_ray.workers.engine.batches import BatchSource
from aquasurf_ray.workers.engine.precision import Arithmetic
from aquasurf_ray.workers.engine.seeding import seeded

LARGEST_BATCH = 1024


def evaluation_batch_size(batch_size: int) -> int:
    """Return four training batches, up to 1024 examples: without gradients, they need less memory than one step."""
    return max(batch_size, min(4 * batch_size, LARGEST_BATCH))


@torch.no_grad()
def evaluate(
    network: nn.Module, source: BatchSource, objective: Objective, arithmetic: Arithmetic, device: torch.device
) -> tuple[float, float]:
    """Return the mean loss over the targets that count, and the metric's score, which is higher where the network is
    better.

    The loss is NaN where the network overflowed: a batch's loss is not finite, and neither are its outputs. It is
    infinite where finite outputs lie too far from the targets for float32, which is a bad prediction, not a fault.
    Logits of minus infinity for classes that a network rules out are not a fault either, as long as no example has such
    a class.

    Raises:
        TaskError: no target counts.
    """
    network.eval()
    metric = objective.begin_metric(device)
    total = torch.zeros((), device=device, dtype=torch.float64)
    counted = 0.0
    # A network may draw random numbers in evaluation mode too: its score must not depend on when it is measured.
    with seeded(0, device):
        for batch in source.in_order():
            if batch.n == 0:
                continue
            outputs = arithmetic.forward(network, arithmetic.formatted(batch.inputs))
            loss = scalar_loss(objective.loss(outputs, batch.targets), objective.loss)
            loss = torch.where(loss.isfinite() | outputs.isfinite().all(), loss, torch.nan)
            total += loss if objective.sums else loss * batch.n
            metric.update(outputs, batch.targets)
            counted += batch.n
    if counted == 0:
        raise TaskError("no target of the split that is evaluated counts")
    value = objective.metric.number(metric.compute())
    return total.item() / counted, objective.metric.score(value)
