"""Whether a network whose activations can be exchanged is still the user's: with its own activations put back into the
places of the searched function, it must give the outputs that it gave before.

It does not where its code does more with an activation than use its values: a write into the input that nothing
repeats, or a branch on its class. All weights are moved a little before, because zeros would hide a difference.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from aquasurf_ray.network_state import modes_and_buffers_kept, move_weights
from aquasurf_ray.tasks.inputs import Inputs, call_network, map_tensors, tensors_of
from aquasurf_ray.tasks.outputs import output_of
from aquasurf_ray.tasks.seeding import seeded

TOLERANCE = 1e-4
"""The share of the largest output that is rounding: another order of float32 arithmetic gives about 1e-6 of it."""


@dataclass(frozen=True)
class Difference:
    """The largest difference of two networks' outputs, and the largest output, both in absolute value; `places` are
    those where the activations alone make a difference."""

    by: float
    largest: float
    mode: str
    places: Mapping[str, str]


def difference_of_own(
    make: Callable[[], nn.Module],
    put_back: Callable[[nn.Module, set[str] | None], Mapping[str, str]],
    inputs: Inputs,
) -> Difference | None:
    """Return how much the outputs change when the network's own activations are put back; None if only by rounding, or
    if two networks with the same seed differ without that.

    Args:
        make: makes the network with its own activations; its weights are moved.
        put_back: changes a network's activations of these names, by default all, and returns their descriptions by
            name.
        inputs: a batch (n, ...), n at least 2 where there is batch norm; it is left as it is.
    """
    device = tensors_of(inputs)[0].device

    def new() -> nn.Module:
        with seeded(0, torch.device("cpu")):
            model = make()
        move_weights(model)
        return model.to(device)

    def outputs(model: nn.Module) -> dict[str, Tensor]:
        return {mode: _outputs(model, inputs, mode == "training", device) for mode in ("training", "evaluation")}

    # A new network each time, since a pass may leave its traces in one.
    expected, changed = outputs(new()), new()
    places = put_back(changed, None)
    found = outputs(changed)
    mode = _differing(expected, found)
    # A network that draws its weights, or numbers, from a source of its own is another one each time.
    if mode is None or _differing(expected, outputs(new())) is not None:
        return None
    guilty = {}
    for name, described in places.items():
        alone = new()
        put_back(alone, {name})
        if _differing(expected, outputs(alone)) is not None:
            guilty[name] = described
    first, second = expected[mode], found[mode]
    by = float((second - first).abs().max()) if first.shape == second.shape else float("inf")
    return Difference(by, float(first.abs().max()), mode, guilty)


@torch.no_grad()
def _outputs(model: nn.Module, inputs: Inputs, training: bool, device: torch.device) -> Tensor:
    with modes_and_buffers_kept(model), seeded(0, device):
        return output_of(call_network(model.train(training), map_tensors(inputs, torch.clone))).float().clone()


def _differing(expected: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> str | None:
    """Return the first mode in which the outputs differ by more than rounding, or None; other checks report outputs
    that are not finite."""
    for mode, first in expected.items():
        second, largest = found[mode], float(first.abs().max()) if first.numel() else 0.0
        if first.shape != second.shape:
            return mode
        if math.isfinite(largest) and not torch.allclose(first, second, rtol=0, atol=TOLERANCE * largest):
            return mode
    return None
