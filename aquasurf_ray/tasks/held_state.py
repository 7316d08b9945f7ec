"""The state that objects hold: attributes, contents of containers, arrays and tensors, random generators.

A sampler that shuffles its own list, a data set that draws from a generator of its own and a module that fills a buffer
change when they are used. `HeldState` puts all of it back, `generators_in` finds generators wherever they are: in
attributes, containers, closures, arguments bound by `partial`, and globals that a function names.
"""

from __future__ import annotations

import math
import random
import types
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from aquasurf_ray.tasks.seeding import NUMPY_SEEDS

GENERATORS = (torch.Generator, np.random.Generator, np.random.RandomState, random.Random)
CONTAINERS = (list, tuple, dict, set, deque)
CODE = (types.FunctionType, types.MethodType, partial)
READING = ("__getitem__", "__getitems__", "__call__", "__iter__")
LARGEST_SEARCHED = 1000  # longer containers hold examples
MOST_SEARCHED = 20_000  # objects

Enters = Callable[[Any], bool]


class HeldState:
    """The state of some objects and of what they hold, at one moment.

    Args:
        owners: the objects.
        enters: whether the attributes of a further object belong to the state; containers always do.
        leaves: whether an object is left out of the state.

    Example:
        >>> order = [1, 2, 3]
        >>> state = HeldState([order])
        >>> order.reverse()
        >>> state.is_changed(), state.restore(), order
        (True, None, [1, 2, 3])
    """

    def __init__(
        self, owners: Iterable[Any], enters: Enters = lambda _: False, leaves: Enters = lambda _: False
    ) -> None:
        found = (held for held in _reachable(owners, enters) if not isinstance(held, CODE) and not leaves(held))
        self._saved = [(held, _copied(held)) for held in found]

    @property
    def generators(self) -> list[Any]:
        """The random generators among it."""
        return [held for held, _ in self._saved if isinstance(held, GENERATORS)]

    def is_changed(self) -> bool:
        """Return whether something other than a generator has changed."""
        return any(not _is_same(held, copy) for held, copy in self._saved if not isinstance(held, GENERATORS))

    def restore(self) -> None:
        """Put everything back."""
        for held, copy in self._saved:
            if isinstance(held, GENERATORS) or not _is_same(held, copy):
                _put_back(held, copy)


@contextmanager
def generators_set(generators: Iterable[Any], seed: int) -> Iterator[None]:
    """Set random generators to a seed, and restore them afterwards."""
    before = [(generator, _copied(generator)) for generator in generators]
    try:
        for generator, _ in before:
            set_generator(generator, seed)
        yield
    finally:
        for generator, state in before:
            _put_back(generator, state)


def generators_in(*owners: Any) -> list[Any]:
    """Return the random generators that objects hold.

    >>> draws = random.Random(0)
    >>> generators_in(partial(max, key=lambda x: draws.random())) == [draws]
    True
    """
    return [held for held in _reachable(owners, lambda _: True, MOST_SEARCHED) if isinstance(held, GENERATORS)]


def numbers_in(*owners: Any) -> dict[tuple[int, str], float]:
    """Return the numbers that objects have as attributes, by the object's identity and `Type.attribute`."""
    return {
        (id(held), f"{type(held).__name__}.{name}"): value
        for held in _reachable(owners, lambda _: True, MOST_SEARCHED)
        if hasattr(held, "__dict__") and not isinstance(held, (*CODE, *CONTAINERS, *GENERATORS, Tensor))
        for name, value in vars(held).items()
        if type(value) in (int, float)
    }


def set_generator(generator: Any, seed: int) -> None:
    """Set a random generator of any kind to a seed."""
    if isinstance(generator, torch.Generator):
        generator.manual_seed(seed)
    elif isinstance(generator, np.random.Generator):
        generator.bit_generator.state = type(generator.bit_generator)(seed).state
    else:
        # NumPy's RandomState takes 32 bits; Python's takes any number.
        generator.seed(seed % NUMPY_SEEDS)


def _reachable(owners: Iterable[Any], enters: Enters, most: float = math.inf) -> list[Any]:
    """Return the objects that hold state, the nearest first."""
    found: dict[int, Any] = {}
    waiting = deque((owner, True) for owner in owners)
    while waiting and len(found) < most:
        held, is_entered = waiting.popleft()
        if id(held) in found or not (is_entered or _is_plain(held) or _has_state(held, enters)):
            continue
        if isinstance(held, type | types.ModuleType | str | bytes | int | float | None):
            continue
        found[id(held)] = held
        waiting.extend((part, False) for part in _parts(held, enters))
    return list(found.values())


