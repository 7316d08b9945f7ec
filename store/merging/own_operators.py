"""Operators of somebody's own in a merge: a function with one has one meaning in a store under each of its names.

Which operators a text has that are not built in, only the language knows (`activations.registry.own_operators_in`), so
the caller brings it. An operator of the other store may get another name here, in the names of its functions and in the
configurations of its runs, which name the functions that they were given and their reference.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import sqlalchemy as sa

from aquasurf_ray.store.errors import NameTaken
from aquasurf_ray.store.records.tasks import FunctionRow
from aquasurf_ray.store.verbs.functions import functions_named

_OF_FUNCTIONS = ("reference", "task_baselines", "functions", "own_operators")  # keys of a run's configuration


def _none_own(text: str) -> set[str]:
    return set()


@dataclass(frozen=True)
class OwnOperators:
    """The operators of a merge that are somebody's own.

    Attributes:
        find: returns those in the text of a function; by default there are none, and names are not checked.
        renamed: the name here of those that get another one, by the name there.
    """

    find: Callable[[str], set[str]] = _none_own
    renamed: Mapping[str, str] = field(default_factory=dict)

    def text(self, text: str) -> str:
        """Return a function's text with the names of its operators here."""
        for there, here in self.renamed.items():
            text = re.sub(rf"\b{re.escape(there)}(?=\()", here, text)
        return text

    def row(self, row: FunctionRow) -> FunctionRow:
        """Return a function of the other store under its names here."""
        return replace(row, name=self.text(row.name), aliases=tuple(map(self.text, row.aliases)))

    def config(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """Return a run's configuration with the names of its functions here."""
        return {**config, **{key: self._named(config[key]) for key in _OF_FUNCTIONS if key in config}}

    def _named(self, value: Any) -> Any:
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, list):
            return [self._named(item) for item in value]
        if isinstance(value, dict):  # the values of operators, by their names
            return {self.renamed.get(name, name): item for name, item in value.items()}
        return value

    def refuse_unknown(self, names: set[str], there: str) -> None:
        """Refuse to rename an operator that the other store does not have, or to a name that it has.

        Args:
            names: all operators of somebody's own in the other store.

        Raises:
            NameTaken: names the operator.
        """
        for old, new in self.renamed.items():
            if old not in names:
                known = ", ".join(sorted(names)) or "none"
                raise NameTaken(f"store '{there}' has no operator {old} to rename; its own operators: {known}")
            if new in names:
                raise NameTaken(f"store '{there}' has an operator {new} already; give {old} another name")

    def refuse_other_meaning(
        self, connection: sa.Connection, rows: Sequence[FunctionRow], there: str, here: str
    ) -> None:
        """Refuse functions of which a name stands for another function here, once they have been added.

        Raises:
            NameTaken: names the function, its operators and the two stores.
        """
        meant = {name: row.fingerprint for row in rows for name in (row.name, *row.aliases) if self.find(name)}
        for name, known in functions_named(connection, meant):
            if known.fingerprint != meant[name]:
                own = sorted(self.find(name))
                raise NameTaken(
                    f"{name} is one function in store '{there}' and another in '{here}', so nothing was merged; "
                    f"bring it in under another name with --rename {own[0]}=NAME, and give {' and '.join(own)} that "
                    "name in the code of its task too (for the activation of a network, rename its class)"
                )
