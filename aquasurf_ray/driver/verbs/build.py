"""build_benchmark(...): train every unique function of a space with several seeds, and compute its spectra.

A build is a run like any other, of kind "build": it has a lease, can be resumed, and uses results that the store has.
The seeds are trained one after the other, so that an interrupted build has all functions with the first seeds. Every
training is completed: there is no health gate and no early stop.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, get_args

from aquasurf_ray.analysis.studies.run_origin import OWN_TASK
from aquasurf_ray.driver.benchmarks.export import check_benchmark_file, export_benchmark
from aquasurf_ray.driver.callbacks.progress import shown_progress
from aquasurf_ray.driver.candidates import load_space, one_function_baselines, space_rows
from aquasurf_ray.driver.errors import BadUse
from aquasurf_ray.driver.events import Callback
from aquasurf_ray.driver.run.spec import RunResult, RunSpec
from aquasurf_ray.driver.settings.defaults import BUILD_SEEDS
from aquasurf_ray.driver.settings.models import SearchConfig, digest
from aquasurf_ray.driver.settings.places import store_url
from aquasurf_ray.driver.settings.reading import make_config
from aquasurf_ray.driver.settings.surrogate_names import EARLIER_SURROGATE
from aquasurf_ray.driver.verbs.arguments import check_seeds, loaded_task, name_of
from aquasurf_ray.driver.verbs.command import Command
from aquasurf_ray.store import Store
from aquasurf_ray.store.records.features import Fisher
from aquasurf_ray.tasks import Task
from aquasurf_ray.workers.actor import Worker


def build_benchmark(
    task: str | Task,
    *,
    space: str = "three-node",
    seeds: int = BUILD_SEEDS,
    fisher: str = "sampled",
    output: Path | None = None,
    progress: bool = True,
    callbacks: Iterable[Callback] = (),
    worker: type = Worker,
    **options: Any,
) -> RunResult:
    """Train every unique function of a space, and the baselines, with seeds 0, 1, ..., `seeds` - 1.

    Args:
        fisher: the Fisher information of the spectra: "sampled", "empirical" or "sampled,empirical".
        output: the file that the benchmark is written to at the end, `.parquet`, or `.json` for Act-Bench.
        progress, callbacks: see `search`.
        **options: the conditions of `SearchConfig`, for example `workers=2`, and `modules`.

    Raises:
        BadUse: the request is wrong, and nothing was started.
        RunFailed: some trainings or spectra failed; `resume` retries these.
    """
    config = make_config({"task": name_of(task), **options, "space": space})
    with shown_progress(progress, callbacks) as callbacks:
        return start_build(config, task, seeds=seeds, fisher=fisher, output=output, callbacks=callbacks, worker=worker)


def start_build(
    config: SearchConfig,
    task: str | Task,
    *,
    seeds: int = BUILD_SEEDS,
    fisher: str = "sampled",
    output: Path | None = None,
    callbacks: Iterable[Callback] = (),
    worker: type = Worker,
) -> RunResult:
    """Carry out `build_benchmark` with an existing configuration."""
    check_seeds(seeds)
    if output is not None:
        check_benchmark_file(output)
    fishers = _fishers(fisher)
    # A build asks no surrogate, but its identity has the name of one, as it had before there was a choice.
    fixed = {"fisher": fishers[0], "health_gate": "off"}
    config = config.with_default_surrogate(EARLIER_SURROGATE).model_copy(update=fixed)
    loaded = loaded_task(task, config)
    loaded_space = load_space(config.space)
    # A space may name the modules of its operators; workers need them, too.
    modules = tuple(dict.fromkeys((*config.modules, *loaded_space.modules)))
    rows = space_rows(loaded_space, one_function_baselines(loaded, "a benchmark"), config.baselines)
    config = config.model_copy(update={"modules": modules, "evaluations": len(rows) * seeds})
    identity = {
        **config.identity(),
        "task_digest": loaded.digest,
        "space_digest": loaded_space.digest,
        "seeds": seeds,
        "fishers": fishers,
    }
    # The same command again finds the same run: that is what makes a build resumable without a name.
    name = config.name or f"build-{digest(identity)[:8]}"

    with Command(config, callbacks) as command:
        facts = {} if isinstance(task, str) else {OWN_TASK: True}
        run = command.find_or_create("build", name, config, loaded, identity, rows, facts)
        result = command.execute(RunSpec(run, config, loaded, isinstance(task, str), config.evaluations, worker))
    if output is not None:
        # Opened again, because the command has closed its store with the workers.
        with Store.open(store_url(config.store), create=False) as store:
            export_benchmark(store, name, output)
    return result


def _fishers(text: str) -> list[str]:
    kinds = get_args(Fisher)
    # In the order given, each once: spectra are computed in this order.
    found = list(dict.fromkeys(part.strip() for part in text.split(",")))
    wrong = [part for part in found if part not in kinds]
    if wrong:
        raise BadUse(f"fisher must be {', '.join(kinds)} or {','.join(kinds)}, got '{wrong[0]}'")
    return found
