"""The group of commands about benchmarks: replay, evidence, and build, which has a file of its own."""

from __future__ import annotations

import sys
import time
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from aquasurf_ray.cli import benchmark_build
from aquasurf_ray.cli.terminal.options import Address, AsJson
from aquasurf_ray.cli.terminal.output import print_json, print_table
from aquasurf_ray.cli.terminal.progress import bar

if TYPE_CHECKING:
    from aquasurf_ray.analysis.benchmarks.benchmark import Benchmark
    from aquasurf_ray.driver.benchmarks.replay import ReplayOrder

BenchmarkName = Annotated[
    str, typer.Argument(metavar="BENCHMARK", help="A benchmark by name, or its file (Parquet or Act-Bench JSON).")
]
Runs = Annotated[int, typer.Option(help="Simulated searches of each algorithm, with paired seeds.")]
Evaluations = Annotated[int, typer.Option(help="Trainings of each search, after the baselines.")]
Seed = Annotated[int, typer.Option(help="Of the first run; the next ones count up.")]


class Observed(StrEnum):
    """What a simulated search is told of a function."""

    draw = "draw"
    seed = "seed"
    median = "median"


Candidates = Annotated[
    int | None,
    typer.Option(
        help="Functions that a search chooses from, drawn for each run; 0 for all, on which all runs are much alike. "
        "Default: half of them."
    ),
]


class Half(StrEnum):
    """Which functions of a benchmark are searched."""

    all = "all"
    first = "first"
    second = "second"


Observe = Annotated[
    Observed,
    typer.Option(
        help="The score a search sees: of a training drawn for each function, of one training seed for all, or the "
        "median."
    ),
]


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    benchmarks = typer.Typer(rich_markup_mode=None)
    benchmarks.command("replay", epilog="Example: aquasurf benchmark replay act-bench-digits --baseline random,tpe")(
        replay
    )
    benchmarks.command(
        "evidence", epilog="Example: aquasurf benchmark evidence act-bench-digits --experiment combine,fisher"
    )(evidence)
    benchmarks.command("build", epilog=f"Example: {benchmark_build.EXAMPLE}")(benchmark_build.build)
    app.add_typer(
        benchmarks,
        name="benchmark",
        help="Train whole spaces, and compare search algorithms on functions that were all trained before.",
        epilog="Example: aquasurf benchmark replay act-bench-digits",
    )


def replay(
    benchmark: BenchmarkName,
    regressor: Annotated[str | None, typer.Option(help="knr, rfr, svr, gp; several with commas. Default: knr.")] = None,
    features: Annotated[
        str | None, typer.Option(help="spectrum, outputs, both; several with commas. Default: both.")
    ] = None,
    space: Annotated[str | None, typer.Option(help="umap, metric; several with commas. Default: umap.")] = None,
    baseline: Annotated[
        str, typer.Option(help="Rivals: random, evolution, tpe, aquasurf, or none; several with commas.")
    ] = "random",
    policy: Annotated[
        list[str] | None,
        typer.Option(help="A surrogate with settings, as knr/both/umap:weighting=uniform; may be given several times."),
    ] = None,
    runs: Runs = 100,
    evaluations: Evaluations = 100,
    workers: Annotated[
        int, typer.Option("--simulated-workers", help="Trainings that each simulated search has running at a time.")
    ] = 1,
    seed: Seed = 0,
    observe: Observe = Observed.draw,
    candidates: Candidates = None,
    reference: Annotated[
        str | None, typer.Option(help="The algorithm to test the others against. Default: random, else the first.")
    ] = None,
    address: Address = None,
    as_json: AsJson = False,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="Write the best-so-far curves: .png.")] = None,
) -> None:
    """Simulate searches on a benchmark, where every training is known already, and compare how soon they find the best.

    Tells for each algorithm after how many evaluations it reached the best 1% and 0.1% of the functions (median over
    the runs, with quartiles), what is missing to the best function in the end (regret), how well predictions
    and truth agree (rank correlation), how long a suggestion takes, and a paired test against the reference.
    """
    from aquasurf_ray.analysis.benchmarks.parquet import load_benchmark
    from aquasurf_ray.analysis.replay.algorithms import chosen_reference
    from aquasurf_ray.analysis.replay.comparison import compare
    from aquasurf_ray.analysis.replay.comparison_table import COLUMNS, rows
    from aquasurf_ray.analysis.replay.curves import check_format, draw
    from aquasurf_ray.driver.benchmarks import replay as simulated

    names = _policies(regressor, features, space, baseline, policy or [])
    chosen = chosen_reference(names, reference)
    if output is not None:
        check_format(output)
    world = load_benchmark(benchmark)
    some = _half(world) if candidates is None else candidates
    order = simulated.ReplayOrder(tuple(names), runs, evaluations, workers, seed, observe.value, some)
    started = time.monotonic()
    with bar("simulated searches") as on_progress:
        traces = simulated.replay(world, order, address=address, on_progress=on_progress)
    comparison = compare(traces, world, chosen)
    if as_json:
        about = {"benchmark": world.name, "task": world.task, "metric": world.metric, "functions": len(world)}
        told = {"workers": workers, "seed": seed, "observe": observe.value, "candidates": order.candidates}
        print_json({**about, **told, **comparison.document(), "wall_seconds": round(time.monotonic() - started, 2)})
    else:
        print(f"{world.name}: {len(world)} functions, {_searches(order)}\n")
        print_table(COLUMNS, rows(comparison))
        print(
            f"\nmedian [quartiles] over the runs; times fewer evaluations to the top 1% than {chosen} [95%], Holm's p's"
        )
    if output is not None:
        draw(comparison, output, metric=world.metric, title=world.name, higher_is_better=world.higher_is_better)
        print(f"curves in {output}", file=sys.stderr)


