"""The arithmetic of a recipe: autocast, TF32, deterministic algorithms, memory format.

Losses and metrics are always computed in at least float32, whatever the forward pass used. Process-wide settings are
changed for one training only, and restored after it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Literal

import torch
from torch import Tensor, nn

from aquasurf_ray.tasks import Recipe
from aquasurf_ray.tasks.inputs import Inputs, call_network, map_tensors
from aquasurf_ray.tasks.outputs import output_of

FLOAT_OF_HALF = (torch.float16, torch.bfloat16)
CUBLAS_WORKSPACE = "CUBLAS_WORKSPACE_CONFIG"
REPEATABLE_WORKSPACE = ":4096:8"  # the choice that PyTorch's notes on reproducibility name

UsedPrecision = Literal["float32", "bfloat16"]


class Arithmetic:
    """The forward pass and the data formats of one recipe on one device.

    Attributes:
        precision: the float type that the forward pass really uses.
    """

    def __init__(self, recipe: Recipe, device: torch.device) -> None:
        self._recipe = recipe
        self._device = device
        self.precision = used_precision(recipe, device)

    def formatted(self, inputs: Inputs) -> Inputs:
        """Return inputs in the recipe's memory format; tensors that are not batches of images stay as they are."""
        if not self._recipe.channels_last:
            return inputs
        return map_tensors(inputs, lambda t: t.contiguous(memory_format=torch.channels_last) if t.dim() == 4 else t)

    def prepared(self, network: nn.Module) -> nn.Module:
        """Return the network, its filters in the recipe's memory format."""
        if not self._recipe.channels_last:
            return network
        return network.to(memory_format=torch.channels_last)

    def forward(self, network: nn.Module, inputs: Inputs) -> Tensor:
        """Return the network's outputs: computed in the recipe's precision, returned in at least float32."""
        with self.autocast():
            outputs = output_of(call_network(network, inputs))
        return outputs.float() if outputs.dtype in FLOAT_OF_HALF else outputs

    def autocast(self) -> AbstractContextManager[None]:
        """Return the context that forward passes run in."""
        if self.precision == "float32":
            return nullcontext()
        return torch.autocast(self._device.type, dtype=torch.bfloat16)


def used_precision(recipe: Recipe, device: torch.device) -> UsedPrecision:
    """Return the precision that a recipe has on a device: `auto` is bfloat16 on GPUs that support it, else float32."""
    if recipe.precision != "auto":
        return recipe.precision
    if device.type != "cuda":
        return "float32"
    with torch.cuda.device(device):
        return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float32"


@contextmanager
def process_settings(recipe: Recipe, device: torch.device) -> Iterator[None]:
    """Set TF32 on a GPU and deterministic algorithms as in the recipe, until the context exits."""
    tf32 = _tf32(recipe.tf32) if device.type == "cuda" else nullcontext()
    deterministic = _deterministic() if recipe.deterministic else nullcontext()
    with tf32, deterministic:
        yield


@contextmanager
def _tf32(allowed: bool) -> Iterator[None]:
    """Set TF32 for matrix products and convolutions alike; by default, PyTorch uses it for convolutions only."""
    products, convolutions = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    torch.set_float32_matmul_precision("high" if allowed else "highest")
    torch.backends.cudnn.allow_tf32 = allowed
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(products)
        torch.backends.cudnn.allow_tf32 = convolutions


@contextmanager
def _deterministic() -> Iterator[None]:
    """Allow only algorithms that repeat their bits; PyTorch raises an error for an operation without one."""
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    benchmark, workspace = torch.backends.cudnn.benchmark, os.environ.get(CUBLAS_WORKSPACE)
    # PyTorch refuses deterministic matrix products on a GPU without it; a choice of the user's stays.
    os.environ.setdefault(CUBLAS_WORKSPACE, REPEATABLE_WORKSPACE)
    torch.backends.cudnn.benchmark = False
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])
        torch.backends.cudnn.benchmark = benchmark
        if workspace is None:
            os.environ.pop(CUBLAS_WORKSPACE, None)
