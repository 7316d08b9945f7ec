"""Runs a network once, forward and backward, with hooks on its layers, and leaves it as it was.

The hooks hand every layer's input and output gradient to its `LayerFactors` at the moment they exist and keep neither.
Parameters are frozen meanwhile, so the backward pass computes no weight gradients: it starts where a zero is added to
the first layer's output (and to every other output that no earlier one leads to). Buffers, such as the running
statistics of batch norm, `requires_grad`, `.grad`, hooks and torch's global generators are restored, also on errors.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, TypeGuard

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from aquasurf_ray.workers.fisher.errors import NoLayers, NonFiniteSpectrum, SkippedLayerWarning, SpectrumInputError
from aquasurf_ray.workers.fisher.factors import Layer, LayerFactors
from aquasurf_ray.workers.fisher.moments import power_of_two_scale

Loss = Callable[[Tensor], Tensor]

# What multiplies by a matrix that no hook sees: other convolutions, and layers whose projections are bare parameters.
_NOT_COVERED = (_ConvNd, nn.Bilinear, nn.RNNBase, nn.RNNCellBase, nn.MultiheadAttention)


def collect_factors(model: nn.Module, inputs: Tensor, loss: Loss, *, seed: int) -> list[LayerFactors]:
    """The factors of every layer that gets a gradient, in the order of `model.named_modules()`.

    Args:
        model: used in the mode, precision and on the device that it has.
        inputs: one batch [n, ...].
        loss: the summed loss, a scalar, of the model's outputs.
        seed: of the dropout masks and whatever else the model draws.

    Warns:
        SkippedLayerWarning: some layers get no gradient, or are of a kind that is not covered.

    Raises:
        NoLayers: no layer gets a gradient.
        NonFiniteSpectrum: a layer's input or gradient, or the outputs, are not finite.
    """
    layers = [LayerFactors(name, m) for name, m in model.named_modules() if _is_covered(m) and m.weight.requires_grad]
    if not layers:
        raise NoLayers("the model has no trainable Linear, Conv1d or Conv2d layer; a Fisher spectrum needs one")
    with ExitStack() as stack:
        stack.enter_context(_seeded(seed, _devices(model, inputs)))
        stack.enter_context(_buffers_kept(model))
        stack.enter_context(_frozen(model))
        stack.enter_context(_full_precision())
        stack.enter_context(torch.enable_grad())
        _run(model, inputs, loss, layers)
    found = [layer for layer in layers if layer.has_gradient]
    _warn_of_skipped(model, {layer.name for layer in found})
    if not found:
        raise NoLayers("no layer gets a gradient: the model's outputs do not depend on any of its weights")
    return found


def _is_covered(module: nn.Module) -> TypeGuard[Layer]:
    return isinstance(module, nn.Linear | nn.Conv1d | nn.Conv2d)


def _run(model: nn.Module, inputs: Tensor, loss: Loss, layers: list[LayerFactors]) -> None:
    anchors: list[Tensor] = []
    with ExitStack() as hooks:
        for factors in layers:
            hook = factors.layer.register_forward_hook(_forward_hook(factors, anchors), with_kwargs=True)
            hooks.callback(hook.remove)
        outputs = model(inputs.detach())
    if not isinstance(outputs, Tensor):
        raise SpectrumInputError(f"the model must return a tensor, got {type(outputs).__name__}")
    if outputs.is_floating_point() and power_of_two_scale(outputs.detach()) is None:
        raise NonFiniteSpectrum("network", "output")
    value = loss(outputs)
    if value.requires_grad and anchors:
        torch.autograd.grad(value, anchors, allow_unused=True)


def _forward_hook(factors: LayerFactors, anchors: list[Tensor]) -> Callable[..., Tensor | None]:
    def hook(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Tensor) -> Tensor | None:
        if not torch.is_grad_enabled():  # such a use cannot reach the loss
            return None
        factors.add_use(args[0] if args else kwargs["input"], output)
        if not output.requires_grad:
            anchors.append(torch.zeros((), dtype=output.dtype, device=output.device, requires_grad=True))
            output = output + anchors[-1]
        output.register_hook(factors.add_gradient)  # type: ignore[no-untyped-call]
        return output

    return hook


def _warn_of_skipped(model: nn.Module, found: set[str]) -> None:
    skipped = [
        name
        for name, module in model.named_modules()
        if (_is_covered(module) or isinstance(module, _NOT_COVERED)) and name not in found
    ]
    if skipped:
        warnings.warn(
            f"no gradient, or a kind that is not covered, so left out of the spectrum: {', '.join(skipped)}",
            SkippedLayerWarning,
            stacklevel=4,
        )


@contextmanager
def _frozen(model: nn.Module) -> Iterator[None]:
    trainable = [p for p in model.parameters() if p.requires_grad]
    for parameter in trainable:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in trainable:
            parameter.requires_grad_(True)


@contextmanager
def _buffers_kept(model: nn.Module) -> Iterator[None]:
    """Puts back both the buffers' values and, where the model replaced a buffer, the very tensors."""
    before = [
        (module, name, buffer, buffer.clone())
        for module in model.modules()
        for name, buffer in module._buffers.items()
        if buffer is not None
    ]
    try:
        yield
    finally:
        with torch.no_grad():
            for module, name, buffer, values in before:
                module._buffers[name] = buffer.copy_(values)


def _devices(model: nn.Module, inputs: Tensor) -> list[int]:
    tensors = [inputs, *model.parameters(), *model.buffers()]
    return sorted({t.device.index for t in tensors if t.device.type == "cuda"})


@contextmanager
def _seeded(seed: int, devices: list[int]) -> Iterator[None]:
    with torch.random.fork_rng(devices=devices):
        torch.default_generator.manual_seed(seed)
        for device in devices:
            torch.cuda.default_generators[device].manual_seed(seed)
        yield


@contextmanager
def _full_precision() -> Iterator[None]:
    """No float32 product in less than float32, whatever the caller trains with."""
    precision = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(precision)
