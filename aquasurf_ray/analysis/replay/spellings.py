"""The names of a benchmark's functions, the space of the search algorithms that mutate or build expressions.

A benchmark has each function once, but algorithms that work on expressions produce any of its names. So names are
mapped to candidates (through the known names, else through the fingerprint) and candidates to names. The schemas are
derived from the names: one for each shape of tree, with the operators that occur at each node. A shape all of whose
functions also have names of larger schemas (`relu(x)` and `max(identity(x),zero(x))`) is left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING

from aquasurf_ray.activations.errors import ActivationError
from aquasurf_ray.activations.expression import Expression, parse
from aquasurf_ray.activations.identity import fingerprint
from aquasurf_ray.activations.registry import Kind, operator_named
from aquasurf_ray.activations.spaces.schema import Schema
from aquasurf_ray.analysis.errors import BenchmarkError

if TYPE_CHECKING:
    from aquasurf_ray.analysis.benchmarks.benchmark import Benchmark


@dataclass(frozen=True)
class Spellings:
    """All known names of n functions: `names[i]` are those of candidate i, spelled canonically, the shortest first.

    >>> spellings = Spellings((("relu(x)", "max(x,zero(x))"), ("swish(x)",)))
    >>> spellings.find("max(zero(x),x)"), spellings.find("mul(x,sigmoid(x))"), spellings.find("tanh(x)")
    (0, 1, None)
    """

    names: tuple[tuple[str, ...], ...]

    def __len__(self) -> int:
        return len(self.names)

    def find(self, name: str) -> int | None:
        """Return the candidate with this canonically spelled name, or None if the benchmark lacks the function."""
        if name not in self._candidates:  # also remembers that a name leads to no candidate
            self._candidates[name] = self._by_fingerprint.get(fingerprint(name))
        return self._candidates[name]

    @cached_property
    def schemas(self) -> tuple[Schema, ...]:
        """The schemas that generate all functions, the largest first, with sorted operators."""
        return tuple(_merged([genome for _, genome in spelled]) for spelled in self._by_shape.values())

    @cached_property
    def genomes(self) -> tuple[tuple[Expression, ...], ...]:
        """The parsed names of each candidate that the schemas generate; at least one each."""
        known: list[list[Expression]] = [[] for _ in self.names]
        for spelled in self._by_shape.values():
            for candidate, genome in spelled:
                known[candidate].append(genome)
        return tuple(map(tuple, known))

    @cached_property
    def operators(self) -> Mapping[Kind, tuple[str, ...]]:
        """The operators that occur in any name, sorted, by kind."""
        seen: dict[Kind, set[str]] = {}
        pending = list(self.schemas)
        while pending:
            schema = pending.pop()
            for name in schema.choices:
                seen.setdefault(operator_named(name).kind, set()).add(name)
            pending.extend(schema.arguments)
        return {kind: tuple(sorted(names)) for kind, names in seen.items()}

    @cached_property
    def _by_shape(self) -> Mapping[str, list[tuple[int, Expression]]]:
        """The candidates and their parsed names by shape, without the shapes that no candidate needs."""
        shapes: dict[str, list[tuple[int, Expression]]] = {}
        for candidate, names in enumerate(self.names):
            for genome in map(parse, names):
                shapes.setdefault(_shape(genome), []).append((candidate, genome))
        needed, reached = {}, set[int]()
        # From the largest shape down, so that a smaller one is needed only for functions that no larger one has.
        for shape, spelled in sorted(shapes.items(), key=lambda item: -len(item[1])):
            candidates = {candidate for candidate, _ in spelled}
            if not candidates <= reached:
                needed[shape] = spelled
                reached |= candidates
        return needed

    @cached_property
    def _candidates(self) -> dict[str, int | None]:
        return {name: candidate for candidate, names in enumerate(self.names) for name in names}

    @cached_property
    def _by_fingerprint(self) -> Mapping[str, int]:
        return {fingerprint(names[0]): candidate for candidate, names in enumerate(self.names)}


def spellings_of(benchmark: Benchmark) -> Spellings:
    """Return the names in a benchmark; the same object for the same names.

    Raises:
        BenchmarkError: a name has operators that this process does not know.
    """
    return _spellings(benchmark.functions, benchmark.aliases)


@lru_cache(maxsize=8)
def _spellings(functions: Sequence[str], aliases: Sequence[Sequence[str]]) -> Spellings:
    each = zip(functions, aliases, strict=True)
    try:
        return Spellings(tuple(tuple(dict.fromkeys(str(parse(name)) for name in (f, *more))) for f, more in each))
    except ActivationError as error:
        raise BenchmarkError(f"a search by expressions needs known operators: {error}") from error


def _shape(expression: Expression) -> str:
    if expression.operator is None:
        return expression.text
    kind = operator_named(expression.operator).kind
    return f"{kind}({','.join(map(_shape, expression.arguments))})"


def _merged(expressions: Sequence[Expression]) -> Schema:
    """Return the schema of expressions of one shape."""
    if expressions[0].operator is None:
        return Schema(leaf=expressions[0])
    choices = tuple(sorted({expression.operator or "" for expression in expressions}))
    arguments = zip(*(expression.arguments for expression in expressions), strict=True)
    return Schema(choices, tuple(map(_merged, arguments)))
