"""The training recipe of a network as data: optimiser, learning-rate schedule, regularisation, precision.

A recipe is declarative: `workers.training` carries it out with parts of PyTorch, timm and torchvision. Every field
changes the result, so all of them belong to the task's identity.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from aquasurf_ray.tasks.errors import require

Schedule = Literal["one-cycle", "cosine", "step", "constant"]
Precision = Literal["float32", "bfloat16", "auto"]

SCHEDULES: tuple[Schedule, ...] = ("one-cycle", "cosine", "step", "constant")
PRECISIONS: tuple[Precision, ...] = ("float32", "bfloat16", "auto")


@dataclass(frozen=True)
class Recipe:
    """The training settings of a task; by default SGD with Nesterov momentum under a one-cycle learning rate.

    Args:
        epochs: the number of passes over the training split.
        batch_size: the number of training examples a step, over all devices of an evaluation together. The last batch
            of an epoch may be smaller; a batch of a single example is left out.
        learning_rate: the peak of the schedule.
        optimizer: `sgd`, `adamw`, or any name that timm's optimiser factory knows.
        momentum: the momentum of SGD, in Nesterov's form; other optimisers have their own defaults.
        weight_decay: decoupled for AdamW; on all weights for SGD, on matrices and filters only for the others.
        schedule: the schedule over steps, not epochs. `one-cycle` (Smith and Topin 2018, arXiv 1708.07120) warms up
            along a cosine; the others warm up linearly. `step` multiplies by `decay` at each of `milestones`.
        warmup_fraction: share of all steps before the peak is reached.
        final_fraction: the final learning rate of a cosine, as a share of the peak.
        milestones: shares of all steps, ascending.
        decay: the factor of `step`.
        label_smoothing: share of the target spread over all classes (Szegedy et al. 2016, arXiv 1512.00567).
        mixup, cutmix: the Beta distribution's alpha (arXiv 1710.09412, 1905.04899); 0 is off. With both, each batch
            gets one of them by a fair coin.
        clip_norm: the largest norm of all gradients together; None is off.
        ema_decay: the decay of an exponential moving average of the weights, which is then validated and tested.
        precision: the float type of the forward pass. `auto` is bfloat16 on GPUs that support it and float32 elsewhere.
        tf32: whether float32 matrix products may use TF32 on GPUs that have it.
        channels_last: the memory format of images.
        deterministic: use only bitwise reproducible algorithms; an operation without one is an error.

    Raises:
        TaskError: a value is out of its range.
    """

    epochs: int = 30
    batch_size: int = 128
    learning_rate: float = 0.1
    optimizer: str = "sgd"
    momentum: float = 0.9
    weight_decay: float = 5e-4
    schedule: Schedule = "one-cycle"
    warmup_fraction: float = 0.25
    final_fraction: float = 0.0
    milestones: tuple[float, ...] = ()
    decay: float = 0.1
    label_smoothing: float = 0.0
    mixup: float = 0.0
    cutmix: float = 0.0
    clip_norm: float | None = None
    ema_decay: float | None = None
    precision: Precision = "float32"
    tf32: bool = False
    channels_last: bool = False
    deterministic: bool = False

    @property
    def mixes(self) -> bool:
        """True if training batches are mixed, by mixup or cutmix."""
        return self.mixup > 0 or self.cutmix > 0

    def __post_init__(self) -> None:
        require(self.epochs >= 1, "epochs", self.epochs, "at least 1")
        require(self.batch_size >= 1, "batch_size", self.batch_size, "at least 1")
        require(0 < self.learning_rate < math.inf, "learning_rate", self.learning_rate, "positive and finite")
        require(bool(self.optimizer.strip()), "optimizer", self.optimizer, "a name")
        require(0 <= self.momentum < 1, "momentum", self.momentum, "in [0, 1)")
        require(0 <= self.weight_decay < math.inf, "weight_decay", self.weight_decay, "not negative")
        require(self.schedule in SCHEDULES, "schedule", self.schedule, f"one of {', '.join(SCHEDULES)}")
        require(0 <= self.warmup_fraction < 1, "warmup_fraction", self.warmup_fraction, "in [0, 1)")
        require(
            self.schedule != "one-cycle" or self.warmup_fraction > 0,
            "warmup_fraction",
            self.warmup_fraction,
            "above 0 for a one-cycle schedule",
        )
        require(0 <= self.final_fraction <= 1, "final_fraction", self.final_fraction, "in [0, 1]")
        require(
            # Strictly ascending: the set drops what is given twice.
            list(self.milestones) == sorted(set(self.milestones)) and all(0 < m < 1 for m in self.milestones),
            "milestones",
            self.milestones,
            "ascending shares between 0 and 1",
        )
        require(0 < self.decay <= 1, "decay", self.decay, "in (0, 1]")
        require(0 <= self.label_smoothing < 1, "label_smoothing", self.label_smoothing, "in [0, 1)")
        require(0 <= self.mixup < math.inf, "mixup", self.mixup, "not negative")
        require(0 <= self.cutmix < math.inf, "cutmix", self.cutmix, "not negative")
        require(self.clip_norm is None or self.clip_norm > 0, "clip_norm", self.clip_norm, "positive, or None")
        require(self.ema_decay is None or 0 <= self.ema_decay < 1, "ema_decay", self.ema_decay, "in [0, 1), or None")
        require(self.precision in PRECISIONS, "precision", self.precision, f"one of {', '.join(PRECISIONS)}")
