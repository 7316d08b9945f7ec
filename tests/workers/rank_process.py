"""One process of a training on several: joins a gloo group, trains a few digits, and writes what it got.

Run as `rank_process.py RANK WORLD_SIZE FOLDER`; the processes meet through a file in the folder. What a case gives, a
result or an error, is pickled to `CASE-RANK.pkl` with the seconds that it took.
"""

from __future__ import annotations

import os
import pickle
import sys
import time
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.utils.data import TensorDataset

import workers.ranks
from aquasurf_ray.activations import Activation, register_unary
from aquasurf_ray.tasks import Splits, Task, load_task
from workers.checkpoints import CheckpointFolder
from workers.health import HealthLimits
from workers.ranks import RankError, Ranks
from workers.result import Epoch, TrainingResult
from workers.stopping import StopRule, TrainingDrained
from workers.training import train

CPU = torch.device("cpu")
SWISH = Activation("swish(x)")


def some_digits() -> Splits:
    """133 examples to train on: with batches of 64, the last one has 5, three for one process and two for the other."""
    splits = load_task("digits").splits()
    return Splits(TensorDataset(*splits.train[:133]), splits.validation, splits.test)


def digits(**recipe: Any) -> Task:
    """Two epochs of a few digits."""
    task = load_task("digits")
    return replace(task, data=some_digits, recipe=replace(task.recipe, **{"epochs": 2, **recipe}), time_limit=60.0)


def normed(activation: Any) -> nn.Module:
    """A network with batch norm."""
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.BatchNorm1d(16), activation(), nn.Linear(16, 10))


class Trouble(nn.Module):
    """Fails on rank 1 in the third step: forward or backward, or by dying."""

    def __init__(self, activation, kind: str) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(64, 16), activation(), nn.Linear(16, 10))
        self.kind, self.calls = kind, 0

    def forward(self, x):
        """Counts training steps."""
        self.calls += self.training
        out = self.layers(x)
        if self.calls == 3 and dist.get_rank() == 1:
            if self.kind == "forward":
                raise MemoryError("no memory left")
            if self.kind == "backward":
                out.register_hook(lambda _: (_ for _ in ()).throw(MemoryError("no memory left")))
            if self.kind == "death":
                os._exit(1)
        return out


def third_batch_on_rank_1(x):
    """An operator of one's own that fails on one rank only."""
    third_batch_on_rank_1.calls += x.dim() == 2
    if dist.is_initialized() and third_batch_on_rank_1.calls == 3 and dist.get_rank() == 1:
        raise KeyError("third")
    return x.sin()


third_batch_on_rank_1.calls = 0


def trouble(kind: str) -> Task:
    """Digits with a network that fails on rank 1."""
    return replace(digits(), network=lambda activation: Trouble(activation, kind))


def interrupted(epoch: Epoch) -> None:
    """A progress callback that ends a training in its second epoch, after the first was written."""
    if epoch.epoch == 2:
        raise MemoryError("no memory left")


def everything(ranks: Ranks | None, folder: Path) -> TrainingResult:
    """A recipe with as much in it as one process and two can have in common."""
    recipe = {"clip_norm": 0.5, "ema_decay": 0.9, "label_smoothing": 0.1, "optimizer": "adamw", "learning_rate": 0.01}
    return train(digits(**recipe), SWISH, ranks=ranks, gate=HealthLimits())


def small_batches(ranks: Ranks | None, folder: Path) -> TrainingResult:
    """No batch has two examples for each of two processes."""
    return train(digits(batch_size=3, epochs=1), SWISH, ranks=ranks)


def batch_norm(ranks: Ranks | None, folder: Path) -> TrainingResult:
    """On a CPU, each process normalises over its own share."""
    return train(replace(digits(), network=normed), SWISH, ranks=ranks)


def stopped(ranks: Ranks | None, folder: Path) -> TrainingResult:
    """Ended early by rank 0's validation score."""
    return train(digits(), SWISH, ranks=ranks, stop_rule=StopRule(((1, 0.99),), "hopeless"))


def resumed(ranks: Ranks | None, folder: Path) -> TrainingResult:
    """Interrupted in the second epoch and begun again. `device` tells the epochs that were trained then."""
    checkpoints = CheckpointFolder(str(folder / "checkpoints"), {"seed": 0})
    with suppress(MemoryError, RankError):
        train(digits(), SWISH, ranks=ranks, checkpoints=checkpoints, checkpoint_interval=0.0, on_epoch=interrupted)
    seen: list[int] = []
    result = train(digits(), SWISH, ranks=ranks, checkpoints=checkpoints, on_epoch=lambda e: seen.append(e.epoch))
    return replace(result, device=str(seen))


def drained(ranks: Ranks | None, folder: Path) -> TrainingResult:
    """Asked to stop after the first epoch and begun again. `device` tells the epochs that were trained then."""
    checkpoints = CheckpointFolder(str(folder / "drained"), {"seed": 0})
    with suppress(TrainingDrained):
        train(digits(), SWISH, ranks=ranks, checkpoints=checkpoints, stop_asked=lambda: True)
        raise AssertionError("it did not stop")
    seen: list[int] = []
    result = train(digits(), SWISH, ranks=ranks, checkpoints=checkpoints, on_epoch=lambda e: seen.append(e.epoch))
    return replace(result, device=str(seen))


def function(ranks: Ranks | None, folder: Path) -> TrainingResult:
    """The function raises on one rank only."""
    register_unary("third_batch_on_rank_1", third_batch_on_rank_1)
    return train(trouble("none"), Activation("third_batch_on_rank_1(x)"), ranks=ranks)


def callback(ranks: Ranks | None, folder: Path) -> TrainingResult:
    """Rank 0 fails between two epochs."""
    return train(digits(epochs=3), SWISH, ranks=ranks, on_epoch=interrupted)


def forward(ranks: Ranks | None, folder: Path) -> TrainingResult:
    """Rank 1 fails while rank 0 waits for its gradients."""
    return train(trouble("forward"), SWISH, ranks=ranks)


def backward(ranks: Ranks | None, folder: Path) -> TrainingResult:
    """Rank 1 fails amid the exchange of gradients."""
    return train(trouble("backward"), SWISH, ranks=ranks)


def death(ranks: Ranks | None, folder: Path) -> TrainingResult:
    """Rank 1 is gone without a word."""
    return train(trouble("death"), SWISH, ranks=ranks)


def left_alone(ranks: Ranks | None, folder: Path) -> TrainingResult:
    """Rank 1 is gone before a training begins."""
    workers.ranks.STEP_TIMEOUT = timedelta(seconds=2)
    return train(digits(), SWISH, ranks=ranks)


CASES = {
    case.__name__: case
    for case in (
        everything,
        small_batches,
        batch_norm,
        stopped,
        resumed,
        drained,
        function,
        callback,
        forward,
        backward,
        death,
        left_alone,
    )
}


def main() -> None:
    """Runs all cases one after the other in one group, as the driver's groups do; rank 1 dies in the last but one."""
    rank, world_size, folder = int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=world_size, timeout=timedelta(seconds=60)
    )
    for name, case in CASES.items():
        started = time.monotonic()
        outcome: object
        try:
            outcome = case(Ranks(rank, world_size, CPU), folder)
        except Exception as error:  # whatever it is, the test looks at it
            outcome = error
        with (folder / f"{name}-{rank}.pkl").open("wb") as file:
            pickle.dump((outcome, time.monotonic() - started), file)
    os._exit(0)  # the group cannot be left in good order, with one of its processes gone


if __name__ == "__main__":
    main()
