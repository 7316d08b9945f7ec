"""A comparison as a table: one row a policy, the same columns on the terminal and in Markdown.

A cell such as `23 [14, 41]` is a median with its quartiles; `>100` stands for a goal that was not reached within 100
evaluations, and `>3.00` times fewer is a bound, because the reference's median run never reached the goal. p-values are
corrected by Holm's method; they are against the reference, for the evaluations to the top 1% and 0.1% and for regret.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from aquasurf_ray.analysis.replay.comparison import Comparison, PairedTest, Spread, share_never

COLUMNS = (
    "policy",
    "to top 1%",
    "never",
    "to top 0.1%",
    # With a space, since a table needs different names: this one belongs to the top 0.1%.
    "never ",
    "regret",
    "rank corr.",
    "suggest ms",
    "times fewer",
    "p 1%",
    "p 0.1%",
    "p regret",
)
P_VALUES = ("to_top_1", "to_top_01", "regret")


def rows(comparison: Comparison) -> list[list[str]]:
    """Return the cells of `COLUMNS`, policy by policy."""
    return [_row(comparison, policy) for policy in comparison.measures]


def markdown(columns: Sequence[str], cells: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table with numbers aligned right.

    >>> print(markdown(["policy", "n"], [["random", "12"]]))
    | policy | n |
    | --- | ---: |
    | random | 12 |
    """
    rule = ["---", *["---:"] * (len(columns) - 1)]
    return "\n".join(f"| {' | '.join(cell.strip() for cell in row)} |" for row in (columns, rule, *cells))


def _row(comparison: Comparison, policy: str) -> list[str]:
    measures, budget = comparison.measures[policy], comparison.evaluations
    cells = [policy]
    for top in ("top_1", "top_01"):
        cells.append(_evaluations(comparison.spread(policy, f"to_{top}"), budget))
        cells.append(f"{share_never(measures, top):.0%}")
    tests = comparison.tests.get(policy)
    return [
        *cells,
        _plain(comparison.spread(policy, "regret"), 4),
        _plain(comparison.spread(policy, "rank_correlation"), 2),
        _plain(comparison.spread(policy, "suggest_ms"), 1, quartiles=False),
        *(["-"] * (1 + len(P_VALUES)) if tests is None else [_fewer(comparison, policy), *_p_values(tests)]),
    ]


def _fewer(comparison: Comparison, policy: str) -> str:
    """Return how many times fewer evaluations than the reference; a bound if one median run never reached the goal."""
    top = comparison.tests[policy]["to_top_1"]
    ours, reference = (comparison.spread(name, "to_top_1").median for name in (policy, comparison.reference))
    # A median beyond the budget is only known to be larger, so the ratio is a bound.
    never = ours > comparison.evaluations, reference > comparison.evaluations
    bound = {(True, False): "<", (False, True): ">"}.get(never, "")
    return "-" if all(never) else f"{bound}{top.times_less:.2f} [{top.low:.2f}, {top.high:.2f}]"


def _p_values(tests: Mapping[str, PairedTest]) -> list[str]:
    return [p_text(tests[name].p_holm) for name in P_VALUES]


def seconds_text(spread: Spread) -> str:
    """Return the simulated seconds until a goal was reached, or "never"."""
    low, middle, high = ("never" if math.isinf(value) else f"{value:.0f}" for value in _quartiles(spread))
    return f"{middle} [{low}, {high}]"


def p_text(p: float) -> str:
    """Return a p-value with its significant digits.

    >>> p_text(0.5), p_text(0.012), p_text(0.00001)
    ('0.50', '0.012', '<0.0001')
    """
    if p < 1e-4:
        return "<0.0001"
    return f"{p:.2f}" if p >= 0.1 else f"{p:.2g}"


def _evaluations(spread: Spread, budget: int) -> str:
    low, middle, high = (f">{budget}" if value > budget else f"{value:.0f}" for value in _quartiles(spread))
    return f"{middle} [{low}, {high}]"


def _plain(spread: Spread, decimals: int, *, quartiles: bool = True) -> str:
    if math.isnan(spread.median):
        return "-"
    low, middle, high = (f"{value:.{decimals}f}" for value in _quartiles(spread))
    return f"{middle} [{low}, {high}]" if quartiles else middle


def _quartiles(spread: Spread) -> tuple[float, float, float]:
    return spread.q25, spread.median, spread.q75
