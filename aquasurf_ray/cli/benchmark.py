"""The commands `benchmark build`, `benchmark replay` and `benchmark evidence`."""

from __future__ import annotations

import re
import shlex
import sys
import time
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from aquasurf_ray.cli.terminal.commands import Commands
from aquasurf_ray.cli.terminal.open_store import store_option
from aquasurf_ray.cli.terminal.options import FINITE_SPACE, RUN_PANEL, AsJson, Setting, training_seeds
from aquasurf_ray.cli.terminal.output import print_json, print_table
from aquasurf_ray.cli.terminal.progress import bar, progress
from aquasurf_ray.cli.terminal.run_document import run_document
from aquasurf_ray.cli.terminal.run_result import config_of
from aquasurf_ray.cli.terminal.settings import REQUIRED_SOMEWHERE, with_settings
from aquasurf_ray.driver.defaults import BUILD_SEEDS
from aquasurf_ray.duration_text import duration_text

if TYPE_CHECKING:
    from aquasurf_ray.analysis.benchmarks.benchmark import Benchmark
    from aquasurf_ray.driver.benchmarks.replay import ReplayOrder

app = Commands(
    help="Train whole search spaces, and replay searches on them.",
    epilog="Example: aquasurf benchmark replay act-bench-digits",
)


class Observed(StrEnum):
    """The score that a simulated search sees of a function."""

    draw = "draw"
    seed = "seed"
    median = "median"


class Half(StrEnum):
    """The functions of a benchmark that are searched."""

    all = "all"
    first = "first"
    second = "second"


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


