"""Whose fault an error is: the function's own, which is a result, or the machine's, which is to be tried again."""

from __future__ import annotations

import traceback

import torch

MACHINE_TROUBLE = (
    "can't allocate memory",
    "out of memory",
    "CUDA error",
    "CUDA driver error",
    "cuDNN error",
    "CUDNN_STATUS",
    "CUBLAS_STATUS",
    "cusolver error",
    "cuFFT error",
    "NCCL",
)


class FunctionFault(ArithmeticError):
    """The activation function itself cannot be trained with; the message says why."""


def is_functions_fault(error: BaseException) -> bool:
    """Whether the error came out of the activation room, where the function's own code runs, and not for memory."""
    if isinstance(error, FunctionFault):
        return True
    if is_machines_trouble(error):
        return False
    modules = (frame.f_globals.get("__name__", "") for frame, _ in traceback.walk_tb(error.__traceback__))
    return any(name.startswith("aquasurf_ray.activations") for name in modules)


def is_machines_trouble(error: BaseException) -> bool:
    """Whether memory ran out, or the device or the connection between devices broke."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or any(t in str(error) for t in MACHINE_TROUBLE)


def reason_of(error: BaseException) -> str:
    """The error on one line of at most 500 characters, as a reason to record."""
    text = " ".join(str(error).split())[:500]
    return text if isinstance(error, FunctionFault) else f"{type(error).__name__}: {text}"
