"""Leaves a model and the process as they were found, also on errors.

Of the model: values, gradients and `requires_grad` of its parameters, buffers, and whatever else modules hold as
attributes (the old `weight_norm` and `spectral_norm` put the weight there, others caches and counters); of the process:
the global generators of torch, NumPy and Python, the precision of float32 products and convolutions, and how compiled
modules run.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

import torch
from torch import Tensor, nn

from aquasurf_ray.tasks.held_state import HeldState
from aquasurf_ray.tasks.seeding import seeded


@contextmanager
def left_as_found(model: nn.Module, inputs: Sequence[Tensor], seed: int) -> Iterator[None]:
    """Seed the global generators, freeze the parameters, compute float32 in float32 and compiled modules eagerly."""
    with ExitStack() as stack:
        for device in _devices(model, inputs):
            stack.enter_context(seeded(seed, device))
        stack.enter_context(state_kept(model))
        stack.enter_context(_parameters_frozen(model))
        stack.enter_context(_full_precision())
        if "torch._dynamo" in sys.modules:  # compiled parts would hide their operations
            stack.enter_context(torch.compiler.set_stance("force_eager"))
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
def state_kept(model: nn.Module) -> Iterator[None]:
    """Put back what the modules hold besides parameters: buffers, other attributes, and generators.

    Also where the model fills a buffer that was None, sets an attribute that it did not have, or appends to a list.
    """
    parameters = {id(p) for p in model.parameters()}
    state = HeldState(model.modules(), lambda held: isinstance(held, nn.Module), lambda held: id(held) in parameters)
    try:
        yield
    finally:
        state.restore()


def _devices(model: nn.Module, inputs: Sequence[Tensor]) -> list[torch.device]:
    """Return the devices whose generators the model may draw from."""
    tensors = [*inputs, *model.parameters(), *model.buffers()]
    gpus = {t.device.index for t in tensors if t.device.type == "cuda"}
    return [torch.device("cuda", index) for index in sorted(gpus)] or [torch.device("cpu")]


@contextmanager
def _full_precision() -> Iterator[None]:
    """Compute products and convolutions of float32 in float32, whatever the caller trains with.

    PyTorch 2.9 and later have a switch for each kind of operation next to the two old ones, which cannot be read once a
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
