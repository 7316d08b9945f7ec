"""Leaves a model and the process as they were found, also on errors.

That is of the model: values, gradients and `requires_grad` of its parameters, buffers, and tensors that modules hold as
plain attributes (the old `weight_norm` and `spectral_norm` put the weight there); of the process: the global generators
of torch, NumPy and Python, and the precision of float32 products and convolutions.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

NUMPY_SEEDS = 2**32


@contextmanager
def left_as_found(model: nn.Module, inputs: Sequence[Tensor], seed: int) -> Iterator[None]:
    """The global generators are seeded, parameters frozen and without gradients, and float32 is really float32."""
    with ExitStack() as stack:
        stack.enter_context(_seeded(seed, _devices(model, inputs)))
        stack.enter_context(_attributes_kept(model))
        stack.enter_context(_parameters_frozen(model))
        stack.enter_context(_full_precision())
        yield


@contextmanager
def _parameters_frozen(model: nn.Module) -> Iterator[None]:
    before = [(p, p.requires_grad, p.grad, p.detach().clone()) for p in model.parameters()]
    for parameter, *_ in before:
        parameter.requires_grad_(False)
        parameter.grad = None
    try:
        yield
    finally:
        with torch.no_grad():
            for parameter, trained, gradient, values in before:
                parameter.requires_grad_(trained)
                parameter.grad = gradient
                if not torch.equal(parameter, values):  # a forward pass that renormalises its weights in place
                    parameter.data.copy_(values)


@contextmanager
def _attributes_kept(model: nn.Module) -> Iterator[None]:
    """Puts back the values of buffers and, where the model replaced a buffer or an attribute, the very tensors."""
    buffers = [
        (module, name, buffer, buffer.clone())
        for module in model.modules()
        for name, buffer in module._buffers.items()
        if buffer is not None
    ]
    attributes = [
        (module, name, value)
        for module in model.modules()
        for name, value in vars(module).items()
        if isinstance(value, Tensor)
    ]
    try:
        yield
    finally:
        with torch.no_grad():
            for module, name, buffer, values in buffers:
                module._buffers[name] = buffer.copy_(values)
        for module, name, value in attributes:
            vars(module)[name] = value


def _devices(model: nn.Module, inputs: Sequence[Tensor]) -> list[int]:
    tensors = [*inputs, *model.parameters(), *model.buffers()]
    return sorted({t.device.index for t in tensors if t.device.type == "cuda"})


@contextmanager
def _seeded(seed: int, devices: list[int]) -> Iterator[None]:
    python, numpy = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=devices):
        torch.default_generator.manual_seed(seed)
        for device in devices:
            torch.cuda.default_generators[device].manual_seed(seed)
        random.seed(seed)
        np.random.seed(seed % NUMPY_SEEDS)
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)


@contextmanager
def _full_precision() -> Iterator[None]:
    """No product or convolution of float32 in less than float32, whatever the caller trains with.

    PyTorch 2.9 and later have a switch for each kind of operation beside the two old ones, which cannot be read once a
    caller has used a new one.
    """
    switches = [(place, place.fp32_precision) for place in _precision_switches()]
    products = convolutions = None
    with suppress(RuntimeError):
        products = torch.get_float32_matmul_precision()
    with suppress(RuntimeError):
        convolutions = torch.backends.cudnn.allow_tf32
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        if products is not None:
            torch.set_float32_matmul_precision(products)
        if convolutions is not None:
            torch.backends.cudnn.allow_tf32 = convolutions
        for place, precision in switches:
            place.fp32_precision = precision


def _precision_switches() -> list[Any]:
    backends: list[Any] = [torch.backends.cudnn, torch.backends.mkldnn]
    places = [getattr(backend, kind, None) for backend in backends for kind in ("matmul", "conv", "rnn")]
    return [p for p in [*places, torch.backends.cuda.matmul] if hasattr(p, "fp32_precision")]
