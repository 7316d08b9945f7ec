"""Runs a network once, forward and backward, and collects the Fisher blocks of its weights.

`WeightUses` sees the operations, `left_as_found` puts everything back. Parameters are frozen meanwhile, so the backward
pass computes no weight gradients.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from aquasurf_ray.tasks import TaskError
from aquasurf_ray.tasks.inputs import call_network, map_tensors, tensors_of
from aquasurf_ray.tasks.outputs import output_of
from aquasurf_ray.workers.fisher.coverage import Coverage
from aquasurf_ray.workers.fisher.errors import NoLayers, SpectrumInputError
from aquasurf_ray.workers.fisher.factors import BlockFactors
from aquasurf_ray.workers.fisher.left_as_found import left_as_found
from aquasurf_ray.workers.fisher.uses import Block, WeightUses, trained_weights

Loss = Callable[[Tensor], Tensor]


def collect_factors(
    model: nn.Module, inputs: Any, loss: Loss, *, seed: int, padded: bool = False
) -> tuple[list[BlockFactors], Coverage]:
    """Return the factors of every weight whose products get a gradient, in the order of `trained_weights(model)`.

    Args:
        model: used in the mode, precision and on the device that it has.
        inputs: one batch: a tensor [n, ...], or a tuple or dictionary of such.
        loss: the summed loss, a scalar, of the model's output.
        seed: the seed of dropout masks and whatever else the model draws.
        padded: some targets do not count, so rows without any gradient do not either.

    Raises:
        NoLayers: no weight has a block, or none gets a gradient.
        NonFiniteSpectrum: the input or gradient of a product, or the outputs, are not finite.
        SpectrumInputError: the model has parameters without a shape, returns no tensor, or differentiates by its own
            weights in its forward pass.
    """
    trained = trained_weights(model)
    lazy = [name for name, p in trained.items() if isinstance(p, nn.parameter.UninitializedParameter)]
    if lazy:
        raise SpectrumInputError(f"parameter '{lazy[0]}' has no shape yet; run the model once on a batch before")
    if not any(p.dim() > 1 for p in trained.values()):
        raise NoLayers("the model has no trained matrix, such as a Linear or Conv2d layer; a Fisher spectrum needs one")
    uses = WeightUses(model, at_gradient=padded)
    inputs = map_tensors(inputs, lambda tensor: tensor.detach().clone())
    with left_as_found(model, tensors_of(inputs), seed), torch.enable_grad():
        _run(model, inputs, loss, uses)
    order = {name: i for i, name in enumerate(trained)}
    found = sorted((b for b in uses.blocks if b.factors.has_gradient), key=lambda b: order[next(iter(b.names))])
    coverage = Coverage.of({name: p.shape for name, p in trained.items()}, found, uses.other_uses)
    if not found:
        raise NoLayers(f"no weight with a Fisher block gets a gradient; left out: {coverage.left_out_text()}")
    _number_names(found)
    return [block.factors for block in found], coverage


def _run(model: nn.Module, inputs: Any, loss: Loss, uses: WeightUses) -> None:
    try:
        with uses:
            returned = call_network(model, inputs)
    except RuntimeError as error:
        if "does not require grad" not in str(error):
            raise
        raise SpectrumInputError(
            "the network has no spectrum: its forward pass differentiates by its own weights, which are frozen here: "
            f"{error}"
        ) from error
    try:
        outputs = output_of(returned)
    except TaskError as error:
        raise SpectrumInputError(str(error)) from error
    value = loss(outputs)
    uses.is_backward = True
    if value.requires_grad:
        with uses:
            torch.autograd.backward(value)


def _number_names(blocks: list[Block]) -> None:
    """Number the parts of one weight, such as the three projections of attention."""
    n_of = Counter(block.factors.name for block in blocks)
    seen: Counter[str] = Counter()
    for block in blocks:
        name = block.factors.name
        if n_of[name] > 1:
            block.factors.name = f"{name}[{seen[name]}]"
            seen[name] += 1
