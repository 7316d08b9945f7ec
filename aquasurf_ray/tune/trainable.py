"""A trainable of Tune's function API: one function trained on one task, each epoch reported with its checkpoint.

The reports have the metrics of `workers.result`, under their names: `epoch`, `epochs`, `score` (which a search
maximises), `train_loss`, `val_loss`, `val_score`, `val_accuracy`, ..., `status` (`running`; `done` or `diverged` with
the last epoch) and, with the last, `reason`, `test_loss`, `test_score`, `test_accuracy`, `training_seconds`, `device`,
`examples_per_second`, `peak_memory_mb`. Unknown values are left out. If the function diverges, its trial ends with
scores and losses of NaN, not with an error: divergence is a result from which a search learns. In a repeat of Tune's
`Repeater` they are infinite instead, because its mean leaves NaN out and would hide the divergence.
"""

from __future__ import annotations

import importlib
import math
import os
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from ray import tune
from ray.tune import Checkpoint
from ray.tune.search.repeater import TRIAL_INDEX
from torch import nn

from aquasurf_ray.activations import Activation, ActivationError
from aquasurf_ray.cpu_threads import CPUS_PER_WORKER, threads_of
from aquasurf_ray.driver.errors import BadUse
from aquasurf_ray.tasks import Task, load_task
from aquasurf_ray.tasks.data_sets import DATA_FOLDER
from aquasurf_ray.tune.checkpoints import ReportedCheckpoints
from aquasurf_ray.tune.study import RECIPE_FIELDS
from aquasurf_ray.workers.activation_use import refuse_unused_activation
from aquasurf_ray.workers.engine.fast_form import fast_form
from aquasurf_ray.workers.messages import added_to_path
from aquasurf_ray.workers.network import try_network
from aquasurf_ray.workers.own_activation import register_own_activation
from aquasurf_ray.workers.result import Epoch, TrainingResult
from aquasurf_ray.workers.training import train

OWN_KEYS = ("activation", "task", "seed", "modules", "data", "import_from", "fast_activations")
SCORES = ("score", "train_score", "train_accuracy", "val_score", "val_accuracy")
LOSSES = ("train_loss", "val_loss")


def train_activation(config: Mapping[str, Any]) -> None:
    """Train `config["activation"]` on `config["task"]`, from the checkpoint that Tune gives, if there is one.

    Args:
        config: `activation`, an expression; `task`, a `Task` or its name; optionally `seed`, any field of the task's
            recipe (`learning_rate`, `weight_decay`, `epochs`, `batch_size`, ...), `modules` to import first, the folder
            `data` of data sets, the folder `import_from` of your own task, or several, and `fast_activations`. The
            `__trial_index__` of a `Repeater` is added to the seed.

    Raises:
        BadUse: a key is missing or unknown.
        TaskError, MemoryError, ...: failures that are not the function's, for Tune to retry or to count as an error,
            such as a network whose outputs do not depend on its activations.
    """
    unknown = [key for key in config if key not in (*OWN_KEYS, *RECIPE_FIELDS, TRIAL_INDEX)]
    missing = [key for key in ("activation", "task") if key not in config]
    # A misspelt key would otherwise be tuned over without any effect.
    if unknown or missing:
        what = f"unknown key '{unknown[0]}'" if unknown else f"'{missing[0]}' is missing"
        raise BadUse(f"config of train_activation: {what}; the keys are {', '.join((*OWN_KEYS, *RECIPE_FIELDS))}")
    task = _task(config)
    torch.set_num_threads(threads_of(_cpus()))
    seed, activation = (
        int(config.get("seed", 0)) + int(config.get(TRIAL_INDEX, 0)),
        _activation(task, config["activation"]),
    )
    splits, device, given = task.splits(), _device(), tune.get_checkpoint()
    if given is None:  # a trial that is resumed was checked when it began
        refuse_unused_activation(task, splits, try_network(task, splits, device=device), device=device)
    reports = _Reports(task, repeated=TRIAL_INDEX in config)
    with tempfile.TemporaryDirectory() as folder:
        checkpoints = ReportedCheckpoints(folder, task, activation.name, seed, given, reports.epoch)
        result = train(
            task,
            activation,
            splits=splits,
            seed=seed,
            device=device,
            checkpoints=checkpoints,
            # Every epoch: Tune's schedulers may pause or clone a trial after any report.
            checkpoint_interval=0.0,
            on_epoch=reports.remember,
            choose_form=fast_form if config.get("fast_activations", True) else None,
        )
        reports.end(result, checkpoints.last)


class _Reports:
    """The reports to Tune, one per epoch; the last one also has the final metrics."""

    def __init__(self, task: Task, *, repeated: bool) -> None:
        self._epochs = task.recipe.epochs
        self._worst = math.inf if repeated else math.nan
        self._last: Epoch | None = None

    def remember(self, epoch: Epoch) -> None:
        """Remember the metrics of an epoch until its checkpoint is written."""
        self._last = epoch

    def epoch(self, checkpoint: Checkpoint) -> None:
        """Report the remembered epoch with its checkpoint."""
        assert self._last is not None  # noqa: S101 - `remember` is called before the checkpoint is written
        tune.report(self._metrics(self._last), checkpoint=checkpoint)

    def end(self, result: TrainingResult, checkpoint: Checkpoint | None) -> None:
        """Report the last epoch with the final metrics, or the reason why there is none."""
        epochs = self._metrics(result.epochs[-1]) if result.epochs else {"epoch": 0, "epochs": self._epochs}
        metrics = {key: value for key, value in asdict(result).items() if key != "epochs" and value not in (None, ())}
        # `seconds` is an epoch's in every other report, and Tune merges the names.
        metrics["training_seconds"] = metrics.pop("seconds")
        if result.status == "diverged":
            # All of them, or a scheduler that looks at another metric would rank a diverged trial by its last good
            # epoch.
            metrics |= dict.fromkeys(SCORES, -self._worst) | dict.fromkeys(LOSSES, self._worst)
        tune.report({**epochs, **metrics}, checkpoint=checkpoint)

    def _metrics(self, epoch: Epoch) -> dict[str, Any]:
        known = {key: value for key, value in asdict(epoch).items() if value is not None}
        return {**known, "epochs": self._epochs, "score": epoch.val_score, "status": "running"}


def _task(config: Mapping[str, Any]) -> Task:
    given = config.get("import_from") or ()
    added_to_path([str(given)] if isinstance(given, str | Path) else given)
    for module in config.get("modules", ()):
        importlib.import_module(module)
    if config.get("data") is not None:
        os.environ[DATA_FOLDER] = str(config["data"])
    wanted = config["task"]
    task = wanted if isinstance(wanted, Task) else load_task(wanted)
    return replace(task, recipe=replace(task.recipe, **{k: v for k, v in config.items() if k in RECIPE_FIELDS}))


def _activation(task: Task, name: str) -> Activation:
    try:
        return Activation(name)
    except ActivationError:  # perhaps the function of the user's own network, which has no operator here yet
        task.new_network(nn.Identity)
        register_own_activation(task)
        return Activation(name)


def _device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def _cpus() -> float:
    resources = tune.get_context().get_trial_resources().required_resources
    return float(resources.get("CPU", CPUS_PER_WORKER))
