"""A function's values and its gradient as two compiled kernels, each one pass over memory.

PyTorch's Inductor (the compiler behind torch.compile) gets two graphs, values(x) and gradient(x, gradient of values),
so that nothing but x can be kept between them. It is called directly: a call then costs 5 microseconds instead of the
30 of torch.compile's argument checks, because `Kernels` itself knows which arguments it was compiled for.

The format: dense tensors are seen as rows of 64 elements in the order of their memory. The number of rows is the one
symbol of the graphs, so one compilation serves all shapes and memory formats. Graphs differ by device, type and
autocast; on a CPU also by the number of threads. Functions with parameters of channels see a tensor as [outer,
channels] or [outer, channels, inner] instead, in the order of its memory, and all sizes are symbols. Learned parameters
are further arguments: vectors of one number or of [channels]; their gradients are computed along with that of x.

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
from collections.abc import Callable, Sequence
from math import prod
from typing import Any, NamedTuple

import torch
from torch import Tensor

from aquasurf_ray.activations.expression import Program, run_program
from aquasurf_ray.activations.forms.recomputed import AutocastState, all_gradients, like
from aquasurf_ray.cached_files import default_folder

ROW = 64
TRACED_ROWS = 16_384
"""The rows of the example that a graph is traced with, which the compiler takes for the usual size."""
TRACED_BY_CHANNEL = (4096, 48, 196)
"""The example's sizes where channels matter: no two are equal, because equal sizes would become one symbol."""
MAX_ELEMENTS = 2**31 - 1
"""Kernels count elements in 32 bits."""
DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)

logger = logging.getLogger(__name__)
# One compilation at a time: the compiler's settings and the filters of warnings belong to the process.
_compiling = threading.Lock()
MEMORY_FULL = (torch.OutOfMemoryError, MemoryError)
_unavailable: list[str] = []
"""The reason why this process compiles nothing any more, once there is one."""
_logged: list[str] = []
"""The reasons that have been logged, each once."""


class CompileError(RuntimeError):
    """A function has no kernels on this machine; the message is one line."""


class NothingToCompile(CompileError):
    """The function is the identity."""


class Arguments(NamedTuple):
    """The kind of arguments that kernels are compiled for.

    `per_channel` tells parameters of channels from numbers, and `n_dims` is 2 for [rows, 64] and [outer, channels], and
    3 for [outer, channels, inner].
    """

    device: torch.device
    dtype: torch.dtype
    autocast: AutocastState
    n_threads: int
    per_channel: tuple[bool, ...] = ()
    n_dims: int = 2

    @classmethod
    def of(cls, x: Tensor, per_channel: tuple[bool, ...] = (), channel_dim: int = 1) -> Arguments | None:
        """Return the kind of argument that `x` is, or None if there are no kernels for it."""
        n = x.numel()
        # At least two rows: the tracer makes a size of 0 or 1 a constant of the graph, never a symbol.
        if type(x) is not Tensor or x.dtype not in DTYPES or n % ROW or not 2 * ROW <= n <= MAX_ELEMENTS:
            return None
        if x.device.type not in ("cpu", "cuda"):
            return None
        n_threads = torch.get_num_threads() if x.device.type == "cpu" else 0
        shape = (0, ROW) if not any(per_channel) else by_channel(x, channel_dim)
        if shape is None:
            return None
        return cls(x.device, x.dtype, AutocastState.of(x.device.type), n_threads, per_channel, len(shape))


def by_channel(x: Tensor, dim: int) -> tuple[int, ...] | None:
    """Return the shape [outer, channels] or [outer, channels, inner] of a dense tensor in the order of its memory; None
    if none of its dimensions is the channels, or a size is 1, which a compiled graph would be bound to."""
    if x.is_contiguous():
        outer, inner = prod(x.shape[:dim]), prod(x.shape[dim + 1 :])
    elif dim == 1:  # channels last
        outer, inner = x.numel() // x.shape[1], 1
    else:
        return None
    shape = (outer, x.shape[dim], inner) if inner > 1 else (outer, x.shape[dim])
    return shape if min(shape) > 1 else None


class Kernels(NamedTuple):
    """Compiled values and gradients of one function for one kind of arguments."""

    compiled_values: Callable[..., Tensor]
    compiled_gradient: Callable[..., Any]
    arguments: Arguments

    @property
    def autocast(self) -> AutocastState:
        """The state of autocast that the kernels compute in."""
        return self.arguments.autocast

    def values(self, x: Tensor, parameters: Sequence[Tensor] = (), channel_dim: int = 1) -> Tensor:
        """Return the function's values at a dense tensor, in its memory format."""
        result = self.compiled_values(self._seen(x, channel_dim), *map(_flat, parameters))
        return result.as_strided(x.shape, x.stride())

    def gradients(
        self, x: Tensor, gradient_of_values: Tensor, parameters: Sequence[Tensor] = (), channel_dim: int = 1
    ) -> list[Tensor]:
        """Return the gradients with respect to a dense tensor, in its memory format, and to the parameters."""
        seen = self._seen(x, channel_dim), self._seen(like(x, gradient_of_values), channel_dim)
        found = self.compiled_gradient(*seen, *map(_flat, parameters))
        of_x, *of_parameters = found if parameters else (found,)
        of_x = of_x.as_strided(x.shape, x.stride())
        return [of_x, *(g.view(p.shape) for g, p in zip(of_parameters, parameters, strict=True))]

    def _seen(self, x: Tensor, channel_dim: int) -> Tensor:
        """Return a dense tensor as the kernels see it."""
        shape = by_channel(x, channel_dim) if any(self.arguments.per_channel) else None
        if shape is None:
            return _rows(x)
        strides = (shape[1], 1) if len(shape) == 2 else (shape[1] * shape[2], shape[2], 1)
        return x.as_strided(shape, strides)


