"""The role of each weight, held against what moves: it belongs to the first activation whose input changes with it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from role_task import two_roles
from torch import Tensor, nn
from torch.nn.functional import gelu
from torch.utils.checkpoint import checkpoint

from aquasurf_ray.activations import Activation
from aquasurf_ray.surrogate.spectra import SpectrumFeature
from aquasurf_ray.tasks import Task
from aquasurf_ray.workers.actor import Worker
from aquasurf_ray.workers.compact_spectrum import compact_spectrum
from aquasurf_ray.workers.fisher.blocks import trained_weights
from aquasurf_ray.workers.messages import WorkerSettings
from aquasurf_ray.workers.network import sized_network, two_examples
from aquasurf_ray.workers.role_layers import NO_ROLE, role_of_weights

CPU = torch.device("cpu")
Make = Callable[[], nn.Module]


class Residual(nn.Module):
    """Two blocks with a sum around each, as in a transformer, and a norm before each."""

    def __init__(self, *, early: Make, late: Make) -> None:
        super().__init__()
        self.first, self.head = nn.Linear(64, 16), nn.Linear(16, 10)
        self.norms = nn.ModuleList(nn.LayerNorm(16) for _ in range(2))
        self.up = nn.ModuleList(nn.Linear(16, 24) for _ in range(2))
        self.acts = nn.ModuleList([early(), late()])
        self.down = nn.ModuleList(nn.Linear(24, 16) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        for norm, up, act, down in zip(self.norms, self.up, self.acts, self.down, strict=True):
            x = x + down(act(up(norm(x))))
        return self.head(x)


class Branches(nn.Module):
    """Two branches, called in another order than that of the modules, one with an activation of its own code."""

    def __init__(self, *, early: Make, late: Make) -> None:
        super().__init__()
        self.late, self.early = late(), early()
        self.right, self.left, self.head = nn.Linear(64, 8), nn.Linear(64, 8), nn.Linear(8, 10)
        self.after = nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.early(self.left(x)) + self.late(self.after(gelu(self.right(x)))))


class Shared(nn.Module):
    """One layer and one activation used twice, a weight without a module, and an output layer that is used twice."""

    def __init__(self, *, early: Make, late: Make) -> None:
        super().__init__()
        self.twice, self.head = nn.Linear(64, 64), nn.Linear(64, 10, bias=False)
        self.scale = nn.Parameter(torch.full((64, 64), 0.1))
        self.early, self.late = early(), late()

    def forward(self, x: Tensor) -> Tensor:
        x = self.twice(self.early(self.twice(self.early(x))))
        return self.head(self.late(x @ self.scale) + x @ self.head.weight.T @ self.head.weight)


class Convolutions(nn.Module):
    def __init__(self, *, early: Make, late: Make) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Unflatten(1, (1, 8, 8)), nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), early(),
            nn.utils.parametrizations.weight_norm(nn.Conv2d(4, 4, 3, groups=2)), late(),
            nn.Flatten(), nn.Linear(144, 10),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


def moved_first(task: Task) -> dict[str, str]:
    """The role of the first activation whose input differs when a weight does, by running the network for each."""
    splits = task.splits()
    inputs = two_examples(splits, CPU)
    role_of = {name: role for role, names in task.places.items() for name in names}

    def seen(changed: str | None) -> list[tuple[str, Tensor]]:
        network = sized_network(task, splits, lambda: Activation("relu(x)"), seed=0, device=CPU)
        weights = trained_weights(network)
        found: list[tuple[str, Tensor]] = []
        for name, module in network.named_modules():
            if name in role_of:
                module.register_forward_pre_hook(lambda _, a, role=role_of[name]: found.append((role, a[0])))
        with torch.no_grad():
            if changed is not None:
                weights[changed].add_(torch.randn(weights[changed].shape, generator=torch.Generator().manual_seed(1)))
            found.append((NO_ROLE, network(inputs)))
        return found

    names = trained_weights(sized_network(task, splits, lambda: Activation("relu(x)"), seed=0, device=CPU))
    before = seen(None)
    moved = {
        name: [role for (role, a), (_, b) in zip(before, seen(name), strict=True) if not torch.equal(a, b)]
        for name in names
    }
    return {name: roles[0] for name, roles in moved.items() if roles}


@pytest.mark.parametrize("network", [Residual, Branches, Shared, Convolutions])
def test_a_weight_belongs_to_the_first_activation_whose_input_moves_with_it(network: type[nn.Module]) -> None:
    task = replace(two_roles(), network=network)
    found = role_of_weights(task, task.splits(), device=CPU)
    assert found == moved_first(task)
    assert {"early", "late", NO_ROLE} >= set(found.values())


def test_behind_a_sum_a_layer_belongs_to_the_next_activation() -> None:
    task = replace(two_roles(), network=Residual)
    found = role_of_weights(task, task.splits(), device=CPU)
    assert found["down.0.weight"] == found["up.1.weight"] == "late"
    assert found["down.1.weight"] == found["head.weight"] == NO_ROLE


def test_the_two_blocks_of_a_transformer() -> None:
    """Attention belongs to the activation behind it; the tied table reaches the first one, whichever block it has."""
    transformers = pytest.importorskip("transformers")
    from aquasurf_ray.tasks import hugging_face_language_model

    sizes = {"vocab_size": 256, "n_positions": 16, "n_embd": 16, "n_layer": 2, "n_head": 2}
    config = transformers.GPT2Config(**sizes, bos_token_id=None, eos_token_id=None)
    blocks = {"early": "transformer.h.0.*", "late": "transformer.h.1.*"}
    task = hugging_face_language_model(config, "a text of some words. " * 200, only=blocks)
    splits = task.splits()
    role_of = role_of_weights(task, splits, device=CPU)
    reply = compact_spectrum(task, splits, "early=relu;late=swish", seed=0, device=CPU, role_of=role_of)
    assert reply.roles == {
        "transformer.h.0.attn.c_attn": "early",
        "transformer.h.0.attn.c_proj": "early",
        "transformer.h.0.mlp.c_fc": "early",
        "transformer.h.0.mlp.c_proj": "late",
        "transformer.h.1.attn.c_attn": "late",
        "transformer.h.1.attn.c_proj": "late",
        "transformer.h.1.mlp.c_fc": "late",
        "transformer.h.1.mlp.c_proj": NO_ROLE,
        "lm_head": "early",
    }


def test_weights_whose_graph_is_hidden_have_no_role_at_all() -> None:
    class Hidden(Residual):
        def forward(self, x: Tensor) -> Tensor:
            x = self.down[0](self.acts[0](checkpoint(self.up[0], self.first(x), use_reentrant=True)))
            return self.head(self.down[1](self.acts[1](self.up[1](x))))

    task = replace(two_roles(), network=Hidden)
    found = role_of_weights(task, task.splits(), device=CPU)
    assert {"first.weight", "down.0.weight", "head.weight"} <= set(found)
    assert "up.0.weight" not in found
    assert (found["first.weight"], found["up.1.weight"], found["head.weight"]) == ("early", "late", NO_ROLE)


def test_a_network_without_roles_has_none() -> None:
    task = replace(
        two_roles(), network=lambda activation: nn.Sequential(nn.Linear(64, 8), activation(), nn.Linear(8, 10))
    )
    assert role_of_weights(task, task.splits(), device=CPU) == {}


def test_a_worker_says_the_roles_of_the_layers_with_each_spectrum() -> None:
    worker = Worker(WorkerSettings(two_roles()))
    diverged, done = worker.spectra(["early=exp(exp(exp(exp(x))));late=x", "early=relu(x);late=tanh(x)"])
    assert (diverged.status, diverged.roles) == ("diverged", None)
    assert done.roles == {"0": "early", "2": "late", "4": NO_ROLE}
    assert tuple(done.roles) == SpectrumFeature.from_bytes(done.feature).names
    assert worker.spectra(["early=exp(exp(exp(exp(x))));late=x"])[0].roles == done.roles
