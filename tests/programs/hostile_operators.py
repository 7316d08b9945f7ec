"""Operators that inject_fault in a network: on single-precision tensors of more than one dimension. On the sample by
which functions are told apart, of float64, each is a function of its own."""

from __future__ import annotations

import os
import resource
import signal
from pathlib import Path

import torch

from aquasurf_ray.activations import register_unary

STEPS_BEFORE_NAN = 1000
MEMORY = 1 << 30  # bytes above what the process has; nothing is written to them
CALLS = {"late_nan": 0}


class InfiniteGradient(torch.autograd.Function):
    """The identity, as long as nobody asks how it changes."""

    @staticmethod
    def forward(context, x):
        return x.clone()

    @staticmethod
    def backward(context, gradient):
        return gradient / torch.zeros_like(gradient)


def raising(x):
    raise RuntimeError("this function is broken")


def nan_at_once(x):
    return x * float("nan") if x.dim() > 1 else x.clone()


def late_nan(x):
    """Counts what is computed with gradients; a network of `digits` asks for it in so many places a step. What is
    looked at first, and then of each training, is how it is on a line."""
    CALLS["late_nan"] = CALLS["late_nan"] + torch.is_grad_enabled() if x.dim() > 1 else 0
    return x * float("nan") if CALLS["late_nan"] > STEPS_BEFORE_NAN * PLACES else torch.tanh(x)


PLACES = 3


def exhausting(x):
    """Takes memory until it gets no more, which this process's limit makes soon."""
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, before[1]))
    try:
        taken = [torch.empty(1 << 24) for _ in range(1000)]
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)
    return x + len(taken)


def killed(x):
    """What Linux does to a process that takes too much."""
    os.kill(os.getpid(), signal.SIGKILL)


def forever(x):
    while True:
        pass


HOSTILE = {
    "raising": raising,
    "nan_at_once": nan_at_once,
    "late_nan": late_nan,
    "constant_output": lambda x: torch.full_like(x, 1.5),
    "complex_output": lambda x: torch.complex(x, x),
    "integer_output": lambda x: x.to(torch.int64),
    "infinite_gradient": InfiniteGradient.apply,
    "exhausting": exhausting,
    "killed": killed,
    "forever": forever,
}


def register(number, name, function):
    def operator(x):
        return x * x + 0.1 * number if x.dtype == torch.float64 else function(x)

    register_unary(name, operator)


for number, (name, function) in enumerate(HOSTILE.items(), start=7):
    register(number, name, function)
