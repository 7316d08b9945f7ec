"""The distinct functions of a space: every name evaluated on the sample, names of equal fingerprint grouped.

Evaluating a million names one by one would take half an hour. Three facts reduce it to seconds:

1. A function depends on the values of its sub-expressions alone. So sub-expressions are evaluated
   once, and those whose values are the same bit for bit become one *row*; an operator is applied to rows, not to
   names. Only bit for bit: values that merely round alike can differ after the next operator.
2. Operators that do not mind the order of arguments need each unordered pair of rows once.
3. Blocks of few rows stay in the processor's cache, and both PyTorch and the digest leave Python's lock to others.

The arithmetic is exactly that of `identity.fingerprint` (same operators, same padded width, one thread an operation),
so that a table finds the fingerprint of every expression whose name is in the space.

Names appear as indices (see `space.py`), never as a list of texts: `classes` gives the class of every index.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from aquasurf_ray.activations.errors import SpaceError
from aquasurf_ray.activations.expression import Expression, parse
from aquasurf_ray.activations.identity import (
    DIGEST_BYTES,
    N_POINTS,
    Rule,
    apply,
    digest,
    digest_of,
    exact_arithmetic,
    is_constant,
    padded_sample,
    rounded,
    undefined,
)
from aquasurf_ray.activations.registry import Operator, Symmetry, operator_named
from aquasurf_ray.activations.spaces import cache
from aquasurf_ray.activations.spaces.schema import Schema
from aquasurf_ray.activations.spaces.space import SearchSpace
from aquasurf_ray.activations.spaces.table import FunctionTable, ranked

MAX_NAMES = 5_000_000
MAX_ROWS = 1 << 17  # 1 GB of values in float64; `_distinct_lines` relies on row numbers of 17 bits
_BLOCK_ROWS = 32  # of 1,024 points: 256 KB of float64, which fits a core's cache
_CHUNK_ROWS = 512  # one job of the pool

Progress = Callable[[int, int], None]
Rows = NDArray[np.int64]


def unique_functions(
    space: SearchSpace,
    *,
    rule: Rule = "float64",
    cache_dir: Path | None = None,
    progress: Progress | None = None,
) -> FunctionTable:
    """Return the distinct functions of a space, from disk if they were computed before.

    Args:
        space: the names to deduplicate.
        rule: the arithmetic that decides which functions are equal, see `identity.py`.
        cache_dir: the folder of the tables; by default `$AQUASURF_CACHE`, else `~/.cache/aquasurf-ray`. A damaged file,
            or a folder that cannot be written, is a warning and not a failure.
        progress: called with (evaluations done, evaluations in all) from time to time.

    Raises:
        SpaceError: the space is too large to be enumerated in memory.

    >>> space = SearchSpace.define("small", ["binary(unary(x),unary(x))"], unary=["identity", "one"], binary=["mul"])
    >>> list(unique_functions(space, cache_dir=Path(getfixture("tmp_path"))).names)
    ['mul(identity(x),identity(x))', 'mul(identity(x),one(x))', 'mul(one(x),one(x))']
    """
    if space.n_names > MAX_NAMES:
        raise SpaceError(
            f"space {space.name!r} has {space.n_names:,} names; at most {MAX_NAMES:,} can be enumerated: give fewer "
            "operators or smaller schemas"
        )
    path = cache.path_for(space.digest, rule, cache_dir)
    table = cache.read(path, space)
    if table is None:
        table = _enumerate(space, rule, progress or (lambda done, total: None))
        cache.write(path, table)
    return table


def _enumerate(space: SearchSpace, rule: Rule, progress: Progress) -> FunctionTable:
    with _one_thread_an_operation(), _threads() as pool:
        engine = _Engine(rule, pool)
        applications = _applications(space, engine)
        of_names, digests, flags = _evaluate(applications, space.n_names, engine, progress)
        of_names, digests, flags = _with_learned(space, rule, of_names, digests, flags)
    classes, representatives = _grouped(digests)
    return ranked(space, digests[representatives], classes[of_names], flags[of_names])


class _Application(NamedTuple):
    """One operator applied to rows: arguments of shape (m, n_arguments), for names `first` to `first + m`."""

    operator: Operator
    arguments: Rows
    first: int


class _Block(NamedTuple):
    """Values of n functions, shape (n, 1024), NaN where undefined; `start` is the index of the first function."""

    start: int
    values: Tensor
    undefined: Tensor


class _Engine:
    """The rows of values, and the computation of new rows from them. Row 0 is x.

    A function with an undefined sub-expression is undefined itself, even where the outer operator ignores its argument,
    because a network that uses it fails.
    """

    def __init__(self, rule: Rule, pool: ThreadPoolExecutor) -> None:
        self.pool = pool
        self.values = padded_sample(rule)[None].clone()
        self.undefined = torch.zeros(1, dtype=torch.bool)
        self._row_of: dict[bytes | None, int] = {_bits(self.values[0]): 0}
        self._known: dict[Schema, Rows] = {}

    def rows(self, schema: Schema) -> Rows:
        """Return the row of every name of a schema."""
        if schema.leaf.value is not None:
            return np.array([self._number(schema.leaf.value)])
        if not schema.choices:
            return np.zeros(1, dtype=np.int64)
        if schema not in self._known:
            arguments = self.combinations(schema)
            distinct, inverse = _distinct_lines(arguments)
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

    def combinations(self, schema: Schema) -> Rows:
        """Return the rows of the arguments of every name, for one choice at the root: shape (m, n_arguments)."""
        grids = np.meshgrid(*[self.rows(argument) for argument in schema.arguments], indexing="ij")
        return np.stack([grid.ravel() for grid in grids], axis=1)

    def blocks(self, entry: Operator, arguments: Rows) -> Iterator[_Block]:
        """Yield the operator's values at every line of `arguments`, in order."""
        # A user-defined operator may not really be elementwise, so it gets one function at a time.
        size = _BLOCK_ROWS if entry.built_in else 1
        for start in range(0, len(arguments), size):
            lines = torch.from_numpy(arguments[start : start + size])
            gathered = [self.values.index_select(0, column) for column in lines.unbind(1)]
            without = self.undefined[lines].any(1)
            if entry.built_in:
                values = entry.function(*gathered)
                if self.undefined.any():
                    values.masked_fill_(without[:, None], torch.nan)
            else:
                alone = None if without else apply(entry.function, *(line[0] for line in gathered), name=entry.name)
                without[0] = alone is None
                values = (undefined(gathered[0][0]) if alone is None else alone)[None]
            yield _Block(start, values, without)

    def _new_rows(self, entry: Operator, arguments: Rows, fresh: list[Tensor]) -> Rows:
        """Return the row of the operator at every line of `arguments`, and append values not seen before to `fresh`."""
        rows = np.empty(len(arguments), dtype=np.int64)

        def evaluated(first: int) -> list[_Block]:
            with exact_arithmetic():
                return list(self.blocks(entry, arguments[first : first + _CHUNK_ROWS]))

        starts = range(0, len(arguments), _CHUNK_ROWS)
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
            fresh.append(line.clone())
        return row


