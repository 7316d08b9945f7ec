"""The two kinds of errors: a function's own fault, which is a result, and an infrastructure failure, to be retried."""

from __future__ import annotations

import traceback

import torch

# Searched for in messages: PyTorch raises most of these as plain RuntimeErrors, as it does for a function's own faults.
INFRASTRUCTURE_TEXTS = (
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
RUNS_NETWORKS = "aquasurf_ray.activations.learned"
"""The only module of `activations` that runs whole networks on data; errors of the network are not the function's."""


class FunctionFault(ArithmeticError):
    """The activation function itself cannot be trained; the message says why."""


def is_function_fault(error: BaseException) -> bool:
    """Return whether the error came from the function's code, which only the room `activations` runs, and is no
    infrastructure failure."""
    if isinstance(error, FunctionFault):
        return True
    if is_infrastructure_failure(error):
        return False
    # Functions run inside that room only, so a frame of it in the traceback means that one of them was running.
    modules = (frame.f_globals.get("__name__", "") for frame, _ in traceback.walk_tb(error.__traceback__))
    return any(name.startswith("aquasurf_ray.activations") and name != RUNS_NETWORKS for name in modules)


def is_infrastructure_failure(error: BaseException) -> bool:
    """Return whether memory ran out, or the device or the connection between devices failed."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or any(t in str(error) for t in INFRASTRUCTURE_TEXTS)


def reason_of(error: BaseException) -> str:
    """Return the error as a reason to record: one line of at most 500 characters."""
    text = " ".join(str(error).split())[:500]
    return text if isinstance(error, FunctionFault) else f"{type(error).__name__}: {text}"
