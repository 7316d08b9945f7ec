"""A page of hand-written text with generated tables, each between two comments that identify it.

    <!-- table: fisher runs=100 half=second benchmark=act-bench-digits -->
    anything
    <!-- end of table -->

`runs` is the number of searches of each algorithm; `half` is "first" or "second", or is left out for all functions;
`benchmark` is an installed one or a file, by default act-bench-digits-mlp; a table over several, with commas between
them, has their names in a first column.
Only the text between the comments is replaced.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePath
from typing import Literal, cast, get_args

from aquasurf_ray.analysis.errors import AnalysisError

Half = Literal["all", "first", "second"]
BENCHMARK = "act-bench-digits-mlp"
"""The benchmark whose functions were trained with three seeds."""

_OPEN, _CLOSE = "<!-- table: ", "<!-- end of table -->"
_TABLE = re.compile(rf"^{_OPEN}(?P<order>[^\n]*?) -->\n(?P<text>.*?)^{_CLOSE}$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class TableOrder:
    """A table of a page: the experiment by name, the runs of each algorithm, and the functions searched."""

    name: str
    runs: int
    half: Half = "all"
    benchmarks: tuple[str, ...] = (BENCHMARK,)


def table_orders(page: str) -> list[TableOrder]:
    """Return the tables of a page, in order.

    Raises:
        AnalysisError: a comment is malformed or has no end, or two comments name the same table.
    """
    orders = [_order(found["order"]) for found in _TABLE.finditer(page)]
    begun, ended = page.count(_OPEN), page.count(_CLOSE)
    if not len(orders) == begun == ended:
        raise AnalysisError(f"{begun} tables begin and {ended} end in the page, in pairs {len(orders)}")
    places = [(order.name, order.half, order.benchmarks) for order in orders]
    for name, half, benchmarks in places:
        if places.count((name, half, benchmarks)) > 1:
            raise AnalysisError(f"table '{name}' of {half} functions of {', '.join(benchmarks)} is in the page twice")
    return orders


def with_tables(page: str, tables: Mapping[TableOrder, str]) -> str:
    """Return the page with these tables in their places; other tables are unchanged."""

    def replaced(found: re.Match[str]) -> str:
        table = tables.get(_order(found["order"]))
        if table is None:
            return found[0]
        lines = f"{table.strip()}\n" if table.strip() else ""
        return f"{_OPEN}{found['order']} -->\n{lines}{_CLOSE}"

    return _TABLE.sub(replaced, page)


def tables_of(page: str) -> dict[TableOrder, str]:
    """Return the current text between the comments."""
    return {_order(found["order"]): found["text"] for found in _TABLE.finditer(page)}


def _order(text: str) -> TableOrder:
    name, *settings = text.split() or [""]
    values = {key: value for key, _, value in (setting.partition("=") for setting in settings)}
    half, runs = values.pop("half", "all"), values.pop("runs", "")
    benchmarks = tuple(values.pop("benchmark", BENCHMARK).split(","))
    alike = len({PurePath(benchmark).stem for benchmark in benchmarks}) < len(benchmarks)
    if values or not all(benchmarks) or alike or half not in get_args(Half) or not runs.isdigit() or int(runs) < 1:
        raise AnalysisError(
            f"'{text.strip()}' names no table; expected NAME runs=NUMBER, and perhaps half=all, first or second, and "
            "benchmark=NAME, or several of different names with commas"
        )
    return TableOrder(name, int(runs), cast(Half, half), benchmarks)
