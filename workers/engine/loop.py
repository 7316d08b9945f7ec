"""The training loop: steps, epochs, checkpoints, and the metrics at the end.

Everything random depends on seed and epoch only, and a checkpoint holds all other state that an epoch begins with, so a
training that was interrupted resumes exactly as if it had not been. Losses and metrics stay on the device; the loop
waits for it once in `STEPS_BETWEEN_LOSS_CHECKS` steps.
"""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from aquasurf_ray.activations import FastForm
from aquasurf_ray.tasks import TaskError
from aquasurf_ray.tasks.losses import scalar_loss
from aquasurf_ray.tasks.objective import RunningMean
from aquasurf_ray.training_metrics import TrainingMetrics, metric_reason
from aquasurf_ray.workers.engine.averaging import AveragedNetwork
from aquasurf_ray.workers.engine.batches import BatchSource, batch_source
from aquasurf_ray.workers.engine.checkpoints import CheckpointFolder
from aquasurf_ray.workers.engine.feed import Step, TrainingFeed
from aquasurf_ray.workers.engine.learning_record import LearningRecord
from aquasurf_ray.workers.engine.optimisation import make_optimizer, make_schedule
from aquasurf_ray.workers.engine.ranks import Alone
from aquasurf_ray.workers.engine.seeding import seeded
from aquasurf_ray.workers.engine.stopping import StopAsked, StopRule, TrainingDrained
from aquasurf_ray.workers.engine.validation import evaluate, evaluation_batch_size
from aquasurf_ray.workers.faults import FunctionFault
from aquasurf_ray.workers.network import sized_network
from aquasurf_ray.workers.result import Epoch, final_metrics

STEPS_BETWEEN_LOSS_CHECKS = 32

ProgressCallback = Callable[[Epoch], None]


@dataclass
class Throughput:
    """Training examples, and the seconds that they took."""

    examples: int = 0
    seconds: float = 0.0

    def per_second(self) -> float:
        """Return the mean over all epochs; 0 before the first."""
        return self.examples / self.seconds if self.seconds > 0 else 0.0


