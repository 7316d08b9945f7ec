"""The health gate: refuses functions whose first training step shows that they cannot be trained.

The network, the batch, the dropout masks and the precision are those that the training would begin with. So a loss or
a gradient that is not finite here is not finite there, and the training would end as diverged. All other refusals
except `exploding-gradient` also need outputs that are exactly the same for all examples: vanishing gradients or
saturated units alone are not a reason, because a network trains its last layer whatever happens below it, and neither
are outputs that differ in their last bits only. On `digits-mlp`, whose six layers shrink small values to nothing and
whose optimiser does not depend on the size of gradients, `sub(bessel_i1e(x),swish(x))` begins with outputs that differ
by 5e-7 of their size, and reaches an accuracy of 0.93.

The refusals were held against the scores of whole spaces, 2,791 functions on each of five networks
(`benchmarks/evidence/health_gate.py`): a refused function reaches an accuracy of 0.126 at most, where chance is 0.1,
and in the regression an error of 0.98, where ReLU's is 0.23.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from aquasurf_ray.activations import Activation, Expression, RoleActivations, factory_of, lean_factory
from aquasurf_ray.activations.learned import learned_parameters
from aquasurf_ray.tasks.inputs import call_network
from aquasurf_ray.tasks.losses import scalar_loss
from aquasurf_ray.tasks.outputs import output_of
from aquasurf_ray.workers.engine.feed import Step, TrainingFeed
from aquasurf_ray.workers.engine.precision import process_settings
from aquasurf_ray.workers.engine.seeding import seeded
from aquasurf_ray.workers.faults import FunctionFault
from aquasurf_ray.workers.network import sized_network

REFUSED = "refused by the health gate"
KINDS = ("non-finite-forward", "non-finite-backward", "vanishing-gradient", "exploding-gradient", "saturated")
FLAT = 1e-6  # slopes below this count as zero
SAMPLE = 65_536  # units whose slope is measured


class Unhealthy(FunctionFault):
    """The function cannot be trained; the message begins with one of `KINDS`."""


def is_refusal(reason: str) -> bool:
    """Return whether the reason of a divergence is the gate's, on this process or another that trained with it.

    >>> is_refusal("saturated: share 1 of units"), is_refusal("training loss became nan by step 3 of epoch 1")
    (True, False)
    """
    return reason.partition(":")[0] in KINDS


@dataclass(frozen=True)
class HealthLimits:
    """The limits beyond which a function is refused.

    Args:
        min_gradient_gain, max_gradient_gain: bounds of `Health.gradient_gain`.
        max_saturated_share: the largest `Health.saturated_share` that is not refused.
        max_output_spread: a small gain or a large saturated share is refused only where `Health.output_spread` is at
            most this.
    """

    min_gradient_gain: float = 1e-3
    max_gradient_gain: float = 1e8
    max_saturated_share: float = 0.999
    max_output_spread: float = 0.0


@dataclass(frozen=True)
class Health:
    """Measurements at the first training step.

    Attributes:
        loss: the training loss.
        gradient_gain: |dL/dz_1| / |dL/dz_n|: Euclidean norms of the loss's gradient with respect to the whole batch's
            inputs of the first and of the last activation that is called: the factor by which the layers in between
            amplify a gradient. 1 with a single activation, and where the last one's gradient is zero, which says
            nothing about depth: a residual branch that starts at zero gets no gradient either.
        saturated_share: the share of units with |phi'(z)| < 1e-6, in the activation where it is largest, of 65,536
            units at most.
        output_spread: the standard deviation of the outputs over the batch's examples, root mean square over all
            outputs, relative to the outputs' own root mean square; 0 where all examples get the same outputs. In
            float32 whatever the training uses, because bfloat16 makes outputs equal that differ by 0.4%.
    """

    loss: float
    gradient_gain: float
    saturated_share: float
    output_spread: float


def check_health(
    feed: TrainingFeed, activation: Activation | RoleActivations, *, limits: HealthLimits = HealthLimits()
) -> Health:
    """Measure the first step of the training that `feed` is for, and refuse the function where that is beyond the
    limits.

    Raises:
        Unhealthy: `non-finite-forward`, `non-finite-backward`, `vanishing-gradient`, `exploding-gradient` or
            `saturated`, followed by what was measured.
        torch.OutOfMemoryError, TaskError, and whatever the data set raises.
    """
    with process_settings(feed.task.recipe, feed.device):
        health = _measured(feed, activation)
    _judge(health, limits)
    return health


def _judge(health: Health, limits: HealthLimits) -> None:
    gain, share, spread = health.gradient_gain, health.saturated_share, health.output_spread
    if gain > limits.max_gradient_gain:
        raise Unhealthy(f"exploding-gradient: gain {gain:.3g} over depth is above {limits.max_gradient_gain:g}")
    if spread > limits.max_output_spread:
        return
    same = "and all examples get the same outputs"
    if gain < limits.min_gradient_gain:
        raise Unhealthy(f"vanishing-gradient: gain {gain:.3g} over depth is below {limits.min_gradient_gain:g}, {same}")
    if share > limits.max_saturated_share:
        raise Unhealthy(f"saturated: share {share:.4f} of units is above {limits.max_saturated_share:g}, {same}")


class _Recorder:
    """Makes the network's activations, and records their inputs and saturation while it is recording."""

    def __init__(self) -> None:
        self._recording = False
        self.inputs: list[Tensor] = []
        self.shares: list[Tensor] = []

    def make(self, expression: Expression) -> nn.Module:
        """Return a new activation."""
        module = lean_factory(expression)()  # so that the gate needs no more memory than a training
        module.register_forward_hook(self._note)
        return module

    def start(self) -> None:
        """Begin to record."""
        self._recording = True

    def stop(self) -> None:
        """End recording."""
        self._recording = False

    def _note(self, module: Activation, arguments: tuple[Any, ...], output: Tensor) -> None:
        if not self._recording:
            return
        z = arguments[0]
        # Hooks of its own, because a checkpointed layer counts what is saved and runs again without this measurement.
        with torch.autograd.graph.saved_tensors_hooks(lambda tensor: tensor, lambda tensor: tensor):
            self.shares.append(_saturated_share(module, z))
        if z.requires_grad:
            self.inputs = [*self.inputs[:1], z]  # only the first and the last are needed


