"""Epoch checkpoints that Tune manages: written to a temporary folder and reported together with the epoch.

The file format is that of `workers.engine.checkpoints`. The identity of a checkpoint excludes the learning rate and the
weight decay, because Tune may give a trial's checkpoint to another trial of the function with other values (population
based training): the state is then converted to the new values.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import torch
from ray.tune import Checkpoint

from aquasurf_ray.tasks import Recipe, Task
from aquasurf_ray.workers.engine.checkpoints import CheckpointFolder

# The learning rates that PyTorch's schedules keep in a group of parameters.
RATES = ("lr", "initial_lr", "max_lr", "min_lr")
SETTINGS = "settings"


class ReportedCheckpoints(CheckpointFolder):
    """The checkpoints of one trial. The last epoch's stays in `last`, for the report that ends the trial.

    Args:
        folder: a temporary folder of this process for the files.
        given: the checkpoint from which Tune wants the trial to continue, if there is one.
        report: called with the checkpoint of an epoch, which is deleted afterwards.
    """

    after_last = True

    def __init__(
        self,
        folder: str,
        task: Task,
        function: str,
        seed: int,
        given: Checkpoint | None,
        report: Callable[[Checkpoint], None],
    ) -> None:
        plain = replace(task, recipe=replace(task.recipe, learning_rate=1.0, weight_decay=0.0))
        super().__init__(folder, {"task": plain.digest, "function": function, "seed": seed})
        self.last: Checkpoint | None = None
        self._written, self._given, self._report = Path(folder), given, report
        self._epochs, self._new = task.recipe.epochs, _settings(task.recipe)

    def save(self, epoch: int, state: Mapping[str, Any]) -> None:
        """Write the state after `epoch` and report it."""
        folder = self._written / str(epoch)
        CheckpointFolder(str(folder), self.identity).save(epoch, {**state, SETTINGS: self._new})
        checkpoint = cast(Checkpoint, Checkpoint.from_directory(folder))
        if epoch == self._epochs:
            self.last = checkpoint
        else:
            self._report(checkpoint)
            shutil.rmtree(folder)

    def load_latest(self, device: torch.device) -> tuple[int, dict[str, Any]] | None:
        """Return (epoch, state) of the checkpoint that Tune has given, or None if there is none of this training."""
        if self._given is None:
            return None
        with self._given.as_directory() as folder:
            found = CheckpointFolder(folder, self.identity).load_latest(device)
        if found is None:
            return None
        epoch, state = found
        return epoch, carried_over(state, self._new)


def carried_over(state: dict[str, Any], new: Mapping[str, float]) -> dict[str, Any]:
    """Return a training's state with the learning rate and the weight decay of another recipe.

    Every schedule is a share of the peak learning rate, so a new peak multiplies all rates.
    """
    old = state.pop(SETTINGS)
    if old == new:
        return state
    ratio = new["learning_rate"] / old["learning_rate"]
    for group in state["optimizer"]["param_groups"]:
        group.update({name: group[name] * ratio for name in RATES if name in group})
        if group.get("decays", group["weight_decay"] == old["weight_decay"]):  # SGD's only group does not say it
            group["weight_decay"] = new["weight_decay"]
    schedule = state["schedule"]
    schedule.update({name: [rate * ratio for rate in schedule[name]] for name in ("base_lrs", "_last_lr")})
    return state


def _settings(recipe: Recipe) -> dict[str, float]:
    return {"learning_rate": recipe.learning_rate, "weight_decay": recipe.weight_decay}
