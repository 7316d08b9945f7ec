"""Trainings, spectra and costs of a function for each role, held against those of networks that are written by hand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from aquasurf_ray.activations import RoleActivations, RoleFunctions, activation_of, parse
from aquasurf_ray.tasks import Splits, Task, TaskError, load_task
from aquasurf_ray.workers.activation_use import refuse_unused_activation
from aquasurf_ray.workers.cost import measure_cost
from aquasurf_ray.workers.engine.checkpoints import CheckpointFolder
from aquasurf_ray.workers.engine.fast_form import fast_form
from aquasurf_ray.workers.engine.feed import TrainingFeed
from aquasurf_ray.workers.engine.form import FormRequest
from aquasurf_ray.workers.engine.health import HealthLimits
from aquasurf_ray.workers.spectrum import task_spectrum
from aquasurf_ray.workers.training import train

CPU = torch.device("cpu")
Make = Callable[[], nn.Module]
BOTH = "early=sin(x);late=swish(x)"


class Sine(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.sin(x)


def halves(*, early: Make, late: Make) -> nn.Module:
    return nn.Sequential(nn.Linear(64, 32), early(), nn.Linear(32, 32), late(), nn.Linear(32, 10))


def by_hand(activation: Make) -> nn.Module:
    """The network of sin and swish that needs no roles; the factory's module is the late one."""
    return halves(early=Sine, late=activation)


def plain(activation: Make) -> nn.Module:
    return halves(early=activation, late=activation)


@pytest.fixture(scope="module")
def digits() -> tuple[Task, Splits]:
    task = load_task("digits-mlp")
    task = replace(task, recipe=replace(task.recipe, epochs=2))
    return task, task.splits()


def result(task: Task, network: Callable[..., nn.Module], activation: object, **options: object) -> tuple[object, ...]:
    found = train(replace(task, network=network), activation, splits=task.splits(), **options)  # type: ignore[arg-type]
    assert found.status == "done", found.reason
    return found.score, found.test_loss, [epoch.train_loss for epoch in found.epochs]


@pytest.mark.parametrize("gate", [None, HealthLimits()], ids=["no gate", "gate"])
def test_all_roles_alike_train_to_the_bit_like_the_plain_function(
    digits: tuple[Task, Splits], gate: HealthLimits | None
) -> None:
    task, _ = digits
    alike = RoleActivations(RoleFunctions({"early": parse("swish(x)"), "late": parse("swish(x)")}))
    assert result(task, halves, alike, gate=gate) == result(task, plain, activation_of("swish(x)"), gate=gate)


def test_a_function_per_role_trains_to_the_bit_like_the_network_by_hand(digits: tuple[Task, Splits]) -> None:
    task, _ = digits
    assert result(task, halves, activation_of(BOTH)) == result(task, by_hand, activation_of("swish(x)"))


def test_a_form_for_each_role_has_the_bits_of_the_eager_one(digits: tuple[Task, Splits]) -> None:
    task, _ = digits
    eager = result(task, halves, activation_of(BOTH))
    assert result(task, halves, activation_of(BOTH), choose_form=fast_form) == eager
    request = FormRequest(activation_of(BOTH), CPU, 1000, 10, torch.float32, deterministic=False, kept=None)
    assert fast_form(request).name == "early=eager;late=eager"  # too little work to be measured
    kept = replace(request, kept="early=recomputed;late=eager")
    assert fast_form(kept).name == kept.kept


def test_a_training_resumes_from_its_checkpoint(digits: tuple[Task, Splits], tmp_path: object) -> None:
    task, splits = digits
    task = replace(task, network=halves)
    folder = CheckpointFolder(f"{tmp_path}/of-roles", {"function": BOTH})
    asked = iter([True])
    from aquasurf_ray.workers.training import TrainingDrained

    with pytest.raises(TrainingDrained):
        train(task, activation_of(BOTH), splits=splits, checkpoints=folder, stop_asked=lambda: next(asked))
    resumed = train(task, activation_of(BOTH), splits=splits, checkpoints=folder)
    whole = train(task, activation_of(BOTH), splits=splits)
    assert [epoch.epoch for epoch in resumed.epochs] == [1, 2]
    assert (resumed.score, resumed.test_loss) == (whole.score, whole.test_loss)


def test_the_spectrum_is_that_of_the_network_by_hand(digits: tuple[Task, Splits]) -> None:
    task, splits = digits
    of_roles = task_spectrum(replace(task, network=halves), splits, BOTH, seed=0, device=CPU)
    expected = task_spectrum(replace(task, network=by_hand), splits, "swish(x)", seed=0, device=CPU)
    other = task_spectrum(replace(task, network=halves), splits, "swish(x)", seed=0, device=CPU)
    for found, by_hand_, plain_ in zip(of_roles, expected, other, strict=True):
        assert (found.log_eigenvalues() == by_hand_.log_eigenvalues()).all()
        assert not (found.log_eigenvalues() == plain_.log_eigenvalues()).all()


def test_activation_memory_is_that_of_both_functions(digits: tuple[Task, Splits]) -> None:
    """Each swish keeps its input, which relu does not: one layer's difference in one role, two layers' in both."""
    task, splits = digits
    feed = TrainingFeed(replace(task, network=halves), splits, CPU, seed=0)
    one, two = (measure_cost(feed, activation_of(f)) for f in ("early=relu(x);late=swish(x)", "swish(x)"))
    more = [cost.activation_bytes - cost.relu_activation_bytes for cost in (one, two)]
    assert 2 * more[0] == more[1] == 2 * task.recipe.batch_size * 32 * 4


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        ("early=relu(x);late=one(x)", "role 'late': output is the constant 1"),
        ("early=reciprocal(zero(x));late=x", "role 'early': output is nowhere finite"),
    ],
)
def test_the_role_at_fault_is_named(digits: tuple[Task, Splits], function: str, reason: str) -> None:
    task, splits = digits
    found = train(replace(task, network=halves), activation_of(function), splits=splits)
    assert found.status == "diverged"
    assert reason in (found.reason or "")


def test_a_role_that_the_network_does_not_use_is_named(digits: tuple[Task, Splits]) -> None:
    class Unused(nn.Module):
        def __init__(self, *, early: Make, late: Make) -> None:
            super().__init__()
            self.first, self.early, self.late, self.last = nn.Linear(64, 32), early(), late(), nn.Linear(32, 10)

        def forward(self, x: Tensor) -> Tensor:
            return self.last(self.early(self.first(x)))

    task, splits = digits
    inputs = torch.randn(4, 64)
    refuse_unused_activation(replace(task, network=halves), splits, inputs, device=CPU)
    with pytest.raises(TaskError, match="must use the activations of role 'late'"):
        refuse_unused_activation(replace(task, network=Unused), splits, inputs, device=CPU)
