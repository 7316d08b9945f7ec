"""The costs of a computation: seconds, measured in turns with others, and bytes kept for its backward pass."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from statistics import median
from typing import NamedTuple

import torch
from torch import Tensor

Work = Callable[[], object]


class CallTime(NamedTuple):
    """Seconds of one call: the median that two works are compared by, and the fastest by the wall clock.

    With one thread on a CPU the median is of the thread's own seconds, without those that it waits for a busy core. A
    call that waits by itself, for another machine or a GPU that it uses, has few of these, so what it takes is the
    fastest call: other load made the others longer.
    """

    median: float
    fastest: float


def side_by_side(
    works: Sequence[Work],
    device: torch.device,
    *,
    min_rounds: int,
    max_rounds: int,
    enough_seconds: float = 0.0,
    calls: int = 1,
) -> list[CallTime]:
    """Return the seconds of one call of each work, measured in turns, so that the machine's other load affects all.

    Args:
        works: the works to time; call each once before, so that one-time costs are not part of its time.
        min_rounds, max_rounds: turns of all works; after `min_rounds`, no turn starts once `enough_seconds` have
            passed.
        calls: the calls in each turn before the clock is read.
    """
    seconds: list[list[tuple[float, float]]] = [[] for _ in works]
    begun = time.perf_counter()
    for n_done in range(max_rounds):
        if n_done >= min_rounds and time.perf_counter() - begun > enough_seconds:
            break
        for work, times in zip(works, seconds, strict=True):
            own, wall = _clocks(device)
            for _ in range(calls):
                work()
            own_end, wall_end = _clocks(device)
            times.append(((own_end - own) / calls, (wall_end - wall) / calls))
    return [CallTime(median(own for own, _ in times), min(wall for _, wall in times)) for times in seconds]


def kept_bytes(forward: Callable[[], Tensor], parameters: Iterable[Tensor] = ()) -> int:
    """Return the bytes of the storages that autograd keeps for the backward pass of `forward()`, each counted once,
    without those of parameters and of their copies in autocast's type."""
    parameters = list(parameters)
    known = {id(p) for p in parameters}
    left_out = {p.untyped_storage().data_ptr() for p in parameters}
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in left_out and not _is_cast_parameter(tensor, known):
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        result = forward()
    del result  # not before: it keeps the storages alive, so that no address stands for two
    return sum(kept.values())


def _is_cast_parameter(tensor: Tensor, parameters: set[int]) -> bool:
    """Return whether the tensor is a parameter in another type, or a view of one."""
    node = tensor.grad_fn
    while node is not None and node.name() in ("ToCopyBackward0", "TBackward0", "ViewBackward0", "TransposeBackward0"):
        node = node.next_functions[0][0]
    return id(getattr(node, "variable", None)) in parameters


def _clocks(device: torch.device) -> tuple[float, float]:
    """Return the time that works are compared by, and that of the wall clock."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    wall = time.perf_counter()
    return time.thread_time() if device.type != "cuda" and torch.get_num_threads() == 1 else wall, wall
