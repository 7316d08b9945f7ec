"""The command `benchmark evidence`."""

from __future__ import annotations

from enum import StrEnum
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
from aquasurf_ray.cli.terminal.output import print_json
from aquasurf_ray.cli.terminal.progress import bar
from aquasurf_ray.cli.terminal.shared_parameters import AsJson, Setting


class Half(StrEnum):
    """The functions of a benchmark that are searched."""

    all = "all"
    first = "first"
    second = "second"


def evidence(
    benchmark: BenchmarkName,
    experiment: Annotated[
        str | None,
        typer.Option(metavar="LIST", help="Names of experiments, with commas. Default: all but the whole grid."),
    ] = None,
    half: Annotated[
        Half,
        typer.Option(
            metavar="|".join(Half),
            help="Functions to search: all, or one half, to choose on one and judge on the other.",
        ),
    ] = Half.all,
    runs: Runs = 100,
    evaluations: Evaluations = 100,
    seed: Seed = 0,
    observe: Observe = Observed.draw,
    candidates: Candidates = None,
    address: Setting = None,
    as_json: AsJson = False,
    output: Annotated[
        Path | None,
        typer.Option(
            "-o", "--output", metavar="FILE", help="Markdown file that the tables are also written to, one by one."
        ),
    ] = None,
) -> None:
    """Run the experiments behind docs/evidence.md and print their tables.

    Each experiment compares the options of one choice (features, regressor, layer weighting, ...) by paired simulated
    searches.
    """
    from aquasurf_ray.analysis import output_file
    from aquasurf_ray.analysis.benchmarks.parquet import load_benchmark
    from aquasurf_ray.analysis.replay.experiments import SPLIT_SEED, experiments_named, section
    from aquasurf_ray.driver.benchmarks.experiments import run_experiments
    from aquasurf_ray.driver.benchmarks.replay import ReplayOrder

    if output is not None:
        # Before the searches, which take hours: a folder that cannot be written must not lose them.
        output_file.check_place(output)
    experiments = experiments_named(listed(experiment or ""))
    world = load_benchmark(benchmark)
    if half is not Half.all:
        world = world.split(SPLIT_SEED)[0 if half is Half.first else 1]
    n_candidates = half_of(world) if candidates is None else candidates
    # Each experiment puts its own policies in the place of "random".
    order = ReplayOrder(("random",), runs, evaluations, 1, seed, observe.value, n_candidates)
    heading = f"{world.name}, {half.value} {len(world)} functions, {searches_text(order)}\n"
    sections, documents = [heading], {}
    if not as_json:
        print(heading, flush=True)
    with bar("simulated searches") as on_progress:
        for name, comparison in run_experiments(world, experiments, order, address=address, on_progress=on_progress):
            documents[name] = {"question": experiments[name].question, **comparison.document()}
            sections.append(section(name, experiments[name], comparison))
            if not as_json:
                print(sections[-1], flush=True)
            if output is not None:
                _write(output, "\n".join(sections))  # after each, so that an interruption loses one at most
    if as_json:
        about = {"benchmark": world.name, "task": world.task, "metric": world.metric, "functions": len(world)}
        order_document = {"half": half.value, "seed": seed, "observe": observe.value, "candidates": n_candidates}
        print_json({**about, **order_document, "experiments": documents})


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise typer.BadParameter(f"{path} cannot be written: {error.strerror}", param_hint="--output") from None
