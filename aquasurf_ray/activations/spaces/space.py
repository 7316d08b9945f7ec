"""Search spaces: the functions that a run may choose from, given by schemas over lists of operators and by extra names.

Three are built in: the paper's `three-node` and `four-node` with its 27 unary operators, and `coatnet`, the four-node
schemas with all 31. A fourth, `open`, has no end: it begins with the three-node space and the zoo, and a search adds
functions that `spaces.growth` makes from the best. Any other space is a YAML file:

    name: small                            # default: the file's name
    unary: [relu, swish, tanh]             # defaults: the paper's 27 unary, 7 binary and 4 n-ary operators
    binary: [mul]
    nary: [sum_n]
    schemas: ["binary(unary(x),unary(x))"]
    names: ["elu(x)"]                      # further functions
    modules: [mypackage.operators]         # imported first: modules that register your own operators

Every name of a space has an index: first the names of the schemas in order, then the extra names. `digest` identifies
the definition, including what registered operators compute, but not the name of the space.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import combinations
from pathlib import Path
from typing import Any

import yaml

from aquasurf_ray.activations.errors import ActivationError, SpaceError
from aquasurf_ray.activations.expression import Expression, parse
from aquasurf_ray.activations.identity import operator_digest
from aquasurf_ray.activations.operators import ALL_UNARY, BINARY, NARY, PAPER_UNARY, VALUES_VERSION
from aquasurf_ray.activations.registry import (
    SLOTS,
    Kind,
    all_operators,
    find_operator,
    operator_named,
    shortened,
    suggestion,
)
from aquasurf_ray.activations.spaces.growth import GROWTH_VERSION
from aquasurf_ray.activations.spaces.schema import OperatorLists, Schema, parse_schema
from aquasurf_ray.activations.zoo import zoo_functions
from aquasurf_ray.baselines import BASELINES
from aquasurf_ray.plain_yaml import read_yaml

_THREE_NODE = ("binary(unary(x),unary(x))",)
_FOUR_NODE = (
    "unary(unary(unary(unary(x))))",
    "unary(binary(unary(x),unary(x)))",
    "binary(unary(unary(x)),unary(x))",
    "binary(unary(x),unary(unary(x)))",
    "nary(unary(x),unary(x),unary(x))",
)
# The keys are the arguments of `define`, so a new one needs no second mention.
_KEYS = ("name", *SLOTS, "schemas", "names", "modules")


@dataclass(frozen=True)
class SearchSpace:
    """A named set of expressions. Create one with `named`, `from_yaml`, `load` or `define`.

    >>> SearchSpace.named("three-node").n_names
    5103
    """

    name: str
    schemas: tuple[Schema, ...]
    own_names: tuple[str, ...] = ()
    modules: tuple[str, ...] = ()
    grows: bool = False

    @classmethod
    def define(
        cls,
        name: str,
        schemas: Sequence[str] = (),
        *,
        names: Sequence[str] = (),
        unary: Sequence[str] = PAPER_UNARY,
        binary: Sequence[str] = BINARY,
        nary: Sequence[str] = NARY,
        modules: Sequence[str] = (),
    ) -> SearchSpace:
        """Return a space from the texts of its schemas, the operators that fill their slots, and extra names.

        Raises:
            SpaceError: a schema, an operator or a name is wrong, two schemas overlap, or the space is empty.

        >>> list(SearchSpace.define("mine", ["unary(x)"], unary=["relu", "elu"], names=["mul(x,sigmoid(x))"]).names())
        ['relu(x)', 'elu(x)', 'mul(x,sigmoid(x))']
        """
        lists: OperatorLists = {
            "unary": _checked_list(unary, "unary"),
            "binary": _checked_list(binary, "binary"),
            "nary": _checked_list(nary, "nary"),
        }
        parsed = tuple(parse_schema(text, lists) for text in schemas)
        for (i, first), (j, second) in combinations(enumerate(parsed), 2):
            # An index must stand for one name, and a name for one index; extra names are compared one by one below.
            if first.overlaps(second):
                raise SpaceError(f"schemas {schemas[i]!r} and {schemas[j]!r} have names in common; remove one of them")
        space = cls(name, parsed, _own_names(names, parsed), tuple(modules))
        if not space.n_names:
            raise SpaceError(f"space {name!r} is empty; give schemas or names")
        return space

    @classmethod
    def named(cls, name: str) -> SearchSpace:
        """Return a built-in space: `three-node`, `four-node`, `coatnet`, or the beginning of `open`.

        Raises:
            SpaceError: no built-in space has this name.
        """
        if name == "three-node":
            return cls.define(name, _THREE_NODE)
        if name == "four-node":
            return cls.define(name, _FOUR_NODE, names=BASELINES)
        if name == "coatnet":
            return cls.define(name, _FOUR_NODE, names=BASELINES, unary=ALL_UNARY)
        if name == OPEN:
            zoo = [str(expression) for _, expression in zoo_functions()]
            return replace(cls.define(name, _THREE_NODE, names=zoo), grows=True)
        raise SpaceError(f"unknown space {shortened(name)}; use {', '.join((*SPACES, OPEN))} or a YAML file")

    @classmethod
    def from_yaml(cls, path: str | Path) -> SearchSpace:
        """Return the space that a YAML file defines, with the keys in this module's first paragraph.

        Raises:
            SpaceError: the file cannot be read, is not YAML, has unknown keys, or defines no valid space.
        """
        path = Path(path)
        try:
            return cls.define(**_arguments(_read_mapping(path), default_name=path.stem))
        except ActivationError as error:
            raise SpaceError(f"space file {str(path)!r}: {error}") from error

    @classmethod
    def load(cls, name_or_path: str | Path) -> SearchSpace:
        """Return a built-in space by name, or the space of a YAML file.

        Raises:
            SpaceError: the argument is neither.
        """
        is_file = isinstance(name_or_path, Path) or Path(name_or_path).suffix in (".yaml", ".yml")
        return cls.from_yaml(name_or_path) if is_file else cls.named(str(name_or_path))

    @property
    def n_names(self) -> int:
        """The number of names, all different."""
        return sum(schema.n_names for schema in self.schemas) + len(self.own_names)

    @cached_property
    def digest(self) -> str:
        """The definition's identity: 32 hexadecimal digits."""
        user_defined = {
            name: operator_digest(operator_named(name))
            for name in sorted(self._operators())
            if not operator_named(name).built_in
        }
        # What decides the functions, without the space's name: a renamed file is the same space, and its table is found
        # on disk.
        definition = [VALUES_VERSION, [_listed(schema) for schema in self.schemas], self.own_names, user_defined]
        if self.grows:
            definition.append(["grows", GROWTH_VERSION, *_operators_of_the_user()])
        return hashlib.blake2b(json.dumps(definition).encode(), digest_size=16).hexdigest()

    def names(self) -> Iterator[str]:
        """Yield all names in the order of their indices, spelled canonically."""
        for schema in self.schemas:
            yield from schema.names()
        yield from self.own_names

    def name_at(self, index: int) -> str:
        """Return the name of one index, 0 <= index < n_names.

        Raises:
            IndexError: the index is out of range.
        """
        if not 0 <= index < self.n_names:
            raise IndexError(f"space {self.name!r} has {self.n_names} names, got index {index}")
        for schema in self.schemas:
            if index < schema.n_names:
                return schema.name_at(index)
            index -= schema.n_names
        return self.own_names[index]

    def __contains__(self, expression: Expression) -> bool:
        """Return whether the space has the expression in this exact spelling."""
        return str(expression) in self.own_names or any(schema.generates(expression) for schema in self.schemas)

    def _operators(self) -> set[str]:
        used: set[str] = set()
        pending: list[Schema | Expression] = [*self.schemas, *map(parse, self.own_names)]
        while pending:
            node = pending.pop()
            used.update(node.choices if isinstance(node, Schema) else (node.operator,) if node.operator else ())
            pending.extend(node.arguments)
        return used


