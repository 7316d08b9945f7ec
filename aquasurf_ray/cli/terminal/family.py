"""The family of a function that a search of the open space made: its ancestors as a tree, and its children."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from aquasurf_ray.training_metrics import on_split
from aquasurf_ray.value_text import value_text

if TYPE_CHECKING:
    import aquasurf_ray.store as stored

_SHOWN_DEPTH = 4  # the whole tree is in the JSON document
_SHOWN_CHILDREN = 5


def family_document(family: stored.Family) -> dict[str, Any]:
    """Return a family for JSON: each ancestor and child with its value of the metric, its origin and its parents."""
    names = {relative.function_id: relative.name for relative in family.ancestors}

    def document(relative: stored.FamilyMember) -> dict[str, Any]:
        return {
            "function": relative.name,
            "value": family.metric.value(relative.score),
            "generation": relative.generation,
            "change": relative.change,
            "parents": [names[parent] for parent in relative.parents if parent in names],
        }

    return {
        "run": family.run,
        "metric": family.metric.name,
        "ancestors": [document(relative) for relative in family.ancestors],
        "children": [
            {key: value for key, value in document(child).items() if key != "parents"} for child in family.children
        ],
    }


def family_lines(family: dict[str, Any]) -> Iterator[str]:
    """Yield the lines that draw a family, as `family_document` gives it."""
    yield f"family in run '{family['run']}', {on_split(family['metric'])}:"
    by_name = {relative["function"]: relative for relative in family["ancestors"]}
    yield from _tree(family["ancestors"][0], by_name, "", "", 0, set())
    children = family["children"]
    if children:
        trained = [child for child in children if child["value"] is not None]
        best = "".join(f"; {child['function']}: {value_text(child['value'])}" for child in trained[:_SHOWN_CHILDREN])
        yield f"{len(children)} made from it, {len(trained)} trained{best}"


def _tree(
    relative: dict[str, Any],
    by_name: dict[str, dict[str, Any]],
    head: str,
    rest: str,
    depth: int,
    drawn: set[str],
) -> Iterator[str]:
    """Yield the line of a function and below it those of its parents; a function that comes again has no parents."""
    value = "" if relative["value"] is None else f"  {value_text(relative['value'])}"
    origin = f"  generation {relative['generation']}, {relative['change']}" if relative["change"] else ""
    yield f"{head}{relative['function']}{value}{origin}"
    parents = dict.fromkeys(relative["parents"])
    if relative["function"] in drawn or not parents:
        return
    if depth == _SHOWN_DEPTH:
        yield f"{rest}└─ ..."
        return
    # Crossover makes the ancestors a graph; drawn as a tree, an unmarked one could be exponentially large.
    drawn.add(relative["function"])
    for number, parent in enumerate(parents, start=1):
        is_last = number == len(parents)
        branch, below = ("└─ ", "   ") if is_last else ("├─ ", "│  ")
        yield from _tree(by_name[parent], by_name, rest + branch, rest + below, depth + 1, drawn)
