"""The use of an activation function in a network: the part of the curve that each layer's inputs cover, before and
after training, and the size of gradients relative to those of another function, the task's reference.

Each input is classified by the slope of the curve there, relative to the identity's slope of 1, or to the largest slope
over the layer's inputs where that is smaller (the 95th percentile of its size, before and after training together):

- flat: the slope is under a tenth of that. `rectified` where the value is also near zero (within a tenth of the spread
  of the layer's outputs), `saturated` elsewhere;
- linear: not flat, and the slope changes by under a tenth over half the spread of the layer's inputs to each side, a
  quarter of a unit at most;
- curved: the rest.

The paper found by such a drawing that CoAtNet uses a sigmoidal winner like a rectifier at initialisation and like a
sigmoid after training (Bingham and Miikkulainen 2023, arXiv 2301.05785).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from aquasurf_ray.activations import Activation
from aquasurf_ray.counted import counted
from aquasurf_ray.workers.inspection import Inspection, NetworkState, Site

# The shares and distances of the three classes above.
FLAT = 0.1
BENT = 0.1
NEAR_ZERO = 0.1
MOST_REACH = 0.25

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Usage:
    """One layer's use of the curve, before or after training: shares of its inputs, which add up to 1, and their mean
    and spread."""

    linear: float
    curved: float
    saturated: float
    rectified: float
    mean: float
    spread: float


@dataclass(frozen=True)
class LayerUse:
    """One activation of the network before and after training, its function, and its role in a network with roles."""

    name: str
    before: Usage
    after: Usage
    function: str
    role: str = ""


@dataclass(frozen=True)
class Flow:
    """The size of one layer's weight gradient relative to the other function's in the same layer, before and after
    training."""

    name: str
    before: float
    after: float


@dataclass(frozen=True)
class Explanation:
    """The use of a function, or of one for each role, in a network.

    `flow` is relative to `reference`; it is empty, and that None, if the reference could not be trained on the task.
    """

    function: str
    layers: tuple[LayerUse, ...]
    flow: tuple[Flow, ...]
    reference: str | None = None


def explain(
    inspection: Inspection, reference: Inspection | None, role_of: Mapping[str, str] = MappingProxyType({})
) -> Explanation:
    """Summarise an inspection, relative to that of another function on the same task with the same seed.

    Args:
        role_of: the role of each activation by its name; empty for a network without roles.
    """
    pairs = zip(inspection.before.sites, inspection.after.sites, strict=True)
    layers = tuple(_layer(before, after, role_at(before.name, role_of)) for before, after in pairs)
    if reference is None:
        return Explanation(inspection.function, layers, ())
    return Explanation(inspection.function, layers, _flow(inspection, reference), reference.function)


def role_at(site: str, role_of: Mapping[str, str]) -> str:
    """Return the role of a site, whose name may end with the number of its call; "" without one.

    >>> role_at("block.act:2", {"block.act": "late"}), role_at("block.act", {"block.act": "late"})
    ('late', 'late')
    """
    return role_of.get(site) or role_of.get(site.rpartition(":")[0], "")


def _layer(before: Site, after: Site, role: str) -> LayerUse:
    function = Activation(before.function)
    found = np.abs(np.concatenate([slopes(function, before.inputs), slopes(function, after.inputs)]))
    # Not the maximum: the slope of some functions has a pole, next to which everything would be flat.
    steepest = float(np.quantile(found, 0.95))
    first, last = (usage(function, each.inputs, steepest) for each in (before, after))
    return LayerUse(before.name, first, last, before.function, role)


def usage(function: Activation, inputs: NDArray[np.floating[Any]], steepest: float) -> Usage:
    """Return how inputs [m] use the curve of a function whose largest slope is `steepest`.

    >>> relu = usage(Activation("relu(x)"), np.array([-2.0, -1.0, 1.0, 2.0]), 1.0)
    >>> relu.rectified, relu.linear, relu.saturated
    (0.5, 0.5, 0.0)
    """
    x = inputs.astype(np.float64)
    values, slope = values_and_slopes(function, x)
    reach = min(MOST_REACH, float(x.std()) / 2)
    nearby = np.stack([slopes(function, x - reach), slopes(function, x + reach)])
    flat = np.abs(slope) < FLAT * min(steepest, 1.0)
    zero = np.abs(values) <= NEAR_ZERO * (np.std(values) or 1.0)
    straight = (np.abs(nearby - slope) < BENT * np.abs(slope)).all(axis=0)
    shares = {
        "rectified": flat & zero,
        "saturated": flat & ~zero,
        "linear": ~flat & straight,
        "curved": ~flat & ~straight,
    }
    means = {name: float(np.mean(mask)) for name, mask in shares.items()}
    return Usage(**means, mean=float(x.mean()), spread=float(x.std()))


def values_and_slopes(function: Activation, x: Floats) -> tuple[Floats, Floats]:
    """Return the function and its derivative by autograd at x: float64 [m] each.

    >>> [part.tolist() for part in values_and_slopes(Activation("relu(x)"), np.array([-1.0, 2.0]))]
    [[0.0, 2.0], [0.0, 1.0]]
    """
    points = torch.from_numpy(np.asarray(x, dtype=np.float64).copy()).requires_grad_()
    values = function(points)
    if not values.requires_grad:  # a constant, or a step function without a gradient
        return values.detach().numpy(), np.zeros_like(x)
    (slope,) = torch.autograd.grad(values.sum(), points)
    return values.detach().numpy(), slope.numpy()


def slopes(function: Activation, x: NDArray[np.floating[Any]]) -> Floats:
    """Return the function's derivative at x, float64 [m]."""
    return values_and_slopes(function, np.asarray(x, dtype=np.float64))[1]


