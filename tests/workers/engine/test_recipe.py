"""What a recipe says is what is done: optimisers, schedules, averages, clipping, mixing, precision."""

from __future__ import annotations

import math
import os
import sys
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.optim.lr_scheduler import CosineAnnealingLR, MultiStepLR
from torch.utils.data import TensorDataset

from aquasurf_ray.activations import Activation
from aquasurf_ray.tasks import Recipe, Splits, Task, TaskError
from aquasurf_ray.workers.engine.averaging import AveragedNetwork
from aquasurf_ray.workers.engine.mixing import BatchMixing
from aquasurf_ray.workers.engine.optimisation import decay_groups, learning_rate_factor, make_optimizer, make_schedule
from aquasurf_ray.workers.engine.precision import Arithmetic, process_settings, used_precision
from aquasurf_ray.workers.training import train

CPU, GPU = torch.device("cpu"), torch.device("cuda", 0)
TANH = Activation("tanh(x)")


def small_network(activation):
    return nn.Sequential(nn.Flatten(), nn.Linear(12, 8), nn.BatchNorm1d(8), activation(), nn.Linear(8, 3))


def synthetic_data():
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(50, 3, 2, 2, generator=generator)
    labels = inputs.flatten(1)[:, :3].argmax(1)
    return Splits(*(TensorDataset(inputs, labels) for _ in range(3)))


def task(network=small_network, augment=None, **recipe):
    settings = {"epochs": 2, "batch_size": 20, "learning_rate": 0.05, **recipe}
    return Task(name="made", network=network, data=synthetic_data, recipe=Recipe(**settings), augment=augment)


def by_hand(given, update):
    """The network of a training, trained again in a plain loop: `update(network, loss, step)` for each batch."""
    splits = given.splits()
    torch.manual_seed(0)
    network = given.network(nn.Tanh).train()
    order = torch.Generator().manual_seed(0)
    inputs, labels = splits.train.tensors
    step = 0
    for _ in range(given.recipe.epochs):
        for chosen in torch.randperm(50, generator=order).split(given.recipe.batch_size):
            loss = functional.cross_entropy(network(inputs[chosen]), labels[chosen])
            update(network, loss, step)
            step += 1
    return network.eval(), inputs, labels


def assert_trained_as(result, network, inputs, labels):
    with torch.no_grad():
        expected = functional.cross_entropy(network(inputs), labels).item()
    assert result.status == "done"
    assert result.val_loss == pytest.approx(expected, rel=1e-5)
    assert result.val_loss < 1.5, "something was learnt, so that a wrong step shows"


@torch.no_grad()
def descend(weights, rate):
    for weight in weights:
        weight -= rate * weight.grad


def test_clipping_scales_all_gradients_together_to_the_norm():
    given = task(clip_norm=0.1, momentum=0.0, weight_decay=0.0, schedule="constant", warmup_fraction=0.0)

    def update(network, loss, step):
        network.zero_grad()
        torch.autograd.backward(loss)
        weights = list(network.parameters())
        norm = math.sqrt(sum(w.grad.square().sum().item() for w in weights))
        descend(weights, 0.05 * min(1.0, 0.1 / (norm + 1e-6)))
        assert norm > 0.1, "every step is clipped"

    assert_trained_as(train(given, TANH), *by_hand(given, update))


def test_averaged_weights_and_statistics_are_what_is_validated():
    decay = 0.8
    given = task(ema_decay=decay, momentum=0.0, weight_decay=0.0, schedule="constant", warmup_fraction=0.0)
    averages = {}

    def update(network, loss, step):
        network.zero_grad()
        torch.autograd.backward(loss)
        descend(network.parameters(), 0.05)
        for name, value in network.state_dict().items():
            if step == 0 or not value.is_floating_point():
                averages[name] = value.clone()
            else:
                averages[name] = decay * averages[name] + (1 - decay) * value

    network, inputs, labels = by_hand(given, update)
    plain = functional.cross_entropy(network(inputs), labels).item()
    network.load_state_dict(averages)
    result = train(given, TANH)
    assert_trained_as(result, network, inputs, labels)
    assert result.val_loss != pytest.approx(plain, rel=1e-3)