def _applications(space: SearchSpace, engine: _Engine) -> list[_Application]:
    """Return the applications of operators at the root of every name."""
    applications = []
    first = 0
    for schema in _schemas(space):
        if schema.is_learned:
            first += schema.n_names
            continue
        choices = [operator_named(choice) for choice in schema.choices] or [operator_named("identity")]
        arguments = engine.combinations(schema) if schema.choices else engine.rows(schema)[:, None]
        for entry in choices:
            applications.append(_Application(entry, arguments, first))
            first += len(arguments)
    return applications


def _schemas(space: SearchSpace) -> list[Schema]:
    """Return the schemas of a space, and one for each of its extra names."""
    return [*space.schemas, *(_as_schema(parse(name)) for name in space.own_names)]


def _as_schema(expression: Expression) -> Schema:
    if expression.operator is None:
        return Schema(leaf=expression)
    return Schema((expression.operator,), tuple(map(_as_schema, expression.arguments)))


def _evaluate(
    applications: Sequence[_Application], n_names: int, engine: _Engine, progress: Progress
) -> tuple[Rows, NDArray[np.uint8], NDArray[np.bool_]]:
    """Return the application of every name, and the digests and flags of all distinct applications."""
    of_names = np.empty(n_names, dtype=np.int64)
    jobs: list[tuple[Operator, Rows]] = []
    total = 0
    for entry, group in _by_operator(applications):
        distinct, inverse = _distinct_lines(_sorted(np.concatenate([g.arguments for g in group]), entry.symmetry))
        ends = np.cumsum([len(g.arguments) for g in group])[:-1]
        for application, part in zip(group, np.split(inverse, ends), strict=True):
            of_names[application.first : application.first + len(part)] = part + total
        jobs += [(entry, distinct[i : i + _CHUNK_ROWS]) for i in range(0, len(distinct), _CHUNK_ROWS)]
        total += len(distinct)
    digests = np.empty((total, DIGEST_BYTES), dtype=np.uint8)
    flags = np.empty((total, 2), dtype=np.bool_)
    done = 0
    for part_digests, part_flags in engine.pool.map(lambda job: _digested(engine, *job), jobs):
        digests[done : done + len(part_digests)] = part_digests
        flags[done : done + len(part_flags)] = part_flags
        done += len(part_digests)
        progress(done, total)
    return of_names, digests, flags