def _measured(feed: TrainingFeed, activation: Activation | RoleActivations) -> Health:
    arithmetic, device = feed.arithmetic, feed.device
    recorder = _Recorder()
    make = factory_of(activation.expression, recorder.make)
    untrained = sized_network(feed.task, feed.splits, make, seed=feed.seed, device=device)
    network = arithmetic.prepared(untrained)
    with seeded(feed.epoch_seed(1), device):
        step = feed.first_step(network)
        recorder.start()
        outputs, loss = _forward(feed, network, step)
        recorder.stop()
        if arithmetic.precision != "float32":
            with torch.no_grad():
                outputs = output_of(call_network(network, step.inputs))
    ends = recorder.inputs
    trained = _trained(network)
    gradients = torch.autograd.grad(loss, [*trained, *ends], allow_unused=True)
    _refuse_non_finite(gradients, network)
    return Health(
        loss=loss.item(),
        gradient_gain=_gain(gradients[len(trained) :]),
        saturated_share=max((share.item() for share in recorder.shares), default=0.0),
        output_spread=_spread(outputs.detach()),
    )


def _forward(feed: TrainingFeed, network: nn.Module, step: Step) -> tuple[Tensor, Tensor]:
    outputs = feed.arithmetic.forward(network, step.inputs)
    recipe = feed.task.recipe
    training_loss = feed.objective.training_loss(recipe.label_smoothing, mixes=recipe.mixes)
    loss = scalar_loss(training_loss(outputs, step.targets), feed.objective.loss)
    if not loss.isfinite():
        feed.objective.refuse_ruled_out(
            outputs.detach(), step.targets, mixes=recipe.mixes, label_smoothing=recipe.label_smoothing
        )
        share = 1 - outputs.isfinite().double().mean().item()
        raise Unhealthy(f"non-finite-forward: first training loss is {loss.item()}, {share:.1%} of outputs not finite")
    return outputs, loss


def _refuse_non_finite(gradients: tuple[Tensor | None, ...], network: nn.Module) -> None:
    bad = [g is not None and not bool(g.isfinite().all()) for g in gradients]
    if not any(bad):
        return
    broken = {id(p) for p, is_bad in zip(_trained(network), bad, strict=False) if is_bad}
    learned = [f"{p.name} of layer '{p.layer}'" for p in learned_parameters(network) if id(p.tensor) in broken]
    also = f", among them those by the learned parameter {learned[0]}" if learned else ""
    raise Unhealthy(f"non-finite-backward: {sum(bad)} of {len(gradients)} first gradients not finite{also}")


def _trained(network: nn.Module) -> list[nn.Parameter]:
    return [p for p in network.parameters() if p.requires_grad]


def _saturated_share(activation: Activation, z: Tensor) -> Tensor:
    # An odd stride, because an even one could sample the same column of every image.
    stride = -(-z.numel() // SAMPLE) | 1
    sample = z.detach().flatten()[::stride].clone().requires_grad_()
    # Each sampled unit with the parameters of its own channel.
    parameters = [p.detach().expand(z.shape).flatten()[::stride] for p in activation.parameters_at(z)]
    with torch.enable_grad():
        (slope,) = torch.autograd.grad(activation.values(sample, parameters).sum(), sample)
    return (slope.abs() < FLAT).double().mean()


def _gain(ends: tuple[Tensor | None, ...]) -> float:
    norms = [0.0 if end is None else end.double().norm().item() for end in ends]
    if len(norms) < 2 or norms[1] == 0:
        return 1.0
    return norms[0] / norms[1]


def _spread(outputs: Tensor) -> float:
    values = outputs.double()
    values = torch.where(values == -torch.inf, 0.0, values)  # minus infinity rules a class out on purpose
    if len(values) < 2:
        return math.inf
    size = values.square().mean().sqrt().item()
    deviation = values.var(dim=0, unbiased=False).mean().sqrt().item()
    return deviation / size if size > 0 else 0.0