SPACES = ("three-node", "four-node", "coatnet")
"""The names of the built-in spaces that can be enumerated."""
OPEN = "open"
"""The name of the space that grows."""


def _checked_list(names: Sequence[str], kind: Kind) -> tuple[str, ...]:
    for position, name in enumerate(names):
        entry = find_operator(name)
        if entry is None:
            raise SpaceError(f"unknown {kind} operator {shortened(name)}{suggestion(name)}")
        if entry.kind != kind:
            raise SpaceError(f"operator {name!r} is {entry.kind}, listed as {kind}; list it under {entry.kind}")
        if name in names[:position]:
            raise SpaceError(f"{kind} operator {name!r} is listed twice; list it once")
    return tuple(names)


def _operators_of_the_user() -> list[tuple[str, str]]:
    """Return the registered operators that are not built in, which growth uses as well, with their digests."""
    return sorted((entry.name, operator_digest(entry)) for entry in all_operators() if not entry.built_in)


def _own_names(names: Sequence[str], schemas: Sequence[Schema]) -> tuple[str, ...]:
    expressions = dict.fromkeys(map(parse, names))
    return tuple(str(e) for e in expressions if not any(schema.generates(e) for schema in schemas))


def _listed(schema: Schema) -> list[Any]:
    if schema.leaf != Expression():
        return [schema.leaf.text]
    return [list(schema.choices), [_listed(argument) for argument in schema.arguments]]


def _read_mapping(path: Path) -> Mapping[Any, Any]:
    try:
        content = read_yaml(path)
    except OSError as error:
        raise SpaceError(f"cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise SpaceError(f"is not UTF-8 text at byte {error.start}") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f" at line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise SpaceError(f"is not YAML{place}: {getattr(error, 'problem', None) or 'bad characters'}") from error
    if not isinstance(content, Mapping):
        raise SpaceError(f"must be a mapping with {', '.join(_KEYS)}, got {type(content).__name__}")
    return content


def _arguments(content: Mapping[Any, Any], default_name: str) -> dict[str, Any]:
    """Return the arguments of `SearchSpace.define` from a file's content, after importing the file's modules."""
    unknown = [str(key) for key in content if key not in _KEYS]
    if unknown:
        raise SpaceError(f"unknown key {shortened(unknown[0])}; the keys are {', '.join(_KEYS)}")
    name = content.get("name", default_name)
    if not isinstance(name, str) or not name:
        raise SpaceError(f"name must be text, got {shortened(str(name))}")
    lists = {key: _texts(key, value) for key, value in content.items() if key != "name"}
    # Before the lists are checked, because the modules register the operators that they name.
    for module in lists.get("modules", ()):
        _import(module)
    return {"name": name, **lists}


def _texts(key: str, value: object) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(entry, str) for entry in value):
        raise SpaceError(f"{key} must be a list of texts, got {shortened(str(value))}")
    return value


def _import(module: str) -> None:
    """Import a user's module, from the working folder first: an installed `aquasurf`, unlike `python -m`, has no entry
    for it in `sys.path`."""
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        importlib.import_module(module)
    except ImportError as error:
        raise SpaceError(f"module {shortened(module)} cannot be imported: {error}") from error
