"""The command `benchmark replay`."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from aquasurf_ray.cli.benchmark.options import (
    BenchmarkName,
    Candidates,
    Evaluations,
    Observe,
    Observed,
    Runs,
    Seed,
    half_of,
    listed,
    searches_text,
)
from aquasurf_ray.cli.terminal.output import print_json, print_table
from aquasurf_ray.cli.terminal.progress import bar
from aquasurf_ray.cli.terminal.shared_parameters import AsJson, Setting


def replay(
    benchmark: BenchmarkName,
    regressor: Annotated[
        str | None, typer.Option(metavar="LIST", help="Regressors, with commas: knr, rfr, svr, gp. Default: knr.")
    ] = None,
    features: Annotated[
        str | None, typer.Option(metavar="LIST", help="Features, with commas: spectrum, outputs, both. Default: both.")
    ] = None,
    space: Annotated[
        str | None,
        typer.Option(
            metavar="LIST", help="Spaces that the regressors work in, with commas: umap, metric. Default: umap."
        ),
    ] = None,
    baseline: Annotated[
        str,
        typer.Option(
            metavar="LIST", help="Algorithms to compare with, with commas: random, evolution, tpe, aquasurf, or none."
        ),
    ] = "random",
    policy: Annotated[
        list[str] | None,
        typer.Option(
            metavar="POLICY", help="Surrogate with settings, such as knr/both/umap:weighting=uniform; may be repeated."
        ),
    ] = None,
    runs: Runs = 100,
    evaluations: Evaluations = 100,
    workers: Annotated[
        int, typer.Option("--simulated-workers", metavar="N", help="Trainings that a simulated search runs at a time.")
    ] = 1,
    seed: Seed = 0,
    observe: Observe = Observed.draw,
    candidates: Candidates = None,
    reference: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Algorithm to test the others against. Default: random, or else the first."),
    ] = None,
    address: Setting = None,
    as_json: AsJson = False,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="FILE", help="Picture of the best-so-far curves: .png.")
    ] = None,
) -> None:
    """Simulate searches on a benchmark, and compare algorithms.

    Every training of a benchmark is known already, so a search takes seconds. Shows for each algorithm the number of
    evaluations until it reached the best 1% and 0.1% of the functions (median over the searches, with quartiles), the
    final distance to the best function (regret), the rank correlation of predictions and scores, the time per
    suggestion, and a paired test against the reference.
    """
    from aquasurf_ray.analysis.benchmarks.parquet import load_benchmark
    from aquasurf_ray.analysis.output_file import check_picture
    from aquasurf_ray.analysis.replay.algorithms import chosen_reference
    from aquasurf_ray.analysis.replay.comparison import compare
    from aquasurf_ray.analysis.replay.comparison_table import COLUMNS, rows
    from aquasurf_ray.analysis.replay.curves import draw
    from aquasurf_ray.driver.benchmarks import replay as simulated

    names = _policies(regressor, features, space, baseline, policy or [])
    chosen = chosen_reference(names, reference)
    if output is not None:
        # Before the searches, which take minutes: a name with a wrong ending must not lose them.
        check_picture(output)
    world = load_benchmark(benchmark)
    n_candidates = half_of(world) if candidates is None else candidates
    order = simulated.ReplayOrder(tuple(names), runs, evaluations, workers, seed, observe.value, n_candidates)
    started = time.monotonic()
    with bar("simulated searches") as on_progress:
        traces = simulated.replay(world, order, address=address, on_progress=on_progress)
    comparison = compare(traces, world, chosen)
    if as_json:
        about = {"benchmark": world.name, "task": world.task, "metric": world.metric, "functions": len(world)}
        order_document = {"workers": workers, "seed": seed, "observe": observe.value, "candidates": order.candidates}
        print_json(
            {**about, **order_document, **comparison.document(), "wall_seconds": round(time.monotonic() - started, 2)}
        )
    else:
        print(f"{world.name}: {len(world)} functions, {searches_text(order)}\n")
        print_table(COLUMNS, rows(comparison))
        print(
            f"\nmedian [quartiles] over the searches; factor of fewer evaluations to the top 1% than {chosen} "
            "[95% interval], p-values after Holm"
        )
    if output is not None:
        draw(comparison, output, metric=world.metric, title=world.name, higher_is_better=world.higher_is_better)
        print(f"curves in {output}", file=sys.stderr)


def _policies(
    regressor: str | None, features: str | None, space: str | None, baseline: str, policies: list[str]
) -> list[str]:
    """Return the names of all algorithms that are asked for, each once, baselines first."""
    from aquasurf_ray.analysis.replay.algorithms import baseline_names, check_policy, surrogate_names

    names = baseline_names(listed(baseline))
    for name in policies:
        check_policy(name)
    if not policies or any((regressor, features, space)):
        # --policy alone means exactly these policies; the grid of defaults would only be in the way.
        names += surrogate_names(listed(regressor or "knr"), listed(features or "both"), listed(space or "umap"))
    # An algorithm named twice would be simulated twice and tested against itself.
    return list(dict.fromkeys([*names, *policies]))
