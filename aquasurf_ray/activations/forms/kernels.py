"""A function's values and its gradient as two compiled kernels, each one pass over memory.

PyTorch's Inductor (the compiler behind torch.compile) gets two graphs, values(x) and gradient(x, gradient of values),
so that nothing but x can be kept between them. It is called directly: a call then costs 5 microseconds instead of the
30 of torch.compile's argument checks, because `Kernels` itself knows which arguments it was compiled for.

The format: dense tensors are seen as rows of 64 elements in the order of their memory. The number of rows is the one
symbol of the graphs, so one compilation serves all shapes and memory formats. Graphs differ by device, type and
autocast; on a CPU also by the number of threads.

Inductor stores compiled code on disk under names that depend on graph, versions and hardware, and moves complete files
into place, so that any number of processes can share the folder: `TORCHINDUCTOR_CACHE_DIR` if it is set, else
`inductor` in this room's cache.
"""

from __future__ import annotations

import functools
import logging
import os
import threading
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from aquasurf_ray.activations.expression import Program, run_program
from aquasurf_ray.activations.forms.recomputed import AutocastState, like
from aquasurf_ray.activations.spaces import cache

ROW = 64
TRACED_ROWS = 16_384
"""The rows of the example that a graph is traced with, which the compiler takes for the usual size."""
MAX_ELEMENTS = 2**31 - 1
"""Kernels count elements in 32 bits."""
DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)

logger = logging.getLogger(__name__)
_compiling = threading.Lock()
MEMORY_FULL = (torch.OutOfMemoryError, MemoryError)
_unavailable: list[str] = []
"""The reason why this process compiles nothing any more, once there is one."""
_said: list[str] = []
"""The reasons that have been logged, each once."""


class CompileError(RuntimeError):
    """A function has no kernels on this machine; the message is one line."""


class NothingToCompile(CompileError):
    """The function is the identity."""


class Arguments(NamedTuple):
    """The kind of arguments that kernels are compiled for."""

    device: torch.device
    dtype: torch.dtype
    autocast: AutocastState
    n_threads: int

    @classmethod
    def of(cls, x: Tensor) -> Arguments | None:
        """Return the kind of argument that `x` is, or None if there are no kernels for it."""
        n = x.numel()
        if type(x) is not Tensor or x.dtype not in DTYPES or n % ROW or not 2 * ROW <= n <= MAX_ELEMENTS:
            return None
        if x.device.type not in ("cpu", "cuda"):
            return None
        n_threads = torch.get_num_threads() if x.device.type == "cpu" else 0
        return cls(x.device, x.dtype, AutocastState.of(x.device.type), n_threads)


class Kernels(NamedTuple):
    """Compiled values and gradient of one function for one kind of arguments."""

    compiled_values: Callable[[Tensor], Tensor]
    compiled_gradient: Callable[[Tensor, Tensor], Tensor]
    autocast: AutocastState

    def values(self, x: Tensor) -> Tensor:
        """Return the function's values at a dense tensor, in its memory format."""
        result = self.compiled_values(_rows(x))
        return result.as_strided(x.shape, x.stride())

    def gradient(self, x: Tensor, gradient_of_values: Tensor) -> Tensor:
        """Return the gradient with respect to a dense tensor, in its memory format."""
        result = self.compiled_gradient(_rows(x), _rows(like(x, gradient_of_values)))
        return result.as_strided(x.shape, x.stride())


def kernels_or_none(steps: Program, arguments: Arguments) -> Kernels | None:
    """Return the kernels of a program; None if there are none, with the reason logged once a process."""
    try:
        return kernels(steps, arguments)
    except NothingToCompile:
        return None
    except CompileError as error:
        _say_once(str(error))
        return None


def kernels(steps: Program, arguments: Arguments) -> Kernels:
    """Return the kernels of a program, compiled at the first call, or loaded from disk.

    Raises:
        torch.OutOfMemoryError, MemoryError: while compiling.
        CompileError: there is no compiler (then raised at once from the second function on), or it refuses the
            function.
    """
    with _compiling:
        if _unavailable:
            raise CompileError(_unavailable[0])
        found = _compiled(steps, arguments)
    if isinstance(found, CompileError):
        raise found
    return found


