"""The gate refuses what cannot come to anything, with the kind of trouble first, and nothing that trains."""

from __future__ import annotations

import math
import re
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint
from torch.utils.data import TensorDataset

from aquasurf_ray.activations import Activation, register_unary, unregister
from aquasurf_ray.tasks import Recipe, Splits, Task, load_task
from aquasurf_ray.workers.cost import measure_cost
from aquasurf_ray.workers.engine import feed
from aquasurf_ray.workers.engine.batches import Share, batch_source
from aquasurf_ray.workers.engine.feed import TrainingFeed
from aquasurf_ray.workers.engine.form import chosen_form, named_form
from aquasurf_ray.workers.engine.health import HealthLimits, Unhealthy, check_health
from aquasurf_ray.workers.training import train

CPU = torch.device("cpu")
SQUASHED = "sigmoid(" * 10 + "x" + ")" * 10  # 0.659 for every input, up to rounding
NO_LIMITS = HealthLimits(0.0, math.inf, 1.0, 0.0)


@pytest.fixture(scope="module")
def digits():
    torch.set_num_threads(1)
    return load_task("digits")


def checked(task, function, limits=HealthLimits(), seed=0):  # noqa: B008
    return check_health(TrainingFeed(task, task.splits(), CPU, seed=seed), Activation(function), limits=limits)


def steep(x):
    return x * 1e6


class NanSlope(torch.autograd.Function):
    @staticmethod
    def forward(context, x):
        return x.clone()

    @staticmethod
    def backward(context, gradient):
        return gradient * math.nan if gradient.dim() > 1 else gradient


def nan_slope(x):
    return NanSlope.apply(x)


@pytest.fixture(scope="module")
def own_operators():
    for function in (steep, nan_slope):
        register_unary(function.__name__, function)
    yield
    for function in (steep, nan_slope):
        unregister(function.__name__)


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        ("exp(exp(exp(x)))", "non-finite-forward: first training loss is "),
        ("nan_slope(x)", r"non-finite-backward: \d+ of 10 first gradients not finite"),
        (SQUASHED, r"vanishing-gradient: gain .* below 0.001, and all examples get the same"),
        ("steep(x)", r"exploding-gradient: gain .* over depth is above 1e\+08"),
        ("max(one(x),min(x,one(x)))", "constant"),
    ],
)
def test_what_cannot_be_trained_is_refused_with_its_kind(digits, own_operators, function, reason):
    result = train(digits, Activation(function), gate=HealthLimits())
    assert result.status == "diverged"
    assert result.epochs == ()
    assert re.search(reason, result.reason)


def test_saturated_units_are_refused_where_the_outputs_are_the_same(digits):
    flat = "max(one(x),mul(x,erf(x)))"
    limits = HealthLimits(min_gradient_gain=0.0, max_saturated_share=0.1, max_output_spread=math.inf)
    with pytest.raises(Unhealthy, match=r"saturated: share 0\.\d+ of units is above 0.1, and all examples"):
        checked(digits, flat, limits)
    checked(digits, flat, replace(limits, max_output_spread=0.0))


@pytest.mark.parametrize(
    "function",
    ["relu(x)", "selu(x)", "tanh(x)", "sigmoid(x)", "max(zero(x),negative(x))",
     "pow(bessel_i0e(x),exp(x))", "sub(one(x),tanh(x))", "sub(identity(x),arcsinh(x))"],
)  # fmt: skip
def test_nothing_that_was_seen_to_train_is_refused(digits, function):
    """Those with the smallest gain, the smallest spread and the most saturated units among them."""
    checked(digits, function)


@pytest.mark.parametrize(
    "function", ["sub(bessel_i1e(x),swish(x))", "mul(swish(x),tanh(x))", "sub(identity(x),elu(x))"]
)
def test_outputs_that_are_nearly_the_same_are_no_reason(function):
    """They differ by less than a millionth of their size, the gradients vanish; the functions reach 0.86 to 0.93."""
    task = load_task("digits-mlp")
    health = checked(task, function)
    assert 0 < health.output_spread < 1e-6
    assert health.gradient_gain < HealthLimits().min_gradient_gain


def two_layers(activation):
    return nn.Sequential(
        nn.Linear(3, 4, bias=False), activation(), nn.Linear(4, 4, bias=False), activation(), nn.Linear(4, 2)
    )


@pytest.fixture(scope="module")
def made():
    inputs = torch.randn(6, 3, generator=torch.Generator().manual_seed(5))
    split = TensorDataset(inputs, torch.tensor([0, 1, 0, 1, 1, 0]))
    return Task("made", two_layers, lambda: Splits(split, split, split), Recipe(epochs=1, batch_size=6))


def test_figures_are_those_of_the_formulas(made):
    health = checked(made, "tanh(x)", NO_LIMITS)
    torch.manual_seed(0)
    layers = two_layers(nn.Identity)
    inputs, labels = made.splits().train.tensors
    z1 = layers[0](inputs)
    z2 = layers[2](z1.tanh())
    outputs = layers[4](z2.tanh())
    loss = functional.cross_entropy(outputs, labels)
    first, last = torch.autograd.grad(loss, [z1, z2])
    assert health.loss == pytest.approx(loss.item(), rel=1e-6)
    assert health.gradient_gain == pytest.approx((first.norm() / last.norm()).item(), rel=1e-5)
    assert health.saturated_share == 0
    spread = outputs.var(0, unbiased=False).mean().sqrt() / outputs.square().mean().sqrt()
    assert health.output_spread == pytest.approx(spread.item(), rel=1e-5)