def test_an_average_begins_as_a_copy_that_shares_nothing():
    network = nn.Linear(2, 2)
    averaged = AveragedNetwork(network, 0.9)
    before = network.weight.clone()
    with torch.no_grad():
        network.weight.add_(1.0)
    assert torch.equal(averaged.module.weight, before)


def test_adamw_decays_matrices_and_leaves_vectors():
    network = small_network(nn.Tanh)
    groups = decay_groups(network, 0.05)
    assert [group["weight_decay"] for group in groups] == [0.05, 0.0]
    assert {id(p) for p in groups[0]["params"]} == {id(network[1].weight), id(network[4].weight)}
    assert len(groups[1]["params"]) == 4
    optimizer = make_optimizer(network, Recipe(optimizer="AdamW", learning_rate=0.1, weight_decay=0.05))
    assert type(optimizer) is torch.optim.AdamW
    before = [p.detach().clone() for p in network.parameters()]
    for weight in network.parameters():
        weight.grad = torch.zeros_like(weight)
    optimizer.step()
    for weight, old in zip(network.parameters(), before, strict=True):
        torch.testing.assert_close(weight.detach(), old * (1 - 0.1 * 0.05) if old.dim() == 2 else old)


def test_sgd_decays_all_weights_with_nesterov_momentum():
    (group,) = make_optimizer(small_network(nn.Tanh), Recipe(momentum=0.8, weight_decay=0.01)).param_groups
    assert (group["momentum"], group["weight_decay"], group["nesterov"]) == (0.8, 0.01, True)
    assert len(group["params"]) == 6


def test_frozen_weights_are_left_out():
    network = small_network(nn.Tanh)
    network[1].weight.requires_grad_(False)
    assert len(make_optimizer(network, Recipe()).param_groups[0]["params"]) == 5


def test_other_optimizers_are_timms():
    timm = pytest.importorskip("timm.optim")
    network = small_network(nn.Tanh)
    optimizer = make_optimizer(network, Recipe(optimizer="lamb", weight_decay=0.02))
    assert isinstance(optimizer, timm.Lamb)
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.02, 0.0]
    assert train(task(optimizer="lamb", schedule="cosine"), TANH).status == "done"


@pytest.mark.parametrize(("name", "reason"), [("adamm", "cannot be made"), ("adahessian", "second derivatives")])
def test_an_optimizer_that_cannot_be_had_is_named(name, reason):
    pytest.importorskip("timm.optim")
    with pytest.raises(TaskError, match=f"optimizer '{name}' .*{reason}"):
        train(task(optimizer=name), TANH)


@pytest.mark.parametrize(
    ("module", "recipe", "hint"),
    [
        ("timm.optim", {"optimizer": "lamb"}, "pip install timm"),
        ("torchvision.transforms.v2", {"mixup": 0.2}, "torchvision"),
    ],
)
def test_a_part_that_is_not_installed_is_named(monkeypatch, module, recipe, hint):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(TaskError, match=hint):
        train(task(**recipe), TANH)


def rates(recipe, n_steps):
    optimizer = make_optimizer(nn.Linear(2, 2), recipe)
    schedule = make_schedule(optimizer, recipe, n_steps)
    seen = []
    for _ in range(n_steps):
        seen.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return seen


def torchs_rates(scheduler, n_steps, **arguments):
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.4)
    schedule = scheduler(optimizer, **arguments)
    seen = []
    for _ in range(n_steps):
        seen.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return seen


def test_cosine_is_torchs_after_a_linear_rise():
    recipe = Recipe(learning_rate=0.4, schedule="cosine", warmup_fraction=0.2, final_fraction=0.1)
    seen = rates(recipe, 50)
    assert seen[:10] == pytest.approx([0.4 * (i + 1) / 11 for i in range(10)])
    assert seen[10:] == pytest.approx(torchs_rates(CosineAnnealingLR, 40, T_max=40, eta_min=0.04))


def test_steps_are_torchs_milestones():
    recipe = Recipe(learning_rate=0.4, schedule="step", warmup_fraction=0.0, milestones=(0.5, 0.75), decay=0.2)
    assert rates(recipe, 40) == pytest.approx(torchs_rates(MultiStepLR, 40, milestones=[20, 30], gamma=0.2))


def test_constant_is_constant_after_the_rise():
    recipe = Recipe(learning_rate=0.4, schedule="constant", warmup_fraction=0.5)
    assert rates(recipe, 4) == pytest.approx([0.4 / 3, 0.8 / 3, 0.4, 0.4])


