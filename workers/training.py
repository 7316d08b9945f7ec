"""One training of one function on one task with one seed, from the untrained network to its test score.

`train` knows neither Ray nor a database. It returns numbers, writes epoch checkpoints when given a folder for them,
and separates two kinds of failures: the function's own fault (NaN, overflow, a wrong output type, an error raised
inside it) ends as a result with status `diverged`; everything else, memory exhaustion included, is raised, for the
caller to retry. Most faults of functions are found early: by `probe`, which runs the function alone, forward and
backward, and by `check_health`, which inspects the first training step.

    task, function --> probe --> feed --> health --> TrainingLoop: steps -> evaluation -> checkpoint --> TrainingResult

In float32 on a CPU, and on any device where the recipe is deterministic, equal arguments give equal bits, and a
training that was interrupted resumes exactly as if it had not been.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch

from aquasurf_ray.activations import Activation, FastForm, RoleActivations
from aquasurf_ray.tasks import Splits, Task
from aquasurf_ray.training_metrics import TrainingMetrics
from aquasurf_ray.workers.engine.checkpoints import CheckpointFolder
from aquasurf_ray.workers.engine.feed import TrainingFeed
from aquasurf_ray.workers.engine.form import FormChoice, chosen_form
from aquasurf_ray.workers.engine.health import REFUSED, HealthLimits, check_health, is_refusal
from aquasurf_ray.workers.engine.learning_record import LearningRecord
from aquasurf_ray.workers.engine.loop import ProgressCallback, Throughput, TrainingLoop
from aquasurf_ray.workers.engine.memory import PeakMemory
from aquasurf_ray.workers.engine.precision import process_settings, used_precision
from aquasurf_ray.workers.engine.probe import probe
from aquasurf_ray.workers.engine.ranks import Alone, RankError, Ranks, Together
from aquasurf_ray.workers.engine.stopping import StopAsked, StopRule, TrainingDrained
from aquasurf_ray.workers.faults import FunctionFault, is_function_fault, is_infrastructure_failure, reason_of
from aquasurf_ray.workers.result import Epoch, TrainingResult

__all__ = [
    "Epoch",
    "FunctionFault",
    "RankError",
    "TrainingDrained",
    "TrainingResult",
    "is_function_fault",
    "probe",
    "reason_of",
    "train",
]

CPU = torch.device("cpu")

logger = logging.getLogger(__name__)


def train(
    task: Task,
    activation: Activation | RoleActivations,
    *,
    splits: Splits | None = None,
    seed: int = 0,
    device: torch.device | str = "cpu",
    checkpoints: CheckpointFolder | None = None,
    checkpoint_interval: float = 30.0,
    on_epoch: ProgressCallback | None = None,
    stop_rule: StopRule | None = None,
    gate: HealthLimits | None = None,
    ranks: Ranks | None = None,
    loader_workers: int = 0,
    choose_form: FormChoice | None = None,
    stop_asked: StopAsked | None = None,
) -> TrainingResult:
    """Train the task's network with `activation` everywhere, or with one for each of its roles, and evaluate it.

    Args:
        splits: the task's data; by default `task.splits()`.
        seed: the seed of the initial weights, the data order, the augmentation and the dropout masks.
        device: the device to train on; with `ranks`, their device is used instead.
        checkpoints: where to write the state after an epoch, and to resume from if there is one. One that does
            not fit the network is left out, with a warning. With `ranks`, rank 0 alone reads and writes.
        checkpoint_interval: the least number of seconds between two checkpoints.
        on_epoch: called after each epoch, on rank 0.
        stop_rule: the rule to end early by; the result is then `done`, with `stopped_early` and all metrics, including
            the test metrics.
        gate: the limits of the health check (`workers.engine.health`). A function whose first training step exceeds
            them is `diverged`, untrained. None omits the check.
        ranks: this process's place among the processes that train together. All must call `train` with the same
            arguments. They get the same result, except for the peak memory, which is each process's own.
        loader_workers: data-loading processes, for data sets that do not fit in memory.
        choose_form: chooses a faster form of the function; None is the eager form.
        stop_asked: called on rank 0 after each epoch but the last; if it returns True, the training stops there, with a
            checkpoint. Without `checkpoints`, a training always runs to its end.

    Returns:
        `diverged` where the function is at fault: it fails by itself, a training loss is not finite, the gate refuses
        it, or in the end the validation loss is NaN or the validation score is not finite.

    Raises:
        torch.OutOfMemoryError, CheckpointError, TaskError, and whatever the data set raises: infrastructure failures.
        RankError: another process has met such a failure.
        TrainingDrained: it was asked to stop, on all ranks; called again, it resumes.
    """
    started = time.monotonic()
    device = ranks.device if ranks else torch.device(device)
    memory = PeakMemory(device)
    team = Together(ranks, timedelta(seconds=task.time_limit)) if ranks else Alone()
    history: list[Epoch] = []
    throughput = Throughput()
    record: LearningRecord | None = None
    metrics, reason = TrainingMetrics(), None
    try:
        with process_settings(task.recipe, device):
            probe(activation, device)
            splits = splits or task.splits()
            feed = TrainingFeed(
                task,
                splits,
                device,
                seed=seed,
                loader_workers=loader_workers,
                share=team.share,
                total=team.total_weight,
            )
            if gate is not None:
                check_health(feed, activation, limits=gate)
            loop = _Beginning(feed, activation, choose_form, team).loop(checkpoints)
            history, throughput, record = loop.history, loop.throughput, loop.learned
            memory = PeakMemory(device)  # begins here, so that the peak is the training's own, with or without the gate
            metrics = loop.to_the_end(checkpoints, checkpoint_interval, on_epoch, stop_rule, stop_asked)
    except TrainingDrained:
        raise
    except Exception as error:  # the user's function runs in here, and may raise anything
        cause = team.cause(error)
        if not is_function_fault(cause):
            if cause is error:
                raise
            raise cause from error
        reason = reason_of(cause)
        if is_refusal(reason):
            metrics = TrainingMetrics(stopped_early=REFUSED)
    finally:
        team.close()
    return TrainingResult(
        status="done" if reason is None else "diverged",
        reason=reason,
        **vars(metrics),
        epochs=tuple(history),
        seconds=sum(e.seconds for e in history) or time.monotonic() - started,
        examples_per_second=throughput.per_second(),
        peak_memory_mb=memory.megabytes(),
        device=torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        n_devices=team.size,
        precision=used_precision(task.recipe, device),
        learned=record.values() if record else (),
    )


@dataclass(frozen=True)
class _Beginning:
    """The beginning of a training: an untrained network, or its last checkpoint."""

    feed: TrainingFeed
    activation: Activation | RoleActivations
    choose_form: FormChoice | None
    team: Alone

    def loop(self, checkpoints: CheckpointFolder | None) -> TrainingLoop:
        """Return the loop, ready to train the epochs that are left."""
        # To the CPU, because the device may not have room for the weights and a copy of them.
        found = checkpoints.load_latest(CPU) if checkpoints and self.team.rank == 0 else None
        if self.team.from_first(found is not None):
            found = self.team.state_from_first(found)
        return self._restored(*found) if found else self._new(None)

    def _restored(self, epoch: int, state: dict[str, Any]) -> TrainingLoop:
        try:
            loop = self._new(state["form"])
            loop.restore(epoch, state)
        except Exception as error:  # the file is whole, but may contain anything
            if is_infrastructure_failure(error):
                raise
            why = reason_of(error)
            logger.warning("checkpoint of '%s' does not fit, training from the start: %s", self.activation.name, why)
            return self._new(None)
        return loop

    def _new(self, kept_form: str | None) -> TrainingLoop:
        return TrainingLoop(self.feed, self._form(kept_form), self.team)

    def _form(self, kept: str | None) -> FastForm:
        # Rank 0 alone measures: two ranks might find different forms, and train different networks.
        first = chosen_form(self.choose_form, self.feed, self.activation, kept=kept) if self.team.rank == 0 else None
        name = self.team.from_first(first.name if first else "")
        return first or chosen_form(self.choose_form, self.feed, self.activation, kept=name)