def test_the_saturated_share_is_of_the_worst_activation(made):
    health = checked(made, "relu(x)", NO_LIMITS)
    torch.manual_seed(0)
    layers = two_layers(nn.Identity)
    z1 = layers[0](made.splits().train.tensors[0])
    z2 = layers[2](z1.relu())
    assert health.saturated_share == max((z <= 0).double().mean().item() for z in (z1, z2))


def test_the_first_loss_is_the_one_that_training_begins_with(digits):
    one_step = replace(digits, recipe=replace(digits.recipe, epochs=1, batch_size=899, learning_rate=1e-9))
    health = checked(one_step, "swish(x)", seed=4)
    assert train(one_step, Activation("swish(x)"), seed=4).train_loss == pytest.approx(health.loss, rel=1e-6)


def test_the_gate_changes_nothing_of_a_training(digits):
    brief = replace(digits, recipe=replace(digits.recipe, epochs=1))
    before = torch.random.get_rng_state()
    plain, gated = (train(brief, Activation("swish(x)"), gate=gate) for gate in (None, HealthLimits()))
    assert (plain.val_loss, plain.test_loss) == (gated.val_loss, gated.test_loss)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_outputs_that_only_bfloat16_makes_equal_are_not_called_equal(digits):
    low = replace(digits, recipe=replace(digits.recipe, precision="bfloat16"))
    exact, rounded = (checked(t, "sigmoid(x)", NO_LIMITS).output_spread for t in (digits, low))
    assert rounded == pytest.approx(exact, rel=0.05)


class Branch(nn.Module):
    """A residual branch whose last layer starts at zero, as in ReZero and Fixup."""

    def __init__(self, activation):
        super().__init__()
        self.first, self.activation, self.last = nn.Linear(32, 32), activation(), nn.Linear(32, 32)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)

    def forward(self, x):
        return x + self.last(self.activation(self.first(x)))


def residual(activation):
    stem = nn.Flatten(), nn.Linear(64, 32), activation()
    return nn.Sequential(*stem, Branch(activation), Branch(activation), nn.Linear(32, 10))


@pytest.mark.parametrize("function", ["relu(x)", "swish(x)", "tanh(x)"])
def test_residual_branches_that_start_at_zero_are_healthy(digits, function):
    assert checked(replace(digits, network=residual), function).gradient_gain == 1


class Small(nn.Module):
    """Takes no more than 32 examples at once, like a GPU whose memory ends there."""

    def __init__(self, activation):
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(64, 8), activation(), nn.Linear(8, 10))

    def forward(self, x):
        if len(x) > 32:
            raise torch.OutOfMemoryError(f"{len(x)} examples")
        return self.layers(x)


def test_what_comes_before_a_training_takes_no_more_of_a_batch_than_the_training(digits):
    task, swish, half = replace(digits, network=Small), Activation("swish(x)"), Share(1, 2)
    shared, whole = (TrainingFeed(task, task.splits(), CPU, seed=0, **share) for share in ({"share": half}, {}))
    check_health(shared, swish)
    measure_cost(shared, swish)
    sizes = []
    chosen_form(lambda request: sizes.append(request.n_elements), shared, swish, kept=None)
    assert sizes == [32 * 8]
    with pytest.raises(torch.OutOfMemoryError, match="64 examples"):
        check_health(whole, swish)


def test_gate_choice_and_training_take_their_batches_from_one_source(digits, monkeypatch):
    made = []
    monkeypatch.setattr(feed, "batch_source", lambda *given, **more: made.append(given) or batch_source(*given, **more))
    short = replace(digits, recipe=replace(digits.recipe, epochs=1))
    swish = Activation("swish(x)")
    train(short, swish, gate=HealthLimits(), choose_form=lambda request: named_form(request.activation))
    assert len(made) == 1


def test_a_refusal_is_no_whole_training(digits):
    result = train(digits, Activation(SQUASHED), gate=HealthLimits())
    assert (result.status, result.stopped_early) == ("diverged", "refused by the health gate")
    assert result.reason.startswith("saturated: ") or result.reason.startswith("vanishing-gradient: ")
    late = train(replace(digits, recipe=replace(digits.recipe, learning_rate=1e30)), Activation("relu(x)"))
    assert (late.status, late.stopped_early) == ("diverged", None)


class CheckpointedLayers(nn.Module):
    """Runs its activation again in the backward pass, and compares what is saved both times."""

    def __init__(self, activation):
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(64, 16), activation(), nn.Linear(16, 10))

    def forward(self, x):
        return checkpoint(self.layers, x, use_reentrant=False)


def test_layers_under_a_checkpoint_have_the_health_that_they_have_without(digits):
    plain = replace(digits, network=lambda activation: CheckpointedLayers(activation).layers)
    assert checked(replace(digits, network=CheckpointedLayers), "tanh(x)") == checked(plain, "tanh(x)")