@app.command(epilog="Example: aquasurf benchmark build digits --space three-node --seeds 3 -o digits.json")
@with_settings("TrainingConditions", "modules")
def build(
    settings: dict[str, Any],
    task: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="TASK",
            help="Task by name, or package.module:function for your own; several are built one after the other. "
            f"{REQUIRED_SOMEWHERE}",
        ),
    ] = None,
    space: Annotated[
        str | None,
        typer.Option(metavar="SPACE", rich_help_panel=RUN_PANEL, help=f"{FINITE_SPACE} Default: three-node."),
    ] = None,
    seeds: Annotated[int | None, training_seeds(BUILD_SEEDS)] = None,
    fisher: Annotated[
        str | None,
        typer.Option(
            metavar="LIST",
            rich_help_panel=RUN_PANEL,
            help="Kinds of Fisher information to compute spectra of: sampled, empirical or sampled,empirical. "
            "Default: sampled.",
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--output",
            metavar="FILE",
            help="File to write at the end: .parquet, or .json (Act-Bench). For several tasks, the folder of the "
            "files.",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Train every distinct function of a space, with several seeds.

    Trains the baselines too, and stops no training early. Running the command again, or `aquasurf resume`, continues
    where it stopped; functions that the store has results for are not trained again.
    """
    settings |= {} if space is None else {"space": space}
    example = "aquasurf benchmark build digits --space three-node -o digits.json"
    # A configuration file names one task.
    tasks = [task] if isinstance(task, str) else list(dict.fromkeys(task or [""]))
    several = len(tasks) > 1
    if several:
        _check_several(tasks, settings.get("name"), output)
    names = [{"name": benchmark_name(each)} if several else {} for each in tasks]
    configs = [config_of(settings | {"task": each} | name, example) for each, name in zip(tasks, names, strict=True)]
    from aquasurf_ray.driver.verbs.build import start_build

    documents = []
    for config in configs:
        file = output / f"{config.name}.parquet" if several and output is not None else output
        started = time.monotonic()
        with progress(as_json) as callbacks:
            result = start_build(
                config,
                config.task,
                seeds=BUILD_SEEDS if seeds is None else seeds,
                fisher=fisher or "sampled",
                output=file,
                callbacks=callbacks,
            )
        if as_json:
            documents.append(run_document(result.name, config.store))
            continue
        took = duration_text(round(time.monotonic() - started))
        print(f"run '{result.name}' has {result.evaluations} trainings; this command took {took}")
        if file is not None:
            print(f"benchmark written to {file}")
        print(f"\n  aquasurf top {shlex.quote(result.name)} -n 20{store_option(config.store)}  list the best functions")
    if as_json:
        print_json(documents if several else documents[0])


def _check_several(tasks: list[str], name: str | None, output: Path | None) -> None:
    from aquasurf_ray.driver.errors import BadUse

    n_tasks, made = len(tasks), dict[str, str]()
    for task in tasks:
        other = made.setdefault(benchmark_name(task), task)
        if other != task:
            raise BadUse(f"tasks '{other}' and '{task}' would both be '{benchmark_name(task)}'; build them separately")
    if name is not None:
        raise BadUse(f"name: {n_tasks} tasks are {n_tasks} runs, got one name; leave it out")
    if output is not None and not output.is_dir():
        raise BadUse(
            f"output must be an existing folder for the files of {n_tasks} tasks, got '{output}'; create it, or build "
            "one task"
        )


def benchmark_name(task: str) -> str:
    """Return the name of a task's benchmark, which is the name of its run and of its file, too.

    >>> benchmark_name("resnet-56/cifar10")
    'act-bench-resnet-56-cifar10'
    """
    return f"act-bench-{re.sub('[^A-Za-z0-9_-]+', '-', task)}"


@app.command(epilog="Example: aquasurf benchmark replay act-bench-digits --baseline random,tpe")
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
    n_candidates = _half(world) if candidates is None else candidates
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
        print(f"{world.name}: {len(world)} functions, {_searches(order)}\n")
        print_table(COLUMNS, rows(comparison))
        print(
            f"\nmedian [quartiles] over the searches; factor of fewer evaluations to the top 1% than {chosen} "
            "[95% interval], p-values after Holm"
        )
    if output is not None:
        draw(comparison, output, metric=world.metric, title=world.name, higher_is_better=world.higher_is_better)
        print(f"curves in {output}", file=sys.stderr)


@app.command(epilog="Example: aquasurf benchmark evidence act-bench-digits --experiment combine,fisher")
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
    experiments = experiments_named(_listed(experiment or ""))
    world = load_benchmark(benchmark)
    if half is not Half.all:
        world = world.split(SPLIT_SEED)[0 if half is Half.first else 1]
    n_candidates = _half(world) if candidates is None else candidates
    # Each experiment puts its own policies in the place of "random".
    order = ReplayOrder(("random",), runs, evaluations, 1, seed, observe.value, n_candidates)
    heading = f"{world.name}, {half.value} {len(world)} functions, {_searches(order)}\n"
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


def _policies(
    regressor: str | None, features: str | None, space: str | None, baseline: str, policies: list[str]
) -> list[str]:
    """Return the names of all algorithms that are asked for, each once, baselines first."""
    from aquasurf_ray.analysis.replay.algorithms import baseline_names, check_policy, surrogate_names

    names = baseline_names(_listed(baseline))
    for name in policies:
        check_policy(name)
    if not policies or any((regressor, features, space)):
        # --policy alone means exactly these policies; the grid of defaults would only be in the way.
        names += surrogate_names(_listed(regressor or "knr"), _listed(features or "both"), _listed(space or "umap"))
    # An algorithm named twice would be simulated twice and tested against itself.
    return list(dict.fromkeys([*names, *policies]))


def _half(world: Benchmark) -> int:
    # With all functions, searches differ only in their first suggestion, and intervals over runs would be too narrow.
    return len(world.candidates) // 2


def _searches(order: ReplayOrder) -> str:
    among = f" among {order.candidates} drawn functions" if order.candidates else ""
    return f"{order.runs} searches of {order.evaluations} evaluations{among} after the baselines"


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise typer.BadParameter(f"{path} cannot be written: {error.strerror}", param_hint="--output") from None


def _listed(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]
