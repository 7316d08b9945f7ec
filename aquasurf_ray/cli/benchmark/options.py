"""Options and texts that `benchmark replay` and `benchmark evidence` share."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from aquasurf_ray.analysis.benchmarks.benchmark import Benchmark
    from aquasurf_ray.driver.benchmarks.replay import ReplayOrder


class Observed(StrEnum):
    """The score that a simulated search sees of a function."""

    draw = "draw"
    seed = "seed"
    median = "median"


BenchmarkName = Annotated[
    str, typer.Argument(metavar="BENCHMARK", help="Benchmark by name, or its file (Parquet or Act-Bench JSON).")
]
Runs = Annotated[
    int, typer.Option(metavar="N", help="Simulated searches for each algorithm, with seeds that are paired.")
]
Evaluations = Annotated[int, typer.Option(metavar="N", help="Trainings in each search, after the baselines.")]
Seed = Annotated[int, typer.Option(metavar="N", help="Random seed of the first search; the others count up from it.")]
Candidates = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        help="Functions that a search chooses from, drawn for each search; 0 uses all of them, so the searches "
        "hardly differ. Default: half of them.",
    ),
]
Observe = Annotated[
    Observed,
    typer.Option(
        metavar="|".join(Observed),
        help="Score that a search sees of a function: that of a training drawn for each function (draw), of the same "
        "training seed for all (seed), or the median over seeds (median).",
    ),
]


def half_of(world: Benchmark) -> int:
    """Return the number of functions that a simulated search chooses from by default."""
    # With all functions, searches differ only in their first suggestion, and intervals over runs would be too narrow.
    return len(world.candidates) // 2


def searches_text(order: ReplayOrder) -> str:
    """Return how many searches of which size are simulated, as a phrase."""
    among = f" among {order.candidates} drawn functions" if order.candidates else ""
    return f"{order.runs} searches of {order.evaluations} evaluations{among} after the baselines"


def listed(text: str) -> list[str]:
    """Return the parts of a list with commas."""
    return [part.strip() for part in text.split(",") if part.strip()]
