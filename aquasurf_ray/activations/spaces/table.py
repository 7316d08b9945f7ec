"""The distinct functions of a space in a fixed order, with all their names.

Functions are in the order of their canonical names: fewest operators first, then alphabetical; a function's canonical
name is the first of its names in the same order. Everything is stored in arrays (a four-node table takes about 12 MB),
and names are spelled out on demand.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import overload

import numpy as np
from numpy.typing import NDArray

from aquasurf_ray.activations.expression import count_operators
from aquasurf_ray.activations.spaces.space import SearchSpace


@dataclass(frozen=True, eq=False)
class FunctionTable:
    """The n distinct functions of a space; a function is identified by its position in this table.

    Attributes:
        space: the space whose names these are.
        digests: the fingerprints, uint8 of shape (n, 16).
        canonical: the index of each function's canonical name in the space, int32 of shape (n,).
        classes: the function of each name of the space, int32 of shape (n_names,).
    """

    space: SearchSpace
    digests: NDArray[np.uint8]
    canonical: NDArray[np.int32]
    classes: NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.digests)

    @property
    def n_names(self) -> int:
        """The number of names of all functions."""
        return len(self.classes)

    @property
    def names(self) -> Sequence[str]:
        """The canonical names."""
        spelled, canonical = self.space.name_at, self.canonical
        return _Texts(len(self), lambda rows: [spelled(index) for index in canonical[rows].tolist()])

    @property
    def fingerprints(self) -> Sequence[str]:
        """The fingerprints, 32 hexadecimal digits each."""
        return _Texts(len(self), lambda rows: [digest.tobytes().hex() for digest in self.digests[rows]])

    def aliases(self, function: int) -> list[str]:
        """Return all names of a function in the space, the canonical one first."""
        order, starts = self._names_by_function
        indices = order[starts[function] : starts[function + 1]]
        return sorted(map(self.space.name_at, indices.tolist()), key=lambda name: (count_operators(name), name))

    def find(self, fingerprint: str) -> int | None:
        """Return the function with this fingerprint, or None if the space does not have it."""
        try:
            return self._position.get(bytes.fromhex(fingerprint))
        except ValueError:
            return None

    def sample(self, n: int, seed: int, include: Iterable[int] = ()) -> list[int]:
        """Choose n different functions: first those of `include` in their order, then others at random.

        Returns all functions if there are not more than n. One seed gives one order of the table, and a sample takes
        its first n, so that a larger sample with the same seed contains a smaller one. The order does not depend on
        NumPy's version.
        """
        drawn = np.random.PCG64(seed).random_raw(len(self))
        wanted = dict.fromkeys([*include, *np.argsort(drawn, kind="stable").tolist()])
        return list(wanted)[: max(n, 0)]

    @cached_property
    def _names_by_function(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        starts = np.concatenate([[0], np.cumsum(np.bincount(self.classes, minlength=len(self)))])
        return np.argsort(self.classes, kind="stable"), starts

    @cached_property
    def _position(self) -> dict[bytes, int]:
        return {self.digests[i].tobytes(): i for i in range(len(self))}


def ranked(space: SearchSpace, digests: NDArray[np.uint8], classes: NDArray[np.int64]) -> FunctionTable:
    """Return the table of a space from its functions in any order; `classes` gives the function of every name."""
    best: list[tuple[int, str, int]] = [(1 << 30, "", -1)] * len(digests)  # larger than any number of operators
    for index, (n_operators, name) in enumerate(_sized_names(space)):
        function = classes[index]
        if (n_operators, name) < best[function][:2]:
            best[function] = (n_operators, name, index)
    order = np.array(sorted(range(len(best)), key=best.__getitem__), dtype=np.int64)
    position = np.empty(len(order), dtype=np.int32)
    position[order] = np.arange(len(order), dtype=np.int32)
    canonical = np.array([entry[2] for entry in best], dtype=np.int32)
    return FunctionTable(space, digests[order], canonical[order], position[classes])


def _sized_names(space: SearchSpace) -> Iterator[tuple[int, str]]:
    for schema in space.schemas:
        for name in schema.names():
            yield schema.n_operators, name
    for name in space.own_names:
        yield count_operators(name), name


@dataclass(frozen=True)
class _Texts(Sequence[str]):
    """A text for each of `n` functions, spelled out when it is asked for: `of` returns those of some rows."""

    n: int
    of: Callable[[slice], list[str]]

    def __len__(self) -> int:
        return self.n

    @overload
    def __getitem__(self, item: int) -> str: ...
    @overload
    def __getitem__(self, item: slice) -> list[str]: ...
    def __getitem__(self, item: int | slice) -> str | list[str]:
        if isinstance(item, slice):
            return self.of(item)
        row = range(self.n)[item]  # of a negative index, or an IndexError
        return self.of(slice(row, row + 1))[0]