def _flow(inspection: Inspection, reference: Inspection) -> tuple[Flow, ...]:
    before = _ratios(inspection.before, reference.before)
    after = _ratios(inspection.after, reference.after)
    return tuple(Flow(name, before[name], after[name]) for name in before if name in after)


def _ratios(state: NetworkState, other: NetworkState) -> dict[str, float]:
    """Return the ratios of gradient sizes by layer; infinite where the other gradient vanishes."""
    sizes = {layer.name: layer.gradient_rms for layer in other.layers}
    return {
        layer.name: layer.gradient_rms / sizes[layer.name] if sizes.get(layer.name) else float("inf")
        for layer in state.layers
        if layer.name in sizes
    }


def in_words(explanation: Explanation) -> str:
    """Return a short text with the numbers."""
    layers = explanation.layers
    if not layers:
        return f"The network calls {explanation.function} nowhere."
    sentences = [_used(role, [layer for layer in layers if layer.role == role]) for role in _roles(layers)]
    moved = max(layers, key=_moved)
    before, after = moved.before, moved.after
    whose = "The" if len(sentences) > 1 else "Its"
    sentences.append(
        f"{whose} use changes most in {moved.name}: {_share_list(before)} before, {_share_list(after)} after training, "
        f"and its inputs move from {before.mean:.2f} ± {before.spread:.2f} to {after.mean:.2f} ± {after.spread:.2f}."
    )
    if explanation.flow:
        first, last = explanation.flow[0], explanation.flow[-1]
        sentences.append(
            f"The gradient of the first layer ({first.name}) is {first.before:.2g} times that with "
            f"{explanation.reference} before training and {first.after:.2g} times after; that of the last "
            f"({last.name}) is {last.before:.2g} and {last.after:.2g}."
        )
    return " ".join(sentences)


def _roles(layers: Sequence[LayerUse]) -> list[str]:
    return list(dict.fromkeys(layer.role for layer in layers))


def _used(role: str, layers: Sequence[LayerUse]) -> str:
    where = f"role {role}" if role else "the network"
    return (
        f"{layers[0].function} is used in {counted(len(layers), 'place')} of {where}. "
        f"Before training, its inputs lie {_shares(layers, 'before')}; after training, {_shares(layers, 'after')}."
    )


_PARTS = ("linear", "curved", "saturated", "rectified")
_WORDS = {
    "linear": "on a straight part",
    "curved": "on a bend",
    "saturated": "where it is flat",
    "rectified": "where it is off",
}


def _shares(layers: Sequence[LayerUse], moment: str) -> str:
    """Return the mean shares over the layers, largest first, without those below 1%."""
    means = {part: float(np.mean([getattr(getattr(layer, moment), part) for layer in layers])) for part in _PARTS}
    shares = [f"{_WORDS[part]} {share:.0%}" for part, share in _descending(means) if share >= 0.01]
    return f"{', '.join(shares)} of the time"


def _share_list(use: Usage) -> str:
    shares = {part: float(getattr(use, part)) for part in _PARTS}
    return ", ".join(f"{part} {share:.0%}" for part, share in _descending(shares) if share >= 0.01)


def _descending(shares: dict[str, float]) -> list[tuple[str, float]]:
    return sorted(shares.items(), key=lambda item: -item[1])


def _moved(layer: LayerUse) -> float:
    return sum(abs(float(getattr(layer.after, part)) - float(getattr(layer.before, part))) for part in _PARTS)
