"""The operators: their definition, the registry of this process, and the registration of user-defined ones.

An operator is an elementwise function of one tensor (unary), two (binary) or at least two (n-ary). The parser, the
printer, the spaces and the module all read this registry and nothing else; `operators.py` registers the built-in
operators, one line each.

Templates write the arguments as `#1` and `#2`, and `#*` for all of them. The two levels of an operator decide where
LaTeX needs parentheses: `level` is how tightly the printed operator binds, `argument_levels` is how tightly each
argument must bind to need no parentheses.

The registry belongs to the process: another process (a Ray worker, a second run) knows a user-defined operator only
after it has imported the module that registers it. So put registrations at the top level of an importable module, not
into a script or a notebook, and name that module under `modules` in the YAML file of a space.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches
from enum import Enum, IntEnum
from functools import cached_property
from operator import attrgetter
from typing import TYPE_CHECKING, Literal, TypeAlias

from aquasurf_ray.activations.errors import OperatorError

if TYPE_CHECKING:
    from torch import Tensor

Elementwise: TypeAlias = "Callable[..., Tensor]"
Kind = Literal["unary", "binary", "nary"]

VARIABLE = "x"
LEARNED = ("learn", "learn_channel")
"""The leaves that stand for a learned parameter: one for a layer, and one for each channel."""
SLOTS: tuple[Kind, ...] = ("unary", "binary", "nary")
_MIN_NARY_ARGUMENTS = 2
MAX_NAME_LENGTH = 40
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_CALL = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)\(")


class Level(IntEnum):
    """The binding strength of a printed expression, loosest first."""

    ANY = 0
    SUM = 1
    PRODUCT = 2
    POWER = 3
    ATOM = 4


class Symmetry(Enum):
    """The arguments that may be swapped without changing the value by a single bit."""

    NONE = "none"
    FIRST_TWO = "first two"
    ALL = "all"


@dataclass(frozen=True)
class Operator:
    """One line of the table.

    `definition` is the function, or the name of a built-in one, which is looked up when it is first evaluated. A
    stand-in is known by its values only (`driver.stand_ins`), and gives way to the operator itself.
    """

    name: str
    kind: Kind
    definition: Elementwise | str
    latex: str
    words: str
    level: Level = Level.ATOM
    argument_levels: tuple[Level, ...] = (Level.ANY,)
    joiner: str = ", "
    symmetry: Symmetry = Symmetry.NONE
    built_in: bool = False
    stand_in: bool = False

    @cached_property
    def function(self) -> Elementwise:
        """The function of as many tensors as the operator has arguments, all of one shape, to one of that shape."""
        if not isinstance(self.definition, str):
            return self.definition
        from aquasurf_ray.activations import operator_functions

        found: Elementwise = attrgetter(self.definition)(operator_functions)
        return operator_functions.folded(found) if self.kind == "nary" else found

    def accepts(self, n_arguments: int) -> bool:
        """Return whether the operator takes this number of arguments."""
        if self.kind == "nary":
            return n_arguments >= _MIN_NARY_ARGUMENTS
        return n_arguments == (1 if self.kind == "unary" else 2)

    @property
    def takes(self) -> str:
        """The number of arguments in words, for error messages."""
        return {"unary": "1 argument", "binary": "2 arguments", "nary": "2 or more arguments"}[self.kind]


_TABLE: dict[str, Operator] = {}

ALL_OPERATORS = (
    "; for all operators: aquasurf zoo --operators; for your own: --modules MODULE, or register_unary in Python"
)


def operator_named(name: str) -> Operator:
    """Return the operator of this name.

    Raises:
        OperatorError: no operator has this name; the text suggests the nearest known name.
    """
    found = _TABLE.get(name)
    if found is None:
        raise OperatorError(f"unknown operator {shortened(name)}{suggestion(name)}")
    return found


def find_operator(name: str) -> Operator | None:
    """Return the operator of this name, or None."""
    return _TABLE.get(name)


def is_stand_in(name: str) -> bool:
    """Return whether this process has only values of the operator of this name, not the operator itself."""
    found = _TABLE.get(name)
    return found is not None and found.stand_in


def is_reserved(name: str) -> bool:
    """Return whether no operator of a user's own may have this name: it is a word of the language or built in.

    >>> is_reserved("relu"), is_reserved("learn"), is_reserved("my_act")
    (True, True, False)
    """
    taken = _TABLE.get(name)
    return _is_word(name) or (taken is not None and taken.built_in)


def own_operators_in(text: str) -> set[str]:
    """Return the operators in a function's text that are somebody's own, whether this process knows them or not.

    >>> own_operators_in("mul(my_act(x),learn(1))")
    {'my_act'}
    """
    return {name for name in _CALL.findall(text) if not is_reserved(name)}


def all_operators(kind: Kind | None = None) -> tuple[Operator, ...]:
    """Return all operators in the order of registration, or those of one kind.

    >>> [operator.name for operator in all_operators("nary")]
    ['sum_n', 'prod_n', 'max_n', 'min_n']
    """
    return tuple(entry for entry in _TABLE.values() if kind in (None, entry.kind))


def shortened(name: str) -> str:
    """Return the name in quotes for a message, cut where it is too long to read."""
    return repr(name if len(name) <= MAX_NAME_LENGTH else name[:MAX_NAME_LENGTH] + "...")


def suggestion(name: str, *others: str, otherwise: str = ALL_OPERATORS) -> str:
    """Return the end of a message about an unknown name: the nearest operator (or one of `others`), or `otherwise`.

    >>> suggestion("sigmiod")
    "; did you mean 'sigmoid'?"
    >>> suggestion("foo")
    '; for all operators: aquasurf zoo --operators; for your own: --modules MODULE, or register_unary in Python'
    """
    # Of a long text, difflib would take seconds, and the nearest name would mean nothing.
    known = (*_TABLE, *others)
    near = get_close_matches(name.lower(), known, n=1) if len(name) <= MAX_NAME_LENGTH else []
    return f"; did you mean {near[0]!r}?" if near else otherwise


def register_unary(
    name: str,
    function: Callable[[Tensor], Tensor],
    *,
    latex: str | None = None,
    words: str | None = None,
    replace: bool = False,
) -> None:
    r"""Add an operator of one argument to the language of this process.

    Args:
        name: as written in expressions; an identifier that is not taken.
        function: elementwise and differentiable; gets and returns a tensor of any shape, on any device.
        latex: a template with `#1` for the argument, such as `#1^{3}`; `\operatorname{name}` if left out.
        words: a template in plain words, such as `cube of #1`.
        replace: allow redefining an operator registered earlier (never a built-in one), for notebooks.

    Raises:
        OperatorError: the name is not an identifier, or is taken, or a template lacks its argument.
    """
    _register("unary", name, function, latex, words, replace)


def register_binary(
    name: str,
    function: Callable[[Tensor, Tensor], Tensor],
    *,
    latex: str | None = None,
    words: str | None = None,
    replace: bool = False,
) -> None:
    """Add an operator of two arguments, `#1` and `#2` in its templates; see `register_unary` for the rest."""
    _register("binary", name, function, latex, words, replace)


def register_nary(
    name: str,
    function: Callable[..., Tensor],
    *,
    latex: str | None = None,
    words: str | None = None,
    replace: bool = False,
) -> None:
    """Add an operator of two or more arguments, `#*` in its templates; see `register_unary` for the rest."""
    _register("nary", name, function, latex, words, replace)


def register_stand_in(name: str, function: Callable[[Tensor], Tensor]) -> None:
    """Add an operator of one argument by its values, unless the operator itself is known; registering that replaces it.

    Raises:
        OperatorError: the name is not an identifier.
    """
    taken = _TABLE.get(name)
    if taken is None or taken.stand_in:
        _register("unary", name, function, None, None, replace=True, stand_in=True)


def unregister(name: str) -> None:
    """Remove a user-defined operator.

    Raises:
        OperatorError: the name is unknown or built in.
    """
    if operator_named(name).built_in:
        raise OperatorError(f"operator {name!r} is built in and cannot be removed; only operators of your own can")
    del _TABLE[name]


def add_built_in(entry: Operator) -> None:
    """Add a line of the built-in table; only `operators.py` calls it."""
    _TABLE[entry.name] = entry


def _register(
    kind: Kind,
    name: str,
    function: Elementwise,
    latex: str | None,
    words: str | None,
    replace: bool,
    stand_in: bool = False,
) -> None:
    _check_name(name, replace)
    places = {"unary": ("#1",), "binary": ("#1", "#2"), "nary": ("#*",)}[kind]
    spelled = name.replace("_", r"\_")
    call = rf"\operatorname{{{spelled}}}\left({', '.join(places)}\right)"
    phrase = f"{name.replace('_', ' ')} of {' and '.join(places)}"
    latex_text, words_text = call if latex is None else latex, phrase if words is None else words
    entry = Operator(name, kind, function, latex_text, words_text, stand_in=stand_in)
    for template in (entry.latex, entry.words):
        _check_template(name, template, places)
    if latex is not None:
        # How tightly an unknown template binds is not known, so the template and its arguments get parentheses.
        entry = Operator(name, kind, function, latex, entry.words, Level.ANY, (Level.ATOM,))
    _TABLE[name] = entry


def _is_word(name: str) -> bool:
    return name == VARIABLE or name in SLOTS or name in LEARNED


def _check_name(name: str, replace: bool) -> None:
    if not _NAME.fullmatch(name) or len(name) > MAX_NAME_LENGTH:
        raise OperatorError(
            f"operator name {shortened(name)} must be an identifier of at most {MAX_NAME_LENGTH} letters"
        )
    # As operators, these words would change the meaning of texts that are stored already.
    if _is_word(name):
        raise OperatorError(f"operator name {name!r} is a word of the language; choose another")
    taken = _TABLE.get(name)
    if taken is not None and not taken.stand_in and not (replace and not taken.built_in):
        hint = "choose another" if taken.built_in else "choose another or pass replace=True"
        raise OperatorError(f"operator name {name!r} is taken; {hint}")


def _check_template(name: str, template: str, places: tuple[str, ...]) -> None:
    for place in places:
        if place not in template:
            raise OperatorError(
                f"template {template!r} of operator {name!r} lacks {place}, the place of an argument; add it"
            )