def evidence(
    benchmark: BenchmarkName,
    experiment: Annotated[
        str | None, typer.Option(help="Experiments by name; several with commas. Default: all but the whole grid.")
    ] = None,
    half: Annotated[
        Half, typer.Option(help="Functions to search: all, or a half of them, to choose on one and judge on the other.")
    ] = Half.all,
    runs: Runs = 100,
    evaluations: Evaluations = 100,
    seed: Seed = 0,
    observe: Observe = Observed.draw,
    candidates: Candidates = None,
    address: Address = None,
    as_json: AsJson = False,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Write the tables to this Markdown file too, as they come.")
    ] = None,
) -> None:
    """Run the experiments behind docs/evidence.md and print their tables.

    Each compares what one choice changes (which features, which regressor, which layer weighting, ...) by paired
    simulated searches.
    """
    from aquasurf_ray.analysis import output_file
    from aquasurf_ray.analysis.benchmarks.parquet import load_benchmark
    from aquasurf_ray.analysis.replay.experiments import SPLIT_SEED, experiments_named, section
    from aquasurf_ray.driver.benchmarks.experiments import run_experiments
    from aquasurf_ray.driver.benchmarks.replay import ReplayOrder

    if output is not None:
        output_file.check_place(output)
    experiments = experiments_named(_listed(experiment or ""))
    world = load_benchmark(benchmark)
    if half is not Half.all:
        world = world.split(SPLIT_SEED)[0 if half is Half.first else 1]
    some = _half(world) if candidates is None else candidates
    order = ReplayOrder(("random",), runs, evaluations, 1, seed, observe.value, some)
    told = f"{world.name}, {half.value} {len(world)} functions, {_searches(order)}\n"
    sections, documents = [told], {}
    if not as_json:
        print(told, flush=True)
    with bar("simulated searches") as on_progress:
        for name, comparison in run_experiments(world, experiments, order, address=address, on_progress=on_progress):
            documents[name] = {"question": experiments[name].question, **comparison.document()}
            sections.append(section(name, experiments[name], comparison))
            if not as_json:
                print(sections[-1], flush=True)
            if output is not None:
                _write(output, "\n".join(sections))
    if as_json:
        about = {"benchmark": world.name, "task": world.task, "metric": world.metric, "functions": len(world)}
        how = {"half": half.value, "seed": seed, "observe": observe.value, "candidates": some}
        print_json({**about, **how, "experiments": documents})


def _policies(
    regressor: str | None, features: str | None, space: str | None, baseline: str, policies: list[str]
) -> list[str]:
    """The names of what is asked for, each once: baselines first."""
    from aquasurf_ray.analysis.replay.algorithms import baseline_names, check_policy, surrogate_names

    names = baseline_names(_listed(baseline))
    for name in policies:
        check_policy(name)
    if not policies or any((regressor, features, space)):
        names += surrogate_names(_listed(regressor or "knr"), _listed(features or "both"), _listed(space or "umap"))
    return list(dict.fromkeys([*names, *policies]))


def _half(world: Benchmark) -> int:
    return len(world.candidates) // 2


def _searches(order: ReplayOrder) -> str:
    among = f" among {order.candidates} drawn functions" if order.candidates else ""
    return f"{order.runs} runs of {order.evaluations} evaluations{among} after the baselines"


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise typer.BadParameter(f"{path} cannot be written: {error.strerror}", param_hint="--output") from None


def _listed(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]
