"""Explain a function: train it and the task's reference in this process, and inspect both networks."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from aquasurf_ray.activations import activation_of, fingerprint
from aquasurf_ray.analysis.report.charts.chart import Chart
from aquasurf_ray.analysis.report.pictures.explained import explained
from aquasurf_ray.analysis.studies.explanation import Explanation, explain, in_words
from aquasurf_ray.baselines import REFERENCE
from aquasurf_ray.cpu_threads import WORKER_THREADS, torch_threads
from aquasurf_ray.driver.candidates import function_row
from aquasurf_ray.driver.errors import BadUse, RunFailed
from aquasurf_ray.driver.operator_origin import origins_told
from aquasurf_ray.driver.own_activation import with_reference
from aquasurf_ray.tasks import Splits, Task, TaskError, load_task
from aquasurf_ray.workers.inspection import Inspection, inspect_training
from aquasurf_ray.workers.result import Epoch
from aquasurf_ray.workers.training import FunctionFault, is_function_fault, reason_of

EpochCallback = Callable[[str, int, float], None]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Explained:
    """An explanation as numbers, words and a picture, and the value of the task's metric that the function reached."""

    explanation: Explanation
    words: str
    chart: Chart
    metric: str
    value: float


def explain_function(function: str, task: str, *, seed: int = 0, on_epoch: EpochCallback | None = None) -> Explained:
    """Train the function and the task's reference, and explain how the network uses the function. On a CPU, PyTorch has
    the threads of a worker meanwhile.

    The reference itself is compared with ReLU, since relative to itself it would say nothing.

    Args:
        function: an expression, or one for each role of the task's network.
        task: a task by name, or package.module:function.
        seed: the random seed of both trainings.
        on_epoch: called after each epoch with the function, the number of the epoch, and its seconds.

    Raises:
        BadUse: there is no such task, or the function is not an expression, or it is for other roles.
        RunFailed: the function cannot be trained on the task.
    """
    try:
        loaded = load_task(task, import_from=Path.cwd())
        splits = loaded.splits()  # held, so that the digest and both trainings load them once
        _ = loaded.digest
        loaded = with_reference(loaded)
        with origins_told([function], None):
            name = function_row(function, loaded.roles).name
        with torch_threads(WORKER_THREADS):
            found = _inspected(loaded, name, splits, seed, on_epoch)
            other = _compared_with(loaded, name)
            reference = found if name == other else _reference(loaded, other, splits, seed, on_epoch)
    except TaskError as error:
        raise BadUse(str(error)) from error
    role_of = {place: role for role, places in loaded.places.items() for place in places}
    explanation = explain(found, reference, role_of)
    words = in_words(explanation)
    metric = loaded.objective.metric
    assert found.metrics.score is not None  # noqa: S101 - a training that ended without an error has a score
    value = metric.score(found.metrics.score)
    return Explained(explanation, words, explained(found, words, role_of), metric.name, value)


def _compared_with(task: Task, name: str) -> str:
    """Return the function that gradients are relative to: the reference, and of the reference itself ReLU."""
    reference = task.reference or REFERENCE
    return REFERENCE if fingerprint(name) == fingerprint(reference) else reference


def _reference(task: Task, name: str, splits: Splits, seed: int, on_epoch: EpochCallback | None) -> Inspection | None:
    """Return the other function's training; None if it fails, since only the comparison of gradients needs it."""
    try:
        return _inspected(task, name, splits, seed, on_epoch)
    except RunFailed as error:
        logger.warning("gradients are not compared: %s", error)
        return None


def _inspected(task: Task, name: str, splits: Splits, seed: int, on_epoch: EpochCallback | None) -> Inspection:
    def report(epoch: Epoch) -> None:
        if on_epoch is not None:
            on_epoch(name, epoch.epoch, epoch.seconds)

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        return inspect_training(task, activation_of(name), splits=splits, seed=seed, device=device, on_epoch=report)
    except TaskError:
        raise
    except Exception as error:  # the user's operators may raise anything
        if not is_function_fault(error) and not isinstance(error, FunctionFault):
            raise
        raise RunFailed(f"{name} cannot be trained on task '{task.name}': {reason_of(error)}") from error