def test_one_cycle_rises_and_falls_along_cosines():
    seen = rates(Recipe(learning_rate=0.4, warmup_fraction=0.25), 119)
    rise, fall = 0.25 * 120 - 1, 119 - (0.25 * 120 - 1)

    def between(a, b, share):
        return b + (a - b) * (1 + math.cos(math.pi * share)) / 2

    expected = [
        between(0.4 / 25, 0.4, t / rise) if t <= rise else between(0.4, 0.4 / 25 / 1e4, (t - rise) / fall)
        for t in range(119)
    ]
    assert seen == pytest.approx(expected)
    assert max(seen) == pytest.approx(0.4)


@pytest.mark.parametrize("schedule", ["one-cycle", "cosine", "step", "constant"])
@pytest.mark.parametrize("n_steps", [1, 2, 3, 4, 7])
def test_schedules_of_a_few_steps_are_positive_and_at_most_the_peak(schedule, n_steps):
    seen = rates(Recipe(learning_rate=0.4, schedule=schedule), n_steps)
    assert all(0 < rate <= 0.4 for rate in seen)


def test_the_learning_rate_of_each_epochs_first_step_is_kept():
    given = task(schedule="cosine", warmup_fraction=0.0, epochs=3)
    result = train(given, TANH)
    expected = [0.05 * learning_rate_factor(given.recipe, step, 9) for step in (0, 3, 6)]
    assert [epoch.learning_rate for epoch in result.epochs] == pytest.approx(expected)


def test_label_smoothing_is_in_the_training_loss_and_not_in_the_validation():
    given = task(label_smoothing=0.3, epochs=1, batch_size=50, learning_rate=1e-9)
    result = train(given, TANH)
    torch.manual_seed(0)
    network = given.network(nn.Tanh)
    inputs, labels = given.splits().train.tensors
    rows = network.train()(inputs).log_softmax(1).detach()
    hard = -rows[torch.arange(50), labels].mean().item()
    assert result.train_loss == pytest.approx(0.7 * hard - 0.3 * rows.mean().item(), rel=1e-5)
    rows = network.eval()(inputs).log_softmax(1).detach()
    assert result.val_loss == pytest.approx(-rows[torch.arange(50), labels].mean().item(), rel=1e-5)


def mixed(recipe, labels, n=64):
    generator = torch.Generator().manual_seed(1)
    inputs = torch.arange(n, dtype=torch.float32).reshape(n, 1, 1, 1).expand(n, 1, 8, 8).clone()
    return inputs, *BatchMixing(recipe, 4)(inputs, labels, generator)


def test_mixup_blends_neighbours_and_their_labels_by_the_same_share():
    pytest.importorskip("torchvision")
    labels = torch.arange(64) % 4
    inputs, outputs, targets = mixed(Recipe(mixup=0.8), labels)
    assert targets.sum(1).tolist() == pytest.approx([1.0] * 64)
    share = targets[1, 1].item()
    assert 0 < share < 1
    torch.testing.assert_close(outputs[1:], share * inputs[1:] + (1 - share) * inputs[:-1])


def test_cutmix_pastes_a_box_and_weighs_labels_by_its_area():
    pytest.importorskip("torchvision")
    inputs, outputs, targets = mixed(Recipe(cutmix=1.0), torch.arange(64) % 4)
    pasted = (outputs[1] != inputs[1]).double().mean().item()
    assert 0 < pasted < 1
    assert outputs[1].unique().tolist() == [0.0, 1.0]
    assert targets[1, 1].item() == pytest.approx(1 - pasted)


def test_with_both_each_batch_is_mixed_in_one_way_by_a_fair_coin():
    pytest.importorskip("torchvision")
    mixing, generator = BatchMixing(Recipe(mixup=0.8, cutmix=1.0), 2), torch.Generator().manual_seed(0)
    inputs = torch.arange(4.0).reshape(4, 1, 1, 1).expand(4, 1, 8, 8)
    before = torch.random.get_rng_state()
    blended = 0
    for _ in range(200):
        outputs, _ = mixing(inputs, torch.arange(4) % 2, generator)
        blended += bool((outputs[1] != outputs[1].round()).any())
    assert 75 < blended < 125
    assert torch.equal(torch.random.get_rng_state(), before)


