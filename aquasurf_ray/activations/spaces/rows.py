"""The rows of an enumeration: the values of all inner nodes of a space, each value once.

Sub-expressions whose values are the same bit for bit share one row; operators are then applied to row numbers instead
of names (see `enumeration.py`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from aquasurf_ray.activations.errors import SpaceError
from aquasurf_ray.activations.identity import DIGEST_BYTES, Rule, exact_arithmetic, padded_sample
from aquasurf_ray.activations.registry import Operator, operator_named
from aquasurf_ray.activations.spaces.blocks import BLOCK_ROWS, apply_to_block
from aquasurf_ray.activations.spaces.schema import Schema

MAX_ROWS = 1 << 17  # 1 GB of values in float64; `distinct_lines` relies on row numbers of 17 bits
CHUNK_ROWS = 512  # one job of the pool: 16 blocks, so that handing it out costs little relative to the arithmetic

RowNumbers = NDArray[np.int64]


class Block(NamedTuple):
    """Values of n functions, shape (n, 1024), NaN where undefined; `start` is the index of the first function."""

    start: int
    values: Tensor
    undefined: Tensor


class Rows:
    """The rows of values, and the computation of new rows from them. Row 0 is x.

    A function with an undefined sub-expression is undefined itself, even where the outer operator ignores its argument,
    because a network that uses it fails.
    """

    def __init__(self, rule: Rule, pool: ThreadPoolExecutor) -> None:
        self.pool = pool
        self.values = padded_sample(rule)[None].clone()
        self.undefined = torch.zeros(1, dtype=torch.bool)
        # The key None is the one row of all undefined values, whatever made them undefined.
        self._row_of: dict[bytes | None, int] = {_bits(self.values[0]): 0}
        self._known: dict[Schema, RowNumbers] = {}

    def rows(self, schema: Schema) -> RowNumbers:
        """Return the row of every name of a schema."""
        if schema.leaf.value is not None:
            return np.array([self._number(schema.leaf.value)])
        if not schema.choices:
            return np.zeros(1, dtype=np.int64)
        if schema not in self._known:
            arguments = self.combinations(schema)
            distinct, inverse = distinct_lines(arguments)
            fresh: list[Tensor] = []
            parts = [self._new_rows(operator_named(choice), distinct, fresh)[inverse] for choice in schema.choices]
            self._known[schema] = np.concatenate(parts)
            self.values = torch.cat([self.values, *(line[None] for line in fresh)])
            self.undefined = torch.zeros(len(self.values), dtype=torch.bool)
            if None in self._row_of:
                self.undefined[self._row_of[None]] = True
        return self._known[schema]

    def _number(self, value: float) -> int:
        """Return the row of a constant."""
        line = torch.full_like(self.values[0], value)
        fresh: list[Tensor] = []
        row = self._row(_bits(line), line, fresh)
        if fresh:
            self.values = torch.cat([self.values, line[None]])
            self.undefined = torch.cat([self.undefined, torch.zeros(1, dtype=torch.bool)])
        return row

    def combinations(self, schema: Schema) -> RowNumbers:
        """Return the rows of the arguments of every name, for one choice at the root: shape (m, n_arguments)."""
        grids = np.meshgrid(*[self.rows(argument) for argument in schema.arguments], indexing="ij")
        return np.stack([grid.ravel() for grid in grids], axis=1)

    def blocks(self, entry: Operator, arguments: RowNumbers) -> Iterator[Block]:
        """Yield the operator's values at every line of `arguments`, in order."""
        for start in range(0, len(arguments), BLOCK_ROWS):
            lines = torch.from_numpy(arguments[start : start + BLOCK_ROWS])
            gathered = [self.values.index_select(0, column) for column in lines.unbind(1)]
            without = self.undefined[lines].any(1)
            values = apply_to_block(entry, gathered, without)
            yield Block(start, values, without)

    def _new_rows(self, entry: Operator, arguments: RowNumbers, fresh: list[Tensor]) -> RowNumbers:
        """Return the row of the operator at every line of `arguments`, and append values not seen before to `fresh`."""
        rows = np.empty(len(arguments), dtype=np.int64)

        def evaluated(first: int) -> list[Block]:
            with exact_arithmetic():
                return list(self.blocks(entry, arguments[first : first + CHUNK_ROWS]))

        starts = range(0, len(arguments), CHUNK_ROWS)
        for first, blocks in zip(starts, self.pool.map(evaluated, starts), strict=True):
            for start, values, without in blocks:
                for offset, (line, is_undefined) in enumerate(zip(values, without.tolist(), strict=True)):
                    rows[first + start + offset] = self._row(None if is_undefined else _bits(line), line, fresh)
        return rows

    def _row(self, bits: bytes | None, line: Tensor, fresh: list[Tensor]) -> int:
        row = self._row_of.setdefault(bits, len(self._row_of))
        if row == len(self.values) + len(fresh):
            if row == MAX_ROWS:
                raise SpaceError(
                    f"the inner nodes of the space have more than {MAX_ROWS:,} functions: give fewer operators"
                )
            # A copy, because the line is a view that would keep its whole block in memory.
            fresh.append(line.clone())
        return row


def distinct_lines(lines: RowNumbers) -> tuple[RowNumbers, RowNumbers]:
    """Return the distinct lines of a matrix of rows, and the index of every line among them."""
    # Up to three row numbers of 17 bits fit one int64, and numbers are sorted much faster than lines of a matrix.
    if lines.shape[1] > 3:
        distinct, inverse = np.unique(lines, axis=0, return_inverse=True)
        return distinct, inverse.ravel()
    weights = MAX_ROWS ** np.arange(lines.shape[1], dtype=np.int64)[::-1]
    _, first, inverse = np.unique(lines @ weights, return_index=True, return_inverse=True)
    return lines[first], inverse


def _bits(line: Tensor) -> bytes:
    """Return a digest of the values, bit for bit."""
    return hashlib.blake2b(line.numpy().data, digest_size=DIGEST_BYTES).digest()
