"""Runs a network once, forward and backward, and collects the Fisher blocks of its weights.

`WeightUses` sees the operations, `left_as_found` puts everything back. Parameters are frozen meanwhile, so the backward
pass computes no weight gradients.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from aquasurf_ray.tasks import TaskError
from aquasurf_ray.tasks.inputs import call_network, map_tensors, tensors_of
from aquasurf_ray.tasks.outputs import output_of
from aquasurf_ray.workers.fisher.batch_loss import SummedLoss
from aquasurf_ray.workers.fisher.blocks import Block, trained_weights
from aquasurf_ray.workers.fisher.coverage import Coverage
from aquasurf_ray.workers.fisher.errors import NoLayers, SpectrumError, SpectrumInputError, UncertainRowsWarning
from aquasurf_ray.workers.fisher.left_as_found import left_as_found
from aquasurf_ray.workers.fisher.padding import Padding
from aquasurf_ray.workers.fisher.use_counting import Pass
from aquasurf_ray.workers.fisher.weight_uses import WeightUses

Loss = Callable[[Tensor], SummedLoss]


def collect_blocks(
    model: nn.Module, inputs: Any, loss: Loss, *, seed: int, padding: Padding | None = None
) -> tuple[list[Block], Coverage]:
    """Return the block of every weight whose products get a gradient, in the order of `trained_weights(model)`.

    Args:
        model: used in the mode, precision and on the device that it has.
        inputs: one batch: a tensor [n, ...], or a tuple or dictionary of such.
        loss: the summed loss of the model's output.
        seed: the seed of dropout masks and whatever else the model draws.
        padding: the targets, if some do not count.

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
    if any(t.is_inference() for t in (*model.parameters(), *model.buffers())):
        raise SpectrumInputError("the model was made in inference mode, which has no gradients; make it outside")
    if not any(p.dim() > 1 for p in trained.values()):
        raise NoLayers("the model has no trained matrix, such as a Linear or Conv2d layer; a Fisher spectrum needs one")
    with torch.inference_mode(False):  # which a caller may be in
        return _collected(model, inputs, loss, trained, WeightUses(model, padding), seed)


def _collected(
    model: nn.Module, inputs: Any, loss: Loss, trained: Mapping[str, nn.Parameter], uses: WeightUses, seed: int
) -> tuple[list[Block], Coverage]:
    inputs = map_tensors(inputs, lambda tensor: tensor.detach().clone())
    with left_as_found(model, tensors_of(inputs), seed), torch.enable_grad(), uses.autograd_functions_seen():
        _run(model, inputs, loss, uses, seed)
    order = {name: i for i, name in enumerate(trained)}
    found = sorted((b for b in uses.blocks.found if b.factors.has_gradient), key=lambda b: order[next(iter(b.names))])
    hidden = _with_hidden_uses(model, inputs, loss, seed, _silent(trained, found, uses))
    for name in hidden:
        uses.other_uses[name].add("an operation that is not seen, such as those of TorchScript")
    shapes = {name: p.shape for name, p in trained.items()}
    coverage = Coverage.of(shapes, found, uses.other_uses, uses.in_products)
    if not found:
        raise NoLayers(f"no weight with a Fisher block gets a gradient; left out: {coverage.left_out_text()}")
    _number_names(found)
    if uses.counting.uncertain:
        names = ", ".join(uses.counting.uncertain)
        warnings.warn(
            "some targets do not count, and neither gradients nor shapes tell whether some rows do, which are counted, "
            f"of: {names}",
            UncertainRowsWarning,
            stacklevel=4,
        )
    return found, coverage


def _run(model: nn.Module, inputs: Any, loss: Loss, uses: WeightUses, seed: int) -> None:
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
    summed = loss(outputs)
    if summed.value.requires_grad:
        with uses:
            if summed.counted is not None:
                _find_counted_rows(summed.outputs, summed.counted, uses, seed)
            uses.counting.begin(Pass.LOSS)
            with _as_further_pass(is_further=summed.counted is not None):
                torch.autograd.backward(summed.value)
    uses.counting.count_unreached()
    uses.note_functions()


def _find_counted_rows(outputs: Tensor, counted: Tensor, uses: WeightUses, seed: int) -> None:
    """Find out which rows count, by gradients from the outputs of targets that do not count and from all others."""
    draw = torch.Generator().manual_seed(seed)
    noise = torch.randn(outputs.shape, generator=draw, dtype=torch.float64).to(outputs)
    noise = torch.where(outputs.detach().isfinite(), noise, 0)  # a class that is ruled out has no gradient
    for each, rows in ((Pass.PADDING, ~counted), (Pass.COUNTED, counted)):
        uses.counting.begin(each)
        with _as_further_pass(is_further=each is not Pass.PADDING):
            torch.autograd.backward(outputs, torch.where(rows, noise, 0), retain_graph=True)
    uses.counting.decide()


@contextmanager
def _as_further_pass(*, is_further: bool) -> Iterator[None]:
    """Raise what a further backward pass raises, after one that ended, as one sentence.

    An autograd function that frees what it keeps, and selective checkpoints, allow no second pass.
    """
    try:
        yield
    except (SpectrumError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # the backward pass runs the network's own code
        if not is_further:
            raise
        raise SpectrumInputError(
            "some targets do not count, which takes three backward passes through the network, and only the first "
            f"one runs: {type(error).__name__}: {error}"
        ) from error


def _silent(trained: Mapping[str, nn.Parameter], found: Sequence[Block], uses: WeightUses) -> list[str]:
    """Return the names of the matrices of which no use was seen that could have a gradient."""
    seen = {name for block in found for name in block.names} | {name for name, own in uses.other_uses.items() if own}
    return [name for name, p in trained.items() if p.dim() > 1 and name not in seen]


def _with_hidden_uses(model: nn.Module, inputs: Any, loss: Loss, seed: int, names: Sequence[str]) -> list[str]:
    """Return which of some matrices have a gradient all the same, in the pass of a training.

    Their operations are not seen: those of TorchScript, or of other libraries than PyTorch.
    """
    if not names:
        return []
    weights = {name: p for name, p in trained_weights(model).items() if name in names}
    with left_as_found(model, tensors_of(inputs), seed), torch.enable_grad():
        for weight in weights.values():
            weight.requires_grad_(True)
        value = loss(output_of(call_network(model, inputs))).value
        if value.requires_grad:
            torch.autograd.backward(value)
        return [name for name, weight in weights.items() if weight.grad is not None]


def _number_names(blocks: list[Block]) -> None:
    """Number the parts of one weight, such as the three projections of attention."""
    n_of = Counter(block.factors.name for block in blocks)
    seen: Counter[str] = Counter()
    for block in blocks:
        name = block.factors.name
        if n_of[name] > 1:
            block.factors.name = f"{name}[{seen[name]}]"
            seen[name] += 1