def kernels_or_none(steps: Program, arguments: Arguments) -> Kernels | None:
    """Return the kernels of a program; None if there are none, with the reason logged once a process."""
    try:
        return kernels(steps, arguments)
    except NothingToCompile:
        return None
    except CompileError as error:
        _log_once(str(error))
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
    device, dtype, autocast, n_threads, per_channel, n_dims = arguments
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(default_folder() / "inductor"))
    import torch._inductor  # takes a second, so only where something is compiled
    import torch._inductor.config
    from torch._dynamo.utils import get_metrics_context

    # The number of threads belongs to the thread, and this one is new.
    if n_threads and torch.get_num_threads() != n_threads:
        torch.set_num_threads(n_threads)
    with warnings.catch_warnings(), torch.no_grad(), torch._inductor.config.patch(compile_threads=1):
        warnings.simplefilter("ignore")  # the compiler's warnings are about itself
        shape = (TRACED_BY_CHANNEL[:n_dims]) if any(per_channel) else (TRACED_ROWS, ROW)
        x = torch.zeros(shape, dtype=dtype, device=device)
        parameters = [x.new_zeros(shape[1:2] if of_channels else (1,)) for of_channels in per_channel]
        with autocast.on(device.type):
            y = _run(steps, x, parameters)
            of_values = _trace(_values_of(steps, arguments), x, *parameters)
            of_gradient = _trace(_gradient_of(steps, arguments), x, torch.zeros_like(y), *parameters)
        try:
            with get_metrics_context():  # PyTorch 2.6 loads nothing from disk outside of it
                return Kernels(torch._inductor.compile(*of_values), torch._inductor.compile(*of_gradient), arguments)
        except MEMORY_FULL:
            raise
        except Exception as error:  # PyTorch has no common type for a missing or broken compiler
            _unavailable.append(_on_one_line(error))
            raise CompileError(_unavailable[0]) from error


def _run(steps: Program, x: Tensor, parameters: Sequence[Tensor]) -> Tensor:
    """Run a program with parameters as kernels get them: vectors of one value, or of one for each channel."""
    return run_program(steps, x, [p[:, None] if x.dim() == 3 else p for p in parameters])


def _values_of(steps: Program, arguments: Arguments) -> Callable[..., Tensor]:
    def values(x: Tensor, *parameters: Tensor) -> Tensor:
        _say_row_length(x, arguments)
        return _run(steps, x, parameters)

    return values


def _gradient_of(steps: Program, arguments: Arguments) -> Callable[..., Tensor | list[Tensor]]:
    def gradient(x: Tensor, gradient_of_values: Tensor, *parameters: Tensor) -> Tensor | list[Tensor]:
        _say_row_length(x, arguments)
        with torch.enable_grad():
            leaves = [tensor.detach().requires_grad_() for tensor in (x, *parameters)]
            y = _run(steps, leaves[0], leaves[1:])
        if y.shape != gradient_of_values.shape:
            raise CompileError(f"values have the shape {tuple(y.shape)}, expected that of the input")
        found = all_gradients(y, leaves, gradient_of_values)
        return found if parameters else found[0]

    return gradient


def _say_row_length(x: Tensor, arguments: Arguments) -> None:
    """Compare the length of a row, which fixes the tracer's symbol for it."""
    if not any(arguments.per_channel) and x.shape[1] != ROW:
        raise CompileError(f"row of {x.shape[1]} elements, expected {ROW}")


def _trace(function: Callable[..., Any], *examples: Tensor) -> tuple[torch.fx.GraphModule, list[Any]]:
    """Return the graph of a function with the number of rows as a symbol, and its symbolic arguments."""
    from torch.fx.experimental.proxy_tensor import make_fx

    graph = make_fx(function, tracing_mode="symbolic")(*examples)
    inputs = [node for node in graph.graph.nodes if node.op == "placeholder"]
    output = next(node for node in graph.graph.nodes if node.op == "output").args[0]
    if isinstance(output, torch.fx.Node) and output in inputs:
        raise NothingToCompile("the function returns its argument")
    return graph, [node.meta["val"] for node in inputs]


def _flat(parameter: Tensor) -> Tensor:
    return parameter.reshape(-1)  # of a number too: the compiler takes tensors without a dimension for constants


def _rows(x: Tensor) -> Tensor:
    return x.as_strided((x.numel() // ROW, ROW), (ROW, 1))


def _on_one_line(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:200]


def _log_once(reason: str) -> None:
    if not _logged:
        _logged.append(reason)
        logger.warning("activation functions are not compiled here: %s", reason)