class TrainingLoop:
    """The state of a training: network, averages, optimiser, learning rate, order of the data, learning curve."""

    def __init__(self, feed: TrainingFeed, form: FastForm, team: Alone) -> None:
        task = feed.task
        self.task, self.recipe, self.device, self.team = task, task.recipe, feed.device, team
        self.feed, self.form, self.arithmetic = feed, form.name, feed.arithmetic
        network = sized_network(task, feed.splits, form.factory, seed=feed.seed, device=self.device)
        self.network = self.arithmetic.prepared(network)
        decay = self.recipe.ema_decay
        self.averaged = AveragedNetwork(self.network, decay) if decay is not None else None
        self.learned = LearningRecord(self.network)
        self.order = torch.Generator().manual_seed(feed.seed)
        self.n_steps = self.feed.n_steps * self.recipe.epochs
        self.optimizer = make_optimizer(self.network, self.recipe)
        self.schedule = make_schedule(self.optimizer, self.recipe, self.n_steps)
        self.objective = feed.objective
        self.loss = self.objective.training_loss(self.recipe.label_smoothing, mixes=self.recipe.mixes)
        self.history: list[Epoch] = []
        self.throughput = Throughput()
        self._may_count_padding = self.objective.likelihood == "bernoulli"
        self._may_rule_out = True
        self._sources: dict[str, BatchSource] = {}

    def state(self) -> dict[str, Any]:
        """Return all that the next epoch begins with, as plain values and tensors."""
        return {
            "network": self.network.state_dict(),
            "averaged": self.averaged.state_dict() if self.averaged is not None else None,
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "order": self.order.get_state(),
            "steps": self.n_steps,
            "form": self.form,
            "throughput": asdict(self.throughput),
            "history": [asdict(epoch) for epoch in self.history],
            "learned": self.learned.state(),
        }

    def restore(self, epoch: int, state: dict[str, Any]) -> None:
        """Restore the state after `epoch`. Any error means that the state is of another training; the loop is then
        unusable."""
        history = [Epoch(**row) for row in state["history"]]
        if [row.epoch for row in history] != list(range(1, epoch + 1)) or epoch > self.recipe.epochs:
            raise ValueError(f"learning curve of {len(history)} points after epoch {epoch}")
        if state["steps"] != self.n_steps:
            raise ValueError(f"{state['steps']} steps, expected {self.n_steps}")
        if state["form"] != self.form:
            raise ValueError(f"trained with the {state['form']} form of the function, expected {self.form}")
        if (state["averaged"] is None) != (self.averaged is None):
            raise ValueError("only one of checkpoint and recipe averages weights")
        self.network.load_state_dict(state["network"])
        if self.averaged is not None:
            self.averaged.load_state_dict(state["averaged"])
        self.optimizer.load_state_dict(state["optimizer"])
        self._check_optimizer()
        self.schedule.load_state_dict(state["schedule"])
        # A generator's state is a tensor on the CPU, wherever the checkpoint was loaded to.
        self.order.set_state(state["order"].cpu())
        self.throughput = Throughput(**state["throughput"])
        if "learned" in state:  # not in the checkpoints of before there were learned parameters
            self.learned.restore(state["learned"], epoch)
        self.history = history

    def _check_optimizer(self) -> None:
        """Refuse a restored optimiser state of other shapes: PyTorch compares the number of weights only, and its own
        optimisers keep tensors in the weights' shape."""
        if type(self.optimizer) not in (torch.optim.SGD, torch.optim.AdamW):
            return
        for weight, saved in self.optimizer.state.items():
            for name, value in saved.items():
                if isinstance(value, Tensor) and value.dim() > 0 and value.shape != weight.shape:
                    raise ValueError(f"{name} of shape {tuple(value.shape)} for weights {tuple(weight.shape)}")

    def to_the_end(
        self,
        checkpoints: CheckpointFolder | None,
        interval: float,
        on_epoch: ProgressCallback | None,
        stop_rule: StopRule | None,
        stop_asked: StopAsked | None = None,
    ) -> TrainingMetrics:
        """Train the epochs that are left.

        Raises:
            FunctionFault: a loss or the score is not finite.
            TrainingDrained: it was asked to stop; there is a checkpoint.
        """
        model = self.team.parallel(self.network, self._first_outputs)
        saved = time.monotonic()
        why = None
        for number in range(len(self.history) + 1, self.recipe.epochs + 1):
            epoch = self.team.from_first(self.one_epoch(number, model))
            self.history.append(epoch)
            if on_epoch and self.team.rank == 0:
                on_epoch(epoch)
            why = stop_rule.verdict(number, epoch.val_score, self.recipe.epochs) if stop_rule else None
            if why:
                if stop_rule and stop_rule.pauses and checkpoints and self.team.rank == 0:
                    checkpoints.save(number, self.state())
                break
            if stop_asked and number < self.recipe.epochs and self._drained(number, checkpoints, stop_asked):
                raise TrainingDrained(number)
            if not checkpoints or self.team.rank > 0:
                continue
            wanted = number < self.recipe.epochs or checkpoints.after_last
            if wanted and time.monotonic() - saved >= interval:
                checkpoints.save(number, self.state())
                saved = time.monotonic()
        return self._metrics(why)

    def _first_outputs(self) -> Tensor:
        """Return the outputs of the first step, also where no target of this process counts in it."""
        steps = self.feed.epoch(1, torch.Generator().manual_seed(self.feed.seed), self.network.train())
        with closing(steps):
            step = next((step for step in steps if step is not None), None)
        if step is None:
            raise TaskError("no target of the training split counts in epoch 1")
        return self.arithmetic.forward(self.network, step.inputs)

    def _drained(self, number: int, checkpoints: CheckpointFolder | None, stop_asked: StopAsked) -> bool:
        """Return whether the training stops here, as rank 0 decides; without checkpoints it runs to its end."""
        stops = self.team.rank == 0 and checkpoints is not None and stop_asked()
        if stops and checkpoints is not None:
            checkpoints.save(number, self.state())
        return self.team.from_first(stops)

    def _metrics(self, stopped_early: str | None) -> TrainingMetrics:
        last, metric = self.history[-1], self.task.objective.metric
        if math.isnan(last.val_loss):
            raise FunctionFault(f"validation loss is nan after epoch {last.epoch}")
        if not math.isfinite(last.val_score):
            raise FunctionFault(metric_reason(metric.name, metric.score(last.val_score), last.epoch))
        # The test split is read here only, after every decision that could depend on it.
        test_loss, test_score = self._evaluated("test") if self.team.rank == 0 else (math.nan, math.nan)
        metrics = final_metrics(
            last,
            test_loss=test_loss,
            test_score=test_score,
            test_accuracy=self._accuracy(test_score),
            stopped_early=stopped_early,
        )
        return self.team.from_first(metrics)

    def one_epoch(self, number: int, model: torch.nn.Module) -> Epoch:
        """Train one epoch with `model`, the network or its wrapper, and validate on rank 0."""
        started = time.monotonic()
        learning_rate = self.optimizer.param_groups[0]["lr"]
        with seeded(self.feed.epoch_seed(number), self.device):
            train_loss, train_score = self._train_steps(number, model)
        self.learned.note_epoch(self.network if self.averaged is None else self.averaged)
        val_loss, val_score = self._evaluated("validation") if self.team.rank == 0 else (math.nan, math.nan)
        return Epoch(
            epoch=number,
            train_loss=train_loss,
            train_score=train_score,
            train_accuracy=self._accuracy(train_score),
            val_loss=val_loss,
            val_score=val_score,
            val_accuracy=self._accuracy(val_score),
            learning_rate=learning_rate,
            seconds=time.monotonic() - started,
        )

    def _train_steps(self, number: int, model: torch.nn.Module) -> tuple[float, float]:
        """Train an epoch's steps; return the mean loss and the score over the targets of all processes. A metric of the
        user's own has this process's targets only."""
        started = time.monotonic()
        self.network.train()
        metric = self.objective.begin_metric(self.device)
        # On the device, so that the CPU can queue further steps; in float64, because an epoch has many of them.
        total = torch.zeros((), device=self.device, dtype=torch.float64)
        counted, counted_here = 0.0, 0.0
        count = 0
        for count, step in enumerate(self.feed.epoch(number, self.order, self.network), start=1):
            if step is None:
                self._skip_step()
                continue
            loss, outputs = self.step(model, step)
            if step.n > 0:
                total += loss * (step.share if self.objective.sums else step.n)
                metric.update(outputs, step.labels)
            counted += step.n_together
            counted_here += step.n
            self.throughput.examples += step.examples
            if count % STEPS_BETWEEN_LOSS_CHECKS == 0:
                self._stop_if_not_finite(self.team.total(total), number, count)
        if counted == 0:
            raise TaskError(f"no target of the training split counts in epoch {number}")
        together = self.team.total(total)
        self._stop_if_not_finite(together, number, count)
        self.throughput.seconds += time.monotonic() - started
        if isinstance(metric, RunningMean):
            metric.add_all(self.team.total)
        elif counted_here == 0:
            return together.item() / counted, math.nan
        score = self.objective.metric.score(self.objective.metric.number(metric.compute()))
        return together.item() / counted, score

    def step(self, model: torch.nn.Module, step: Step) -> tuple[Tensor, Tensor]:
        """Update the weights once; return the loss and the outputs before it, detached, on the device.

        A process whose share of the batch has no target that counts contributes gradients of zero.
        """
        self.team.begin_step(is_shared=step.share == 1)
        outputs = self.arithmetic.forward(model, step.inputs)
        self.optimizer.zero_grad(set_to_none=True)
        if step.n > 0:
            if self._may_count_padding and step.n < step.share * step.labels.numel():
                self.objective.refuse_counted_padding(outputs.detach(), step.targets)
                self._may_count_padding = False
            if self._may_rule_out:  # seen in the first step: a network rules out the same classes in each
                self.objective.refuse_hidden_labels(outputs.detach(), step.targets)
                self.objective.refuse_ruled_out(
                    outputs.detach(), step.targets, label_smoothing=self.recipe.label_smoothing
                )
                self._may_rule_out = False
            loss = scalar_loss(self.loss(outputs, step.targets), self.objective.loss)
            part = step.share if self.objective.sums else step.n / step.n_together
            # DDP averages the processes evenly, but shares differ by one example or in their targets that count.
            weight = part * self.team.size
            torch.autograd.backward(loss if weight == 1 else loss * weight)
        else:
            loss = outputs.new_zeros(())
            torch.autograd.backward(outputs, torch.zeros_like(outputs))
        if self.recipe.clip_norm is not None:
            torch.nn.utils.clip_grad_norm_(self.network.parameters(), self.recipe.clip_norm)
        self.optimizer.step()
        self.schedule.step()
        if self.averaged is not None:
            self.averaged.update_parameters(self.network)
        self.learned.after_step(loss.detach())
        return loss.detach(), outputs.detach()

    def _skip_step(self) -> None:
        """Advance the learning rate, and leave the weights as they are."""
        with warnings.catch_warnings():  # PyTorch warns of a schedule's step without an optimiser's step before it
            warnings.filterwarnings("ignore", "Detected call of `lr_scheduler.step", UserWarning)
            self.schedule.step()

    def _evaluated(self, split: str) -> tuple[float, float]:
        if split not in self._sources:  # each split is moved to the device once, and the test split only at the end
            self._sources[split] = batch_source(
                getattr(self.feed.splits, split),
                evaluation_batch_size(self.recipe.batch_size),
                self.device,
                weigh=self.task.objective.weights,
                loader_workers=self.feed.loader_workers,
            )
        network = self.network if self.averaged is None else self.averaged
        return evaluate(network, self._sources[split], self.objective, self.arithmetic, self.device)

    def _accuracy(self, score: float) -> float | None:
        """Return the metric's value if it is an accuracy."""
        metric = self.task.objective.metric
        return metric.score(score) if metric.name == "accuracy" else None

    def _stop_if_not_finite(self, total_loss: Tensor, epoch: int, step: int) -> None:
        broken = self.learned.diverged(self.team.total, self.team.size)
        if broken:
            raise FunctionFault(f"{broken} by step {step} of epoch {epoch}")
        value = total_loss.item()
        if not math.isfinite(value):
            raise FunctionFault(f"training loss became {value} by step {step} of epoch {epoch}")
