"""A training's state carried over to another learning rate and weight decay is what plain PyTorch makes of it."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from torch import nn

from aquasurf_ray.tasks import Recipe
from aquasurf_ray.tune.checkpoints import SETTINGS, carried_over
from aquasurf_ray.workers.engine.optimisation import make_optimizer, make_schedule

STEPS = 3
INPUTS = torch.randn(16, 4, generator=torch.Generator().manual_seed(1))


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.LayerNorm(8), nn.Tanh(), nn.Linear(8, 2))


def step(model, optimizer, schedule=None):
    optimizer.zero_grad()
    model(INPUTS).square().sum().backward()
    optimizer.step()
    if schedule is not None:
        schedule.step()


def plain(name, old, new):
    """The weights after `STEPS` steps with the old settings and as many with the new, which are set by hand."""
    model = network()
    matrices = [p for p in model.parameters() if p.dim() == 2]
    vectors = [p for p in model.parameters() if p.dim() == 1]
    if name == "sgd":
        optimizer = torch.optim.SGD(model.parameters(), old[0], 0.9, weight_decay=old[1], nesterov=True)
    else:
        groups = [{"params": matrices, "weight_decay": old[1]}, {"params": vectors, "weight_decay": 0.0}]
        optimizer = torch.optim.AdamW(groups, old[0])
    for rate, decay in (old, new):
        optimizer.param_groups[0]["weight_decay"] = decay
        for group in optimizer.param_groups:
            group["lr"] = rate
        for _ in range(STEPS):
            step(model, optimizer)
    return list(model.parameters())


@pytest.mark.parametrize(("old_decay", "new_decay"), [(0.0, 0.1), (0.1, 0.0), (0.1, 0.3), (0.0, 0.0)])
@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_a_state_continues_with_the_new_settings_as_in_plain_pytorch(name, old_decay, new_decay):
    old, new = (0.05, old_decay), (0.02, new_decay)
    recipe = Recipe(optimizer=name, momentum=0.9, schedule="constant", warmup_fraction=0.0)
    model = network()
    for number, (rate, decay) in enumerate((old, new)):
        now = replace(recipe, learning_rate=rate, weight_decay=decay)
        optimizer = make_optimizer(model, now)
        schedule = make_schedule(optimizer, now, 2 * STEPS)
        settings = {"learning_rate": rate, "weight_decay": decay}
        if number == 1:
            state = carried_over(copy.deepcopy(state), settings)  # noqa: F821  (of the first round)
            optimizer.load_state_dict(state["optimizer"])
            schedule.load_state_dict(state["schedule"])
        for _ in range(STEPS):
            step(model, optimizer, schedule)
        state = {"optimizer": optimizer.state_dict(), "schedule": schedule.state_dict(), SETTINGS: settings}
    for ours, expected in zip(model.parameters(), plain(name, old, new), strict=True):
        torch.testing.assert_close(ours, expected)
