"""Commands that do work: search, resume, evaluate, enqueue."""

from __future__ import annotations

import shlex
import sys
from contextlib import redirect_stdout
from typing import TYPE_CHECKING, Annotated, Any

import typer

from aquasurf_ray.cli.status import print_leaderboard, run_document
from aquasurf_ray.cli.terminal.open_store import open_store, store_option
from aquasurf_ray.cli.terminal.options import (
    Address,
    AsJson,
    CheckpointInterval,
    ConfigFile,
    Confirm,
    CpusPerWorker,
    DataFolder,
    FastActivations,
    GpusPerEvaluation,
    GpusPerWorker,
    HealthGate,
    LeaseSeconds,
    LoaderWorkers,
    Log,
    LogTo,
    MaxAttempts,
    Modules,
    NewRunName,
    RunName,
    Seeds,
    Storage,
    Store,
    TimeBudget,
    TimeLimit,
    Until,
    WaitForNodes,
    Workers,
    given,
)
from aquasurf_ray.cli.terminal.output import Format, print_json
from aquasurf_ray.cli.terminal.progress import progress
from aquasurf_ray.driver.surrogate_names import DEFAULT_SURROGATE

if TYPE_CHECKING:
    from aquasurf_ray.driver.run.session import RunResult


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    app.command("search", epilog="Example: aquasurf search digits --evaluations 40 --workers 2")(search)
    app.command("resume", epilog="Example: aquasurf resume digits-1 --evaluations 80")(resume)
    app.command("evaluate", epilog="Example: aquasurf evaluate 'mul(sigmoid(x),elu(x))' --task digits --seeds 3")(
        evaluate
    )
    app.command("enqueue", epilog="Example: aquasurf enqueue digits-1 'swish(negative(x))'")(enqueue)


def search(
    task: Annotated[str | None, typer.Argument(help="A task by name, or package.module:function.")] = None,
    name: NewRunName = None,
    space: Annotated[
        str | None, typer.Option(help="three-node, four-node, coatnet, or a YAML file. Default: three-node.")
    ] = None,
    evaluations: Annotated[
        int | None, typer.Option(help="Functions to train after the 8 baselines. Default: 40.")
    ] = None,
    candidates: Annotated[
        int | None, typer.Option(help="Functions drawn from the space that may be trained. Default: 200.")
    ] = None,
    first_candidates: Annotated[
        int | None,
        typer.Option(help="Candidates with a spectrum before the first suggestion. Default: a quarter, 256 at most."),
    ] = None,
    confirm: Confirm = None,
    seeds: Seeds = None,
    workers: Workers = None,
    gpus_per_worker: GpusPerWorker = None,
    gpus_per_evaluation: GpusPerEvaluation = None,
    cpus_per_worker: CpusPerWorker = None,
    store: Store = None,
    storage: Storage = None,
    seed: Annotated[int | None, typer.Option(help="Of the drawn candidates and the surrogate. Default: 0.")] = None,
    training_seed: Annotated[
        int | None, typer.Option(help="Of initial weights, data order and spectra. Default: 0.")
    ] = None,
    modules: Modules = None,
    fisher: Annotated[
        str | None, typer.Option(help="Which Fisher information: sampled or empirical. Default: sampled.")
    ] = None,
    features: Annotated[
        str | None, typer.Option(help="What the surrogate sees: both, spectrum or outputs. Default: both.")
    ] = None,
    layer_weighting: Annotated[
        str | None,
        typer.Option(help="Of layers in the spectrum distance: inverse, uniform or size. Default: inverse."),
    ] = None,
    surrogate: Annotated[
        str | None,
        typer.Option(
            help="aquasurf: a regressor on a map of the candidates (UMAP), the authors' way. metric: one on the "
            "distances of the features themselves, a Gaussian process by expected improvement. "
            f"Default: {DEFAULT_SURROGATE}."
        ),
    ] = None,
    regressor: Annotated[
        str | None, typer.Option(help="knr, rfr, svr or gp. Default: knr for aquasurf, gp for metric.")
    ] = None,
    max_cost: Annotated[
        float | None,
        typer.Option(help="Suggest only functions whose training step takes at most this many times relu's."),
    ] = None,
    early_stop: Annotated[
        str | None,
        typer.Option(help="off, or median: end trainings of suggestions that are below the median. Default: off."),
    ] = None,
    health_gate: HealthGate = None,
    max_attempts: MaxAttempts = None,
    time_limit: TimeLimit = None,
    time_budget: TimeBudget = None,
    until: Until = None,
    lease_seconds: LeaseSeconds = None,
    log: Log = None,
    checkpoint_interval: CheckpointInterval = None,
    fast_activations: FastActivations = None,
    data: DataFolder = None,
    loader_workers: LoaderWorkers = None,
    log_to: LogTo = None,
    config: ConfigFile = None,
    address: Address = None,
    wait_for_nodes: WaitForNodes = None,
    as_json: AsJson = False,
) -> None:
    """Search an activation function for a task.

    Trains the 8 baselines, computes Fisher spectra of the candidates, and trains the functions that the surrogate
    finds most promising. A run of the same name and configuration is gone on with.
    """
    options = given(locals(), "as_json")
    chosen = task_of(options, "aquasurf search digits")
    from aquasurf_ray.driver import search as start

    with progress(as_json) as reporter:
        result = start(chosen, reporter=reporter, **options)
    _print_result(result, options.get("store"), as_json)


