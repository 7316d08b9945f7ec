"""One table over several benchmarks: the rows of each, and a row for each policy over all of them.

In the rows of "all", trainings are geometric means of the medians, where a goal that the median run never reached
counts as the budget; the shares of runs that never reached it are means; and "times fewer" is the ratio of the
geometric means to the top 1%. In place of p-values they have the numbers of benchmarks on which a policy is
significantly (p < 0.05) better and worse than the reference, which is the first policy.

Format: a row is the cells of `comparison_table.COLUMNS` after the name of the benchmark, and perhaps others, for which
a row of "all" has "-".
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import PurePath

from aquasurf_ray.analysis.replay.comparison_table import COLUMNS

ALL = "all"
SIGNIFICANT = 0.05
_MEDIANS = {"p 1%": "to top 1%", "p 0.1%": "to top 0.1%", "p regret": "regret"}


def joined(texts: Mapping[str, str]) -> str:
    """Return the tables of benchmarks, by their name or file, as one in Markdown, without the lines below them."""
    head, rule, *_ = next(iter(texts.values())).splitlines()
    rows = [
        [PurePath(name).stem, *cells(line)]
        for name, text in texts.items()
        for line in text.splitlines()[2:]
        if line.startswith("|")
    ]
    lines = [f"| {' | '.join(row)} |" for row in [*rows, *overall(rows)]]
    return "\n".join([f"| benchmark {head}", f"| --- {rule}", *lines])


def cells(line: str) -> list[str]:
    """Return the cells of a line of a table in Markdown."""
    return [cell.strip() for cell in line.strip().strip("|").split("|")]


def overall(rows: Sequence[Sequence[str]]) -> list[list[str]]:
    """Return a row for each policy over all benchmarks."""
    of_policy: dict[str, list[dict[str, str]]] = {}
    for _, *row in rows:
        of_policy.setdefault(row[0], []).append(dict(zip(COLUMNS, row, strict=False)))
    reference, *_ = of_policy.values()
    others = ["-"] * (len(rows[0]) - 1 - len(COLUMNS))
    return [[ALL, *_over_all(policy, each, reference), *others] for policy, each in of_policy.items()]


def _over_all(policy: str, rows: Sequence[Mapping[str, str]], reference: Sequence[Mapping[str, str]]) -> list[str]:
    found = dict.fromkeys(COLUMNS, "-") | {"policy": policy}
    for column in ("to top 1%", "to top 0.1%"):
        found[column] = f"{_geometric(rows, column):.1f}"
    for column in ("never", "never "):
        found[column] = f"{sum(float(row[column].strip('%')) for row in rows) / len(rows):.0f}%"
    if rows is not reference:
        found["times fewer"] = f"{_geometric(reference, 'to top 1%') / _geometric(rows, 'to top 1%'):.2f}"
        for p, column in _MEDIANS.items():
            found[p] = _significant(rows, reference, p, column)
    return [found[column] for column in COLUMNS]


def _geometric(rows: Sequence[Mapping[str, str]], column: str) -> float:
    return math.exp(sum(math.log(_median(row[column])) for row in rows) / len(rows))


def _significant(rows: Sequence[Mapping[str, str]], reference: Sequence[Mapping[str, str]], p: str, column: str) -> str:
    """Return on how many benchmarks the median is better and worse with a p-value below `SIGNIFICANT`."""
    pairs = [
        (_median(row[column]), _median(of_reference[column]))
        for row, of_reference in zip(rows, reference, strict=True)
        if float(row[p].strip("<")) < SIGNIFICANT
    ]
    better = sum(ours < theirs for ours, theirs in pairs)
    return f"{better} better, {sum(ours > theirs for ours, theirs in pairs)} worse"


def _median(cell: str) -> float:
    return float(cell.partition(" ")[0].strip(">"))
