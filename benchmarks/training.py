"""Seconds an epoch of the training engine, compared with a hand-written loop for the same recipe.

Claim: the engine is not slower. Both train the same network on the same tensors with SGD under a one-cycle learning
rate, sum loss and accuracy without waiting for the device, and validate after each epoch; the hand-written loop does
nothing else. Epochs of the two alternate, so that the machine's load affects both alike, and medians are compared. Both
end with the same validation loss.

    python benchmarks/training.py [--threads 1] [--device cpu] [--epochs 24] > training.json

Cases: `digits` (899 images, 15 steps of a small network, which show the cost of the loop itself), and `resnet56`
(four batches of 32 random 32x32 images).
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from collections.abc import Iterator
from dataclasses import replace
from statistics import median

import torch
from torch import nn
from torch.nn import functional
from torch.utils.data import TensorDataset

from aquasurf_ray.activations import Activation
from aquasurf_ray.baselines import REFERENCE
from aquasurf_ray.tasks import Recipe, Splits, Task, load_task
from aquasurf_ray.tasks.networks.resnet56 import resnet56
from aquasurf_ray.workers.engine.feed import TrainingFeed
from aquasurf_ray.workers.engine.form import named_form
from aquasurf_ray.workers.engine.loop import TrainingLoop
from aquasurf_ray.workers.engine.ranks import Alone

RELU = Activation(REFERENCE)


def random_images() -> Splits:
    """Return the data for four steps of ResNet-56, and one batch to validate."""
    generator = torch.Generator().manual_seed(0)

    def examples(n: int) -> TensorDataset:
        return TensorDataset(
            torch.randn(n, 3, 32, 32, generator=generator), torch.randint(10, (n,), generator=generator)
        )

    return Splits(examples(128), examples(32), examples(32))


def tasks(epochs: int) -> dict[str, Task]:
    """Return the cases by name."""
    digits = load_task("digits")
    return {
        "digits": replace(digits, recipe=replace(digits.recipe, epochs=epochs)),
        "resnet56": Task("resnet56", resnet56, random_images, Recipe(epochs=max(4, epochs // 6), batch_size=32)),
    }


def engine(task: Task, device: torch.device) -> Iterator[float]:
    """Yield the validation loss after each epoch of the engine."""
    loop = TrainingLoop(TrainingFeed(task, task.splits(), device, seed=0), named_form(RELU), Alone())
    for number in range(1, task.recipe.epochs + 1):
        yield loop.one_epoch(number, loop.network).val_loss


def by_hand(task: Task, device: torch.device) -> Iterator[float]:
    """Yield the validation loss after each epoch of the hand-written loop."""
    splits, recipe = task.splits(), task.recipe
    torch.manual_seed(0)
    network = task.network(lambda: Activation(REFERENCE)).to(device)
    (x, y), (u, v) = ([t.to(device) for t in split.tensors] for split in (splits.train, splits.validation))
    optimizer = torch.optim.SGD(
        network.parameters(), recipe.learning_rate, recipe.momentum, 0.0, recipe.weight_decay, nesterov=True
    )
    steps = -(-len(x) // recipe.batch_size)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, recipe.learning_rate, steps * recipe.epochs + 1, pct_start=0.25, cycle_momentum=False
    )
    order = torch.Generator().manual_seed(0)
    for _ in range(recipe.epochs):
        network.train()
        total, hits = torch.zeros((), device=device), torch.zeros((), device=device)
        for chosen in torch.randperm(len(x), generator=order).to(device).split(recipe.batch_size):
            outputs = network(x[chosen])
            loss = functional.cross_entropy(outputs, y[chosen])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.detach() * len(chosen)
            hits += (outputs.argmax(1) == y[chosen]).sum()
        _ = total.item() / len(x), hits.item() / len(x)
        yield validated(network, u, v, 4 * recipe.batch_size)


@torch.no_grad()
def validated(network: nn.Module, inputs: torch.Tensor, labels: torch.Tensor, batch_size: int) -> float:
    """Return the validation loss, in batches as large as the engine's."""
    network.eval()
    total, hits = 0.0, 0
    for u, v in zip(inputs.split(batch_size), labels.split(batch_size), strict=True):
        outputs = network(u)
        total += functional.cross_entropy(outputs, v, reduction="sum").item()
        hits += int((outputs.argmax(1) == v).sum())
    return total / len(inputs)


def measure(name: str, task: Task, device: torch.device) -> dict[str, object]:
    """Alternate epochs of both, each first in every other turn, and compare them."""
    clock = time.perf_counter if device.type == "cuda" else time.process_time
    loops = {"engine": engine(task, device), "by_hand": by_hand(task, device)}
    seconds: dict[str, list[float]] = {way: [] for way in loops}
    losses: dict[str, float] = {}
    for number in range(task.recipe.epochs):
        for way in sorted(loops, reverse=number % 2 == 0):
            start = clock()
            losses[way] = next(loops[way])
            seconds[way].append(clock() - start)
    ours, theirs = seconds["engine"][1:], seconds["by_hand"][1:]  # the first epoch warms up
    return {
        "case": name,
        "epochs": task.recipe.epochs,
        "engine_seconds": round(median(ours), 4),
        "by_hand_seconds": round(median(theirs), 4),
        "ratio_of_medians": round(median(ours) / median(theirs), 3),
        "ratio_of_fastest": round(min(ours) / min(theirs), 3),
        "same_validation_loss": losses["engine"] == losses["by_hand"],
    }


def main() -> None:
    """Run both cases in this process."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--epochs", type=int, default=24)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    device = torch.device(options.device)
    load = os.getloadavg()[0]
    cases = [measure(name, task, device) for name, task in tasks(options.epochs).items()]
    machine = {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "threads": options.threads,
        "cores": os.cpu_count(),
        "load_before": round(load, 2),
        "python": platform.python_version(),
        "torch": torch.__version__,
    }
    print(json.dumps({**machine, "cases": cases}, indent=2))


if __name__ == "__main__":
    main()
