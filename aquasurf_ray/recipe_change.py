"""One change of a task's recipe, with which an evaluation may be trained: `learning_rate*0.5`, `weight_decay=0.001`.

The text is part of an evaluation's identity in the store, so one change has one spelling; "" is the recipe as it is. A
learning rate is a factor on the recipe's own, because what suits one function is twice or half of what suits another;
any other numeric field has a value. Like the names of baselines, this needs no other part of the package.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, TypeVar

R = TypeVar("R")

LEARNING_RATE = "learning_rate"
UNCHANGED = ""
"""The text of no change."""
_FORM = re.compile(r"(?P<field>[a-z_0-9]+)(?P<sign>[*=])(?P<value>[^*=\s]+)")
_NUMERIC = ("int", "float", "float | None")


@dataclass(frozen=True)
class RecipeChange:
    """A change of one field: a factor on the learning rate, or the value of another field.

    >>> str(RecipeChange("learning_rate", 2.0)), str(RecipeChange("weight_decay", 1e-3))
    ('learning_rate*2', 'weight_decay=0.001')
    """

    field: str
    value: float

    @classmethod
    def parse(cls, text: str) -> RecipeChange | None:
        """Return the change that a text describes; None for "", the recipe as it is.

        Raises:
            ValueError: the text describes no change.

        >>> RecipeChange.parse("learning_rate*0.5")
        RecipeChange(field='learning_rate', value=0.5)
        """
        if text == UNCHANGED:
            return None
        found = _FORM.fullmatch(text)
        if found is None or (found["sign"] == "*") != (found["field"] == LEARNING_RATE):
            raise ValueError(f"a change of the recipe is learning_rate*FACTOR or FIELD=VALUE, got '{text:.80}'")
        return cls(found["field"], float(found["value"]))

    def __str__(self) -> str:
        # The shortest text that gives the same number back, so that equal changes have equal texts.
        return f"{self.field}{'*' if self.is_factor else '='}{repr(float(self.value)).removesuffix('.0')}"

    @property
    def is_factor(self) -> bool:
        """True for a learning rate, whose value is a factor on the recipe's."""
        return self.field == LEARNING_RATE

    def applied(self, recipe: R) -> R:
        """Return the recipe, a dataclass, with this change. It raises what its constructor raises for a wrong value.

        Raises:
            ValueError: the recipe has no such numeric field, or the field needs a whole number and the value is none.
        """
        known = {each.name: str(each.type) for each in fields(recipe)}  # type: ignore[arg-type]
        if known.get(self.field) not in _NUMERIC:
            numeric = ", ".join(name for name, kind in known.items() if kind in _NUMERIC)
            raise ValueError(f"'{self.field}' is not a numeric field of the recipe; these are: {numeric}")
        value = self.value * getattr(recipe, self.field) if self.is_factor else self.value
        if known[self.field] == "int":
            if value != int(value):
                raise ValueError(f"{self.field} must be a whole number, got {value:g}")
            value = int(value)
        return replace(recipe, **{self.field: value})  # type: ignore[type-var]


def with_change(function: str, change: str) -> str:
    """Return a function and the change that it is trained with, for people.

    >>> with_change("relu(x)", "learning_rate*2"), with_change("relu(x)", "")
    ('relu(x) with learning_rate*2', 'relu(x)')
    """
    return f"{function} with {change}" if change else function


def applied(text: str, recipe: R) -> R:
    """Return the recipe with the change that a text describes."""
    change = RecipeChange.parse(text)
    return recipe if change is None else change.applied(recipe)


def changes_of(field: str, values: Sequence[float], recipe: Any) -> tuple[str, ...]:
    """Return the changes that give a field of the recipe these values, in order and each once.

    What leaves the recipe as it is becomes "", so that an evaluation with the recipe's own value has one identity.

    Raises:
        ValueError: as `RecipeChange.applied`, or a value is not finite; whatever the recipe raises for a wrong value.
    """
    found: dict[str, None] = {}
    for value in values:
        if not math.isfinite(value):
            raise ValueError(f"{field} must be finite, got {value}")
        change = RecipeChange(field, float(value))
        found[UNCHANGED if change.applied(recipe) == recipe else str(change)] = None
    return tuple(found)


def input_values(changes: Sequence[str], recipe: Any) -> tuple[float, ...]:
    """Return a number for each change, by which a surrogate tells how far apart two changes of one field are.

    It is the logarithm of the value, since one rate is twice another rather than so much more; where some values are
    not positive, or None, the place among the values in ascending order.

    >>> from types import SimpleNamespace
    >>> input_values(("", "weight_decay=0.01", "weight_decay=0.0"), SimpleNamespace(weight_decay=0.1))
    (2.0, 1.0, 0.0)
    """
    parsed = [RecipeChange.parse(text) for text in changes]
    field = next((change.field for change in parsed if change is not None), None)
    if field is None:
        return (0.0,) * len(changes)
    own = 1.0 if field == LEARNING_RATE else getattr(recipe, field)
    values = [own if change is None else change.value for change in parsed]
    numbers = [-math.inf if value is None else float(value) for value in values]
    if min(numbers) > 0:
        return tuple(math.log(number) for number in numbers)
    ascending = sorted(set(numbers))
    return tuple(float(ascending.index(number)) for number in numbers)
