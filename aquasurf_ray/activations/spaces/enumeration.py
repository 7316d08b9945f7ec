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

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from aquasurf_ray.activations.errors import SpaceError
from aquasurf_ray.activations.expression import Expression, parse
from aquasurf_ray.activations.identity import (
    DIGEST_BYTES,
    Rule,
    digest,
    digest_of,
    exact_arithmetic,
    rounded,
)
from aquasurf_ray.activations.registry import Operator, Symmetry, operator_named
from aquasurf_ray.activations.spaces import cache
from aquasurf_ray.activations.spaces.blocks import single_threaded_operations
from aquasurf_ray.activations.spaces.evaluation import Evaluator
from aquasurf_ray.activations.spaces.rows import CHUNK_ROWS, RowNumbers, Rows, distinct_lines
from aquasurf_ray.activations.spaces.schema import Schema
from aquasurf_ray.activations.spaces.space import SearchSpace
from aquasurf_ray.activations.spaces.table import FunctionTable, ranked

MAX_NAMES = 5_000_000

Progress = Callable[[int, int], None]


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
    with single_threaded_operations(), _threads() as pool:
        rows = Rows(rule, pool)
        applications = _applications(space, rows)
        of_names, digests = _evaluate(applications, space.n_names, rows, progress)
        of_names, digests = _with_numbers(space, rule, of_names, digests)
    classes, representatives = _grouped(digests)
    return ranked(space, digests[representatives], classes[of_names])


class _Application(NamedTuple):
    """One operator applied to rows: arguments of shape (m, n_arguments), for names `first` to `first + m`."""

    operator: Operator
    arguments: RowNumbers
    first: int


def _applications(space: SearchSpace, rows: Rows) -> list[_Application]:
    """Return the applications of operators at the root of every name."""
    applications = []
    first = 0
    for schema in _schemas(space):
        if schema.has_numbers:
            first += schema.n_names
            continue
        # A leaf alone, x or a number, is treated as identity(leaf), so that every name has an operator at its root.
        choices = [operator_named(choice) for choice in schema.choices] or [operator_named("identity")]
        arguments = rows.combinations(schema) if schema.choices else rows.rows(schema)[:, None]
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
    applications: Sequence[_Application], n_names: int, rows: Rows, progress: Progress
) -> tuple[RowNumbers, NDArray[np.uint8]]:
    """Return the application of every name, and the digests of all distinct applications."""
    of_names = np.empty(n_names, dtype=np.int64)
    jobs: list[tuple[Operator, RowNumbers]] = []
    total = 0
    for entry, group in _by_operator(applications):
        distinct, inverse = distinct_lines(_sorted(np.concatenate([g.arguments for g in group]), entry.symmetry))
        ends = np.cumsum([len(g.arguments) for g in group])[:-1]
        for application, part in zip(group, np.split(inverse, ends), strict=True):
            of_names[application.first : application.first + len(part)] = part + total
        # Names with the same operator and the same rows are one function already, before any value is computed.
        jobs += [(entry, distinct[i : i + CHUNK_ROWS]) for i in range(0, len(distinct), CHUNK_ROWS)]
        total += len(distinct)
    digests = np.empty((total, DIGEST_BYTES), dtype=np.uint8)
    done = 0
    for part_digests in rows.pool.map(lambda job: _digested(rows, *job), jobs):
        digests[done : done + len(part_digests)] = part_digests
        done += len(part_digests)
        progress(done, total)
    return of_names, digests


def _with_numbers(
    space: SearchSpace, rule: Rule, of_names: RowNumbers, digests: NDArray[np.uint8]
) -> tuple[RowNumbers, NDArray[np.uint8]]:
    """Return the same with the functions that have constants or learned parameters, because their identity may be more
    than their values on the sample."""
    own_digests = [digests]
    first, n = 0, len(digests)
    for schema in _schemas(space):
        expressions = map(parse, schema.names() if schema.has_numbers else ())
        start = first
        while some := list(islice(expressions, CHUNK_ROWS)):
            own_digests.append(_digests_of(some, rule))
            of_names[start : start + len(some)] = np.arange(n, n + len(some))
            start, n = start + len(some), n + len(some)
        first += schema.n_names
    return of_names, np.concatenate(own_digests)


def _digests_of(expressions: Sequence[Expression], rule: Rule) -> NDArray[np.uint8]:
    if rule == "float64":  # the rule of the evaluator, which is much faster
        found = b"".join(map(bytes.fromhex, Evaluator().evaluate(expressions).fingerprints))
    else:
        found = b"".join(digest_of(expression, rule) for expression in expressions)
    return np.frombuffer(found, dtype=np.uint8).reshape(-1, DIGEST_BYTES)


def _by_operator(applications: Sequence[_Application]) -> Iterator[tuple[Operator, list[_Application]]]:
    groups: dict[tuple[str, int], list[_Application]] = {}
    for application in applications:
        groups.setdefault((application.operator.name, application.arguments.shape[1]), []).append(application)
    for group in groups.values():
        yield group[0].operator, group


def _digested(rows: Rows, entry: Operator, arguments: RowNumbers) -> NDArray[np.uint8]:
    """Return the digest of the operator at every line of `arguments`."""
    digests = bytearray()
    with exact_arithmetic():
        for _, values, _ in rows.blocks(entry, arguments):
            for line in rounded(values).numpy():
                digests += digest(line)
    return np.frombuffer(digests, dtype=np.uint8).reshape(-1, DIGEST_BYTES)


def _sorted(arguments: RowNumbers, symmetry: Symmetry) -> RowNumbers:
    """Return every line with its interchangeable arguments in ascending order."""
    if symmetry is Symmetry.ALL:
        return np.sort(arguments, axis=1)
    if symmetry is Symmetry.FIRST_TWO:
        return np.concatenate([np.sort(arguments[:, :2], axis=1), arguments[:, 2:]], axis=1)
    return arguments


def _grouped(digests: NDArray[np.uint8]) -> tuple[RowNumbers, RowNumbers]:
    """Return the class of every digest, and one representative of every class."""
    high, low = np.ascontiguousarray(digests).view(">u8").T
    # The 16 bytes of a digest as two integers, which are sorted much faster than bytes.
    order = np.lexsort((low, high))
    starts = np.ones(len(order), dtype=np.bool_)
    starts[1:] = (np.diff(high[order].view(np.uint64)) != 0) | (np.diff(low[order]) != 0)
    classes = np.empty(len(order), dtype=np.int64)
    classes[order] = np.cumsum(starts) - 1
    return classes, order[starts]


@contextmanager
def _threads() -> Iterator[ThreadPoolExecutor]:
    pool = ThreadPoolExecutor(os.cpu_count())
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)  # an error or Ctrl-C must not wait for the rest of the space