def resume(
    name: RunName,
    evaluations: Annotated[int | None, typer.Option(help="A larger budget.")] = None,
    confirm: Confirm = None,
    seeds: Seeds = None,
    workers: Workers = None,
    gpus_per_worker: GpusPerWorker = None,
    gpus_per_evaluation: GpusPerEvaluation = None,
    cpus_per_worker: CpusPerWorker = None,
    store: Store = None,
    storage: Storage = None,
    max_attempts: MaxAttempts = None,
    time_limit: TimeLimit = None,
    time_budget: TimeBudget = None,
    until: Until = None,
    lease_seconds: LeaseSeconds = None,
    log: Log = None,
    checkpoint_interval: CheckpointInterval = None,
    fast_activations: FastActivations = None,
    data: DataFolder = None,
    loader_workers: LoaderWorkers = None,
    log_to: LogTo = None,
    config: ConfigFile = None,
    address: Address = None,
    wait_for_nodes: WaitForNodes = None,
    as_json: AsJson = False,
) -> None:
    """Go on with a run after any interruption, or with a larger budget.

    A configuration file may be the one that the run was started with; what makes it this run may not change.
    """
    options = given(locals(), "as_json")
    from aquasurf_ray.driver.config import make_config

    name, store = options.pop("name"), options.pop("store", None)
    make_config({"task": name, **options})  # what is wrong is told before anything heavy is loaded
    changes = _without_settled(options, name, store)
    from aquasurf_ray.driver import resume as go_on

    with progress(as_json) as reporter:
        result = go_on(name, store=store, reporter=reporter, **changes)
    _print_result(result, store, as_json)


def evaluate(
    functions: Annotated[list[str], typer.Argument(help="Functions, for example 'mul(sigmoid(x),elu(x))'.")],
    task: Annotated[str | None, typer.Option(help="A task by name, or package.module:function.")] = None,
    seeds: Annotated[int, typer.Option(help="Trainings of each function, with seeds 0, 1, ...")] = 1,
    name: NewRunName = None,
    workers: Workers = None,
    gpus_per_worker: GpusPerWorker = None,
    gpus_per_evaluation: GpusPerEvaluation = None,
    cpus_per_worker: CpusPerWorker = None,
    store: Store = None,
    storage: Storage = None,
    modules: Modules = None,
    health_gate: HealthGate = None,
    max_attempts: MaxAttempts = None,
    time_limit: TimeLimit = None,
    time_budget: TimeBudget = None,
    lease_seconds: LeaseSeconds = None,
    log: Log = None,
    checkpoint_interval: CheckpointInterval = None,
    fast_activations: FastActivations = None,
    data: DataFolder = None,
    loader_workers: LoaderWorkers = None,
    log_to: LogTo = None,
    config: ConfigFile = None,
    address: Address = None,
    wait_for_nodes: WaitForNodes = None,
    as_json: AsJson = False,
) -> None:
    """Train the given functions, without a search."""
    options = given(locals(), "functions", "seeds", "as_json")
    chosen = task_of(options, "aquasurf evaluate 'swish(x)' --task digits")
    from aquasurf_ray.driver import evaluate as train

    with progress(as_json) as reporter:
        result = train(functions, chosen, seeds=seeds, reporter=reporter, **options)
    _print_result(result, options.get("store"), as_json)


