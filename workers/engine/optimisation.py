"""Optimisers, weight-decay groups and learning rate schedules of a recipe.

A schedule counts steps, not epochs: `learning_rate_factor` gives a step's share of the peak rate. One-cycle is
PyTorch's `OneCycleLR`; the others are closed formulas in PyTorch's `LambdaLR`, because its chained schedulers round at
each step and its sequential one cannot be restored exactly from a checkpoint.
"""

from __future__ import annotations

import math
from importlib import import_module
from typing import Any

import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, OneCycleLR

from aquasurf_ray.activations.learned import learned_parameters
from aquasurf_ray.tasks import Recipe, TaskError

Groups = list[dict[str, Any]]


def make_optimizer(network: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """Return the recipe's optimiser over the network's trained parameters.

    Raises:
        TaskError: the optimiser's name is not known, timm is not installed, or it needs second derivatives.
    """
    rate, decay = recipe.learning_rate, recipe.weight_decay
    if recipe.optimizer.lower() == "sgd":
        return torch.optim.SGD(
            _without_learned(network, decay),
            lr=rate,
            momentum=recipe.momentum,
            weight_decay=decay,
            nesterov=recipe.momentum > 0,
            foreach=True,  # the same bits with fewer Python calls, also on a CPU
        )
    groups = decay_groups(network, decay)
    if recipe.optimizer.lower() == "adamw":
        return torch.optim.AdamW(groups, lr=rate, weight_decay=decay, foreach=True)
    return _timm_optimizer(recipe.optimizer, groups, rate, decay)


def _without_learned(network: nn.Module, weight_decay: float) -> Groups:
    """Return the weights, all of which decay, and in a group of its own what activations learn, which does not."""
    learned = {id(parameter.tensor) for parameter in learned_parameters(network)}
    weights = [p for p in network.parameters() if p.requires_grad]
    groups: Groups = [{"params": [p for p in weights if id(p) not in learned], "weight_decay": weight_decay}]
    if learned:
        groups[0]["decays"] = True
        groups.append({"params": [p for p in weights if id(p) in learned], "weight_decay": 0.0, "decays": False})
    return groups


def decay_groups(network: nn.Module, weight_decay: float) -> Groups:
    """Return parameter groups: matrices and filters, which decay; biases, gains, other vectors and
    numbers, and what activations learn, which do not.

    A group says whether it `decays`, because a recipe without weight decay gives both kinds the value 0.
    """
    weights = [p for p in network.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in weights if p.dim() >= 2], "weight_decay": weight_decay, "decays": True},
        {"params": [p for p in weights if p.dim() < 2], "weight_decay": 0.0, "decays": False},
    ]
    return [group for group in groups if group["params"]]


def _timm_optimizer(name: str, groups: Groups, learning_rate: float, weight_decay: float) -> torch.optim.Optimizer:
    try:
        create = import_module("timm.optim").create_optimizer_v2
    except ImportError as error:
        raise TaskError(f"optimizer '{name}' is one of timm's: pip install timm, or use sgd or adamw") from error
    try:
        optimizer: torch.optim.Optimizer = create(groups, opt=name, lr=learning_rate, weight_decay=weight_decay)
    except (ValueError, AssertionError) as error:  # an unknown name, or settings that the optimiser refuses
        raise TaskError(f"optimizer '{name}' cannot be made: {error}") from error
    if getattr(optimizer, "is_second_order", False):
        raise TaskError(f"optimizer '{name}' needs second derivatives, which are not computed; use another")
    return optimizer


def make_schedule(optimizer: torch.optim.Optimizer, recipe: Recipe, n_steps: int) -> LRScheduler:
    """Return the recipe's schedule for `n_steps` steps in all; its `step()` is called after each."""
    if recipe.schedule != "one-cycle":
        return LambdaLR(optimizer, lambda step: learning_rate_factor(recipe, step, n_steps))
    total = n_steps + 1  # the learning rate after the last step is the cycle's end
    return OneCycleLR(
        optimizer,
        max_lr=recipe.learning_rate,
        total_steps=total,
        pct_start=min(1.0, max(recipe.warmup_fraction, 2 / total)),  # a warm-up of no steps would divide by zero
        cycle_momentum=False,
    )


def learning_rate_factor(recipe: Recipe, step: int, n_steps: int) -> float:
    """Return the learning rate of a step as a share of the peak, for all schedules but one-cycle.

    The first W = round(warmup_fraction * T) of T steps rise linearly, (t + 1) / (W + 1), and step W is at the peak.
    A cosine goes from there to `final_fraction`, which it would reach at step T (Loshchilov and Hutter 2017, arXiv
    1608.03983, equation 5); a step schedule has lost a factor `decay` at each milestone m from step round(m * T) on.

    >>> recipe = Recipe(schedule="step", warmup_fraction=0.2, milestones=(0.5,))
    >>> [round(learning_rate_factor(recipe, t, 10), 3) for t in (0, 1, 2, 4, 5)]
    [0.333, 0.667, 1.0, 1.0, 0.1]
    """
    warmup = round(recipe.warmup_fraction * n_steps)
    if step < warmup:
        return (step + 1) / (warmup + 1)
    if recipe.schedule == "cosine":
        progress = min(1.0, (step - warmup) / max(1, n_steps - warmup))
        return recipe.final_fraction + (1 - recipe.final_fraction) * (1 + math.cos(math.pi * progress)) / 2
    if recipe.schedule == "step":
        return recipe.decay ** sum(step >= round(milestone * n_steps) for milestone in recipe.milestones)
    return 1.0