def _with_learned(
    space: SearchSpace, rule: Rule, of_names: Rows, digests: NDArray[np.uint8], flags: NDArray[np.bool_]
) -> tuple[Rows, NDArray[np.uint8], NDArray[np.bool_]]:
    """Return the same with the functions that have learned parameters, evaluated one by one, because their identity is
    more than values. Such a function is constant if it does not become another one when its parameters move."""
    own_digests: list[NDArray[np.uint8]] = []
    own_flags: list[tuple[bool, bool]] = []
    first = 0
    for schema in _schemas(space):
        for number, name in enumerate(schema.names() if schema.is_learned else (), start=first):
            expression = parse(name)
            with exact_arithmetic():
                values = apply(expression.evaluate, padded_sample(rule), name=name)
            of_names[number] = len(digests) + len(own_digests)
            own_digests.append(np.frombuffer(digest_of(expression, rule), dtype=np.uint8))
            is_finite = values is not None and bool(values[:N_POINTS].isfinite().all())
            own_flags.append((is_finite, is_constant(expression, rule)))
        first += schema.n_names
    if not own_digests:
        return of_names, digests, flags
    return of_names, np.concatenate([digests, own_digests]), np.concatenate([flags, own_flags])


def _by_operator(applications: Sequence[_Application]) -> Iterator[tuple[Operator, list[_Application]]]:
    groups: dict[tuple[str, int], list[_Application]] = {}
    for application in applications:
        groups.setdefault((application.operator.name, application.arguments.shape[1]), []).append(application)
    for group in groups.values():
        yield group[0].operator, group


def _digested(engine: _Engine, entry: Operator, arguments: Rows) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Return the digest and the flags (finite, constant) of the operator at every line of `arguments`."""
    digests = bytearray()
    flags = np.empty((len(arguments), 2), dtype=np.bool_)
    with exact_arithmetic():
        for start, values, _ in engine.blocks(entry, arguments):
            final = rounded(values)
            stop = start + len(values)
            # Zero times a number is zero unless the number is infinite or NaN; much faster than isfinite.
            flags[start:stop, 0] = (values[:, :N_POINTS].mul(0.0).sum(1) == 0.0).numpy()
            flags[start:stop, 1] = (final.amin(1) == final.amax(1)).numpy()
            for line in final.numpy():
                digests += digest(line)
    return np.frombuffer(digests, dtype=np.uint8).reshape(-1, DIGEST_BYTES), flags


def _sorted(arguments: Rows, symmetry: Symmetry) -> Rows:
    """Return every line with its interchangeable arguments in ascending order."""
    if symmetry is Symmetry.ALL:
        return np.sort(arguments, axis=1)
    if symmetry is Symmetry.FIRST_TWO:
        return np.concatenate([np.sort(arguments[:, :2], axis=1), arguments[:, 2:]], axis=1)
    return arguments


def _distinct_lines(lines: Rows) -> tuple[Rows, Rows]:
    """Return the distinct lines of a matrix of rows, and the index of every line among them."""
    # Up to three row numbers of 17 bits fit one int64, and numbers are sorted much faster than lines of a matrix.
    if lines.shape[1] > 3:
        distinct, inverse = np.unique(lines, axis=0, return_inverse=True)
        return distinct, inverse.ravel()
    weights = MAX_ROWS ** np.arange(lines.shape[1], dtype=np.int64)[::-1]
    _, first, inverse = np.unique(lines @ weights, return_index=True, return_inverse=True)
    return lines[first], inverse


def _grouped(digests: NDArray[np.uint8]) -> tuple[Rows, Rows]:
    """Return the class of every digest, and one representative of every class."""
    high, low = np.ascontiguousarray(digests).view(">u8").T
    # The 16 bytes of a digest as two integers, which are sorted much faster than bytes.
    order = np.lexsort((low, high))
    starts = np.ones(len(order), dtype=np.bool_)
    starts[1:] = (np.diff(high[order].view(np.uint64)) != 0) | (np.diff(low[order]) != 0)
    classes = np.empty(len(order), dtype=np.int64)
    classes[order] = np.cumsum(starts) - 1
    return classes, order[starts]


def _bits(line: Tensor) -> bytes:
    """Return a digest of the values, bit for bit."""
    return hashlib.blake2b(line.numpy().data, digest_size=DIGEST_BYTES).digest()


@contextmanager
def _threads() -> Iterator[ThreadPoolExecutor]:
    pool = ThreadPoolExecutor(os.cpu_count())
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)  # an error or Ctrl-C must not wait for the rest of the space


@contextmanager
def _one_thread_an_operation() -> Iterator[None]:
    """Prevent PyTorch from splitting an operation where a thread's share is not a multiple of the vector width."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