def _is_plain(held: Any) -> bool:
    return isinstance(held, (*CONTAINERS, *GENERATORS, Tensor, np.ndarray))


def _has_state(held: Any, enters: Enters) -> bool:
    return (isinstance(held, CODE) or hasattr(held, "__dict__")) and enters(held)


def _parts(held: Any, enters: Enters) -> Iterator[Any]:
    if isinstance(held, (*GENERATORS, Tensor, np.ndarray)):
        return
    if isinstance(held, CONTAINERS):
        # Examples hold no generators, and walking a million of them at each epoch would take longer than the epoch.
        if len(held) <= LARGEST_SEARCHED:
            yield from held.values() if isinstance(held, dict) else held
    elif isinstance(held, partial):
        yield from (held.func, held.args, held.keywords)
    elif isinstance(held, types.MethodType):
        yield from (held.__self__, held.__func__)
    elif isinstance(held, types.FunctionType):
        yield from _named_by(held)
    else:
        yield from vars(held).values()
        own = (getattr(type(held), name, None) for name in READING)
        yield from (function for function in own if isinstance(function, types.FunctionType) and enters(function))


def _named_by(function: types.FunctionType) -> Iterator[Any]:
    """Yield what a function refers to besides its arguments."""
    for cell in function.__closure__ or ():
        with suppress(ValueError):  # a variable that has no value yet
            yield cell.cell_contents
    yield from function.__defaults__ or ()
    yield from (function.__kwdefaults__ or {}).values()
    named = (function.__globals__.get(name) for name in function.__code__.co_names)
    yield from (value for value in named if isinstance(value, GENERATORS))


def _copied(held: Any) -> Any:
    if isinstance(held, random.Random):
        return held.getstate()
    if isinstance(held, np.random.Generator):
        return held.bit_generator.state
    if isinstance(held, torch.Generator | np.random.RandomState):
        return held.get_state()
    if isinstance(held, Tensor):
        return [part.clone() for part in _strided_parts(held)]
    if isinstance(held, (*CONTAINERS, np.ndarray)):
        return held.copy() if hasattr(held, "copy") else held
    return dict(vars(held))


def _strided_parts(tensor: Tensor) -> list[Tensor]:
    """Return the tensors that a sparse one consists of, without a copy; any other is its own only part."""
    tensor = tensor.detach()
    if tensor.layout == torch.sparse_coo:
        return [tensor._indices(), tensor._values()]
    if tensor.layout in (torch.sparse_csr, torch.sparse_bsr):
        return [tensor.crow_indices(), tensor.col_indices(), tensor.values()]
    if tensor.layout in (torch.sparse_csc, torch.sparse_bsc):
        return [tensor.ccol_indices(), tensor.row_indices(), tensor.values()]
    return [tensor]


def _is_same(held: Any, copy: Any) -> bool:
    if isinstance(held, Tensor):
        parts = _strided_parts(held)
        return len(parts) == len(copy) and all(
            part.shape == other.shape and torch.equal(part, other) for part, other in zip(parts, copy, strict=True)
        )
    if isinstance(held, np.ndarray):
        return held.dtype.hasobject or np.array_equal(held, copy, equal_nan=held.dtype.kind == "f")
    if not isinstance(held, CONTAINERS):
        held = vars(held)
    if isinstance(held, set):
        return bool(held == copy)
    if len(held) != len(copy):
        return False
    if isinstance(held, dict):
        return all(a is b for a, b in zip(held, copy, strict=True)) and _are_same(held.values(), copy.values())
    return _are_same(held, copy)


def _are_same(some: Iterable[Any], others: Iterable[Any]) -> bool:
    return all(
        a is b or (type(a) in (int, float, str, bool) and type(a) is type(b) and a == b)
        for a, b in zip(some, others, strict=True)
    )


def _put_back(held: Any, copy: Any) -> None:
    if isinstance(held, random.Random):
        held.setstate(copy)
    elif isinstance(held, np.random.Generator):
        held.bit_generator.state = copy
    elif isinstance(held, torch.Generator | np.random.RandomState):
        held.set_state(copy)
    elif isinstance(held, Tensor):
        with torch.no_grad():
            for part, other in zip(_strided_parts(held), copy, strict=True):
                part.copy_(other)
    elif isinstance(held, np.ndarray):
        held[...] = copy
    elif isinstance(held, list):
        held[:] = copy
    elif isinstance(held, deque):
        held.clear()
        held.extend(copy)
    elif not isinstance(held, tuple):
        contents = held if isinstance(held, dict | set) else vars(held)
        contents.clear()
        contents.update(copy)