def enqueue(
    name: RunName,
    functions: Annotated[list[str], typer.Argument(help="Functions to train next.")],
    store: Store = None,
) -> None:
    """Propose functions of your own to a search; it trains them next."""
    from aquasurf_ray.driver import propose

    with redirect_stdout(sys.stderr):  # a run's modules are the user's code and may print
        proposals = propose(name, functions, store=store)
    for function, proposal in proposals:
        print(f"{function}: {'queued' if proposal.status == 'queued' else 'is ' + proposal.status + ' already'}")
    n_queued = sum(proposal.status == "queued" for _, proposal in proposals)
    with open_store(store) as opened:
        run = opened.run(name)
    if n_queued and run.status == "finished" and run.budget is not None:
        command = f"aquasurf resume {shlex.quote(name)} --evaluations {run.budget + n_queued}"
        print(f"run '{name}' is finished; train them with: {command}")


def task_of(options: dict[str, Any], example: str) -> str:
    """Takes the task out of the options. What is wrong with either is told before anything heavy is loaded."""
    from aquasurf_ray.driver.config import make_config
    from aquasurf_ray.driver.errors import BadUse
    from aquasurf_ray.tasks.errors import TaskError
    from aquasurf_ray.tasks.registry import check_name

    task = options.pop("task", None)
    if not task:
        raise BadUse(f"no task given; name one, for example: {example}")
    make_config({"task": task, **options})
    try:
        check_name(task)
    except TaskError as error:
        raise BadUse(str(error)) from None
    return str(task)


def _without_settled(options: dict[str, Any], name: str, store: str | None) -> dict[str, Any]:
    """The options without those of a configuration file that are settled since the run began, and still the same.

    The driver compares the others. A run's modules are those of its configuration and those of its space.
    """
    from aquasurf_ray.driver.errors import BadUse

    settled = {key: options[key] for key in ("task", "modules") if key in options}
    if settled:
        with open_store(store) as opened:
            known = opened.run(name).config
        modules = settled.get("modules") or []
        before = known | {"modules": modules if set(modules) <= set(known.get("modules") or ()) else None}
        changed = [key for key, value in settled.items() if (value or None) != (before.get(key) or None)]
        if changed:
            raise BadUse(f"run '{name}' cannot change its {', '.join(changed)}; start another run for that")
    return {key: value for key, value in options.items() if key not in settled}


def _print_result(result: RunResult, store: str | None, as_json: bool) -> None:
    from aquasurf_ray.cli.confirm import print_confirmation, stored_confirmation

    if as_json:
        confirmed = {"confirmation": stored_confirmation(result.confirmation, store)} if result.confirmation else {}
        print_json(run_document(result.name, store) | confirmed)
        return
    print_leaderboard(result.name, store, n=10, form=Format.table)
    confirmation = result.name if result.kind == "confirm" else result.confirmation
    if confirmation:
        print()
        print_confirmation(confirmation, store, as_json=False)
    _print_next_steps(result, store)


def _print_next_steps(result: RunResult, store: str | None) -> None:
    name, where = shlex.quote(result.name), store_option(store)
    told = {f"aquasurf top {name} -n 20": "more of the table"}
    if result.kind == "search":
        told[f"aquasurf resume {name} --evaluations {2 * result.budget}"] = "go on with a larger budget"
    if result.kind != "confirm" and result.confirmation is None:
        told[f"aquasurf confirm {name}"] = "are the best better, or lucky? further seeds tell"
    told['aquasurf query "SELECT * FROM leaderboard LIMIT 5"'] = "ask the database"
    if result.best:
        told[f"aquasurf show {shlex.quote(result.best[0])}"] = "one function: results, and why it was suggested"
    told = {command + where: use for command, use in told.items()}
    width = max(map(len, told))
    print()
    for command, use in told.items():
        print(f"  {command:<{width}}  {use}")