def test_training_with_mixing_is_measured_on_the_labels_before():
    pytest.importorskip("torchvision")
    first = train(task(mixup=0.4, cutmix=1.0, epochs=6), TANH, seed=1)
    again = train(task(mixup=0.4, cutmix=1.0, epochs=6), TANH, seed=1)
    assert first.epochs[-1].train_score > 1 / 3
    assert [e.train_loss for e in first.epochs] == [e.train_loss for e in again.epochs]


def test_mixing_what_are_no_images_is_refused():
    pytest.importorskip("torchvision")
    given = task(mixup=0.2)
    flat = replace(given, data=lambda: Splits(*(TensorDataset(torch.zeros(9, 12), torch.zeros(9).long()),) * 3))
    with pytest.raises(TaskError, match=r"mixup and cutmix take images .* got \(9, 12\) and \(9,\)"):
        train(flat, TANH)


def test_augmentation_draws_from_a_generator_of_seed_and_epoch_alone():
    drawn = []

    def augment(inputs, generator):
        noise = torch.rand(inputs.shape, generator=generator)
        drawn.append(noise[0, 0, 0, 0].item())
        return inputs + noise

    given = task(augment=augment)
    first = train(given, TANH, seed=3)
    first_draws, drawn[:] = list(drawn), []
    assert train(given, TANH, seed=3).val_loss == first.val_loss
    assert drawn == first_draws
    assert len(set(drawn)) == 6, "three batches in each of two epochs"
    assert train(task(), TANH, seed=3).epochs[0].train_loss != first.epochs[0].train_loss


def test_bfloat16_is_used_and_recorded():
    plain = train(task(), TANH)
    low = train(task(precision="bfloat16"), TANH)
    assert (plain.precision, low.precision) == ("float32", "bfloat16")
    assert low.val_loss != plain.val_loss
    assert low.val_loss == pytest.approx(plain.val_loss, rel=0.05)


def test_outputs_reach_loss_and_metric_in_float32():
    arithmetic = Arithmetic(Recipe(precision="bfloat16"), CPU)
    outputs = arithmetic.forward(nn.Linear(4, 4), torch.randn(2, 4))
    assert outputs.dtype == torch.float32
    assert torch.equal(outputs, outputs.bfloat16().float())


def test_automatic_precision_is_float32_on_a_cpu():
    assert used_precision(Recipe(precision="auto"), CPU) == "float32"


def test_channels_last_gives_the_same_figures():
    def convolution(activation):
        return nn.Sequential(nn.Conv2d(3, 4, 2), activation(), nn.Flatten(), nn.Linear(4, 3))

    plain, last = (train(task(convolution, channels_last=value), TANH) for value in (False, True))
    assert last.val_loss == pytest.approx(plain.val_loss, rel=1e-4)
    arithmetic = Arithmetic(Recipe(channels_last=True), CPU)
    assert arithmetic.formatted(torch.zeros(2, 3, 4, 4)).is_contiguous(memory_format=torch.channels_last)
    assert arithmetic.prepared(convolution(nn.Tanh))[0].weight.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("asked", [True, False])
def test_tf32_is_on_only_where_asked_and_set_back(asked):
    def settings():
        return torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32

    before = settings()
    with process_settings(Recipe(tf32=asked), GPU):
        assert settings() == (("high", True) if asked else ("highest", False))
    assert settings() == before


class Scatter(nn.Module):
    """An operation that has no deterministic form, on any device."""

    def forward(self, x):
        return x + torch.zeros(6).put_(torch.tensor([0, 0]), torch.ones(2), accumulate=False).sum() * 0


def test_deterministic_mode_refuses_what_does_not_repeat_and_is_set_back(monkeypatch):
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)

    def scattering(activation):
        return nn.Sequential(small_network(activation), Scatter())

    assert train(task(deterministic=True), TANH).status == "done"
    with pytest.raises(RuntimeError, match="does not have a deterministic implementation"):
        train(task(scattering, deterministic=True), TANH)
    assert not torch.are_deterministic_algorithms_enabled()
    assert "CUBLAS_WORKSPACE_CONFIG" not in os.environ
    assert train(task(scattering), TANH).status == "done"