@functools.lru_cache(maxsize=256)
def _compiled(steps: Program, arguments: Arguments) -> Kernels | CompileError:
    """Compile in a separate thread, where no hook, mode or autocast of the caller is active."""
    result: list[Kernels | CompileError] = []
    full: list[Exception] = []

    def work() -> None:
        try:
            result.append(_compile(steps, arguments))
        except CompileError as error:
            result.append(error)
        except MEMORY_FULL as error:
            full.append(error)
        except Exception as error:  # tracing runs the user's operators, which may raise anything
            result.append(CompileError(_on_one_line(error)))

    thread = threading.Thread(target=work, name="compile activation")
    thread.start()
    thread.join()
    if full:
        raise full[0]  # a temporary state of the machine, which says nothing about the compiler
    return result[0]


def _compile(steps: Program, arguments: Arguments) -> Kernels:
    device, dtype, autocast, n_threads = arguments
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(cache.default_folder() / "inductor"))
    import torch._inductor  # takes a second, so only where something is compiled
    import torch._inductor.config
    from torch._dynamo.utils import get_metrics_context

    if n_threads and torch.get_num_threads() != n_threads:
        torch.set_num_threads(n_threads)
    with warnings.catch_warnings(), torch.no_grad(), torch._inductor.config.patch(compile_threads=1):
        warnings.simplefilter("ignore")  # the compiler's warnings are about itself
        x = torch.zeros(TRACED_ROWS, ROW, dtype=dtype, device=device)
        with autocast.on(device.type):
            y = run_program(steps, x)
            of_values = _trace(_values_of(steps), x)
            of_gradient = _trace(_gradient_of(steps), x, torch.zeros_like(y))
        try:
            with get_metrics_context():  # PyTorch 2.6 loads nothing from disk outside of it
                return Kernels(torch._inductor.compile(*of_values), torch._inductor.compile(*of_gradient), autocast)
        except MEMORY_FULL:
            raise
        except Exception as error:  # PyTorch has no common type for a missing or broken compiler
            _unavailable.append(_on_one_line(error))
            raise CompileError(_unavailable[0]) from error


def _values_of(steps: Program) -> Callable[[Tensor], Tensor]:
    def values(x: Tensor) -> Tensor:
        _say_row_length(x)
        return run_program(steps, x)

    return values


def _gradient_of(steps: Program) -> Callable[[Tensor, Tensor], Tensor]:
    def gradient(x: Tensor, gradient_of_values: Tensor) -> Tensor:
        _say_row_length(x)
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            y = run_program(steps, x)
        if y.shape != gradient_of_values.shape:
            raise CompileError(f"values have the shape {tuple(y.shape)}, expected that of the input")
        return torch.autograd.grad(y, x, gradient_of_values)[0]

    return gradient


def _say_row_length(x: Tensor) -> None:
    """Compare the length of a row, which fixes the tracer's symbol for it."""
    if x.shape[1] != ROW:
        raise CompileError(f"row of {x.shape[1]} elements, expected {ROW}")


def _trace(function: Callable[..., Tensor], *examples: Tensor) -> tuple[torch.fx.GraphModule, list[Any]]:
    """Return the graph of a function with the number of rows as a symbol, and its symbolic arguments."""
    from torch.fx.experimental.proxy_tensor import make_fx

    graph = make_fx(function, tracing_mode="symbolic")(*examples)
    inputs = [node for node in graph.graph.nodes if node.op == "placeholder"]
    output = next(node for node in graph.graph.nodes if node.op == "output").args[0]
    if output in inputs:
        raise NothingToCompile("the function returns its argument")
    return graph, [node.meta["val"] for node in inputs]


def _rows(x: Tensor) -> Tensor:
    return x.as_strided((x.numel() // ROW, ROW), (ROW, 1))


def _on_one_line(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:200]


def _say_once(reason: str) -> None:
    if not _said:
        _said.append(reason)
        logger.warning("activation functions are not compiled here: %s", reason)
