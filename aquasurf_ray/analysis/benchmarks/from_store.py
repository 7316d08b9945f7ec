"""A benchmark from a store: the trainings of some runs, with the spectra of their functions.

Completed and diverged trainings count; a training that was stopped early, or failed because of the infrastructure, is
left out, as if it had not been run. Functions are in the order of their names, fewest operators first.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, get_args

import numpy as np

from aquasurf_ray.activations import SearchSpace, outputs, parse, unique_functions
from aquasurf_ray.activations.expression import count_operators
from aquasurf_ray.activations.roles import parts_of
from aquasurf_ray.analysis.benchmarks.benchmark import Benchmark, Scores, Spectra
from aquasurf_ray.analysis.errors import BenchmarkError
from aquasurf_ray.store import EvaluationRecord, RequestedEvaluation, Store, TaskRecord
from aquasurf_ray.store.records.features import Fisher
from aquasurf_ray.surrogate.spectra import SpectrumFeature

OTHER_METRICS = ("train_score", "train_loss", "val_loss", "test_loss")


def refuse_roles(functions: Iterable[str]) -> None:
    """Refuse the functions of a network with roles, which no benchmark file has a place for.

    Raises:
        BenchmarkError: one of them is for each role.
    """
    of_roles = next((name for name in functions if parts_of(name)), None)
    if of_roles is not None:
        raise BenchmarkError(
            f"a benchmark has one function for all places of a network, got {of_roles}; export as csv or parquet"
        )


def benchmark_from_run(
    store: Store | str,
    runs: str | Sequence[str],
    *,
    name: str | None = None,
    space: SearchSpace | None = None,
    provenance: Mapping[str, Any] | None = None,
) -> Benchmark:
    """Return the results of runs of one task as a benchmark; a training that several runs share counts once.

    Args:
        store: an open store or the URL of one.
        runs: the name of a run, or of several.
        name: the name of the benchmark; by default that of the first run.
        space: adds the names that the functions have in this space to those in the store.
        provenance: added to task, runs and code versions in the benchmark's provenance.

    Raises:
        BenchmarkError: the runs are of different tasks, or have no finished training.
        StoreError: there is no such store or run.
    """
    if isinstance(store, str):
        with Store.open(store, create=False) as opened:
            return benchmark_from_run(opened, runs, name=name, space=space, provenance=provenance)
    names = [runs] if isinstance(runs, str) else list(runs)
    found = [store.snapshot(store.run(run).id) for run in names]
    if len({snapshot.run.task_id for snapshot in found}) != 1:
        tasks = sorted({store.task(snapshot.run.task_id).name for snapshot in found})
        raise BenchmarkError(
            f"a benchmark is of one task; the runs are of {len(tasks)}: {', '.join(tasks)}; name runs of one task"
        )
    task = store.task(found[0].run.task_id)
    requests = [request for snapshot in found for request in snapshot.evaluations if _counts(request)]
    functions = {request.evaluation.function_id: request.function for request in requests}
    if not functions:
        raise BenchmarkError(f"run '{names[0]}' has no finished training yet; resume it")
    refuse_roles(functions.values())
    ids = sorted(functions, key=lambda i: (count_operators(functions[i]), functions[i]))
    evaluations = {request.evaluation.id: request.evaluation for request in requests}.values()
    seeds = sorted({evaluation.seed for evaluation in evaluations})
    tables = _Tables(ids, seeds, evaluations)
    return Benchmark(
        name=name or names[0],
        task=task.name,
        metric=task.metric.name,
        functions=tuple(functions[i] for i in ids),
        seed_scores=tables.of("score"),
        test_scores=tables.of("test_score"),
        # Not NaN: without seconds, a diverged training would look like one that was never run.
        seconds=tables.of("seconds", missing=0.0),
        outputs=np.stack([outputs(functions[i]) for i in ids]),
        spectra=_spectra(store, task.id, ids),
        provenance=_provenance(task, names, seeds, evaluations) | dict(provenance or {}),
        aliases=_aliases(store, ids, functions, space),
        other_metrics={name: tables.of(name) for name in OTHER_METRICS},
        curves=tables.curves(store.score_curves([evaluation.id for evaluation in evaluations])),
        higher_is_better=task.metric.higher_is_better,
    )


def _counts(request: RequestedEvaluation) -> bool:
    """Return whether the training is complete, and with the task's recipe as it is: a benchmark is of one recipe."""
    return request.evaluation.complete and not request.evaluation.recipe_change


class _Tables:
    """Metrics by function and seed: [n, seeds], NaN where there is no training or it diverged."""

    def __init__(self, ids: list[int], seeds: list[int], evaluations: Iterable[EvaluationRecord]) -> None:
        self._shape = len(ids), len(seeds)
        rows, columns = ({key: i for i, key in enumerate(keys)} for keys in (ids, seeds))
        self._cells = [(rows[e.function_id], columns[e.seed], e) for e in evaluations]

    def of(self, figure: str, missing: float = np.nan) -> Scores:
        """Return one metric; `missing` for a training without it."""
        table = np.full(self._shape, np.nan)
        for row, column, evaluation in self._cells:
            value = getattr(evaluation, figure)
            table[row, column] = missing if value is None else value
        return table

    def curves(self, curves: Mapping[int, Mapping[int, float]]) -> Scores | None:
        """Return scores by evaluation and epoch (from 1) as [n, seeds, epochs]; None if there are none."""
        n_epochs = max((max(curve) for curve in curves.values()), default=0)
        if not n_epochs:
            return None
        table = np.full((*self._shape, n_epochs), np.nan)
        for row, column, evaluation in self._cells:
            for epoch, score in curves.get(evaluation.id, {}).items():
                table[row, column, epoch - 1] = score
        return table


def _spectra(store: Store, task_id: int, ids: list[int]) -> dict[str, Spectra]:
    """Return the spectra by the kind of Fisher information, for the kinds that the store has."""
    spectra: dict[str, Spectra] = {}
    for fisher in get_args(Fisher):
        records = store.spectra(task_id, ids, fisher)
        cells = [records[i].feature if i in records else None for i in ids]
        if any(cell is not None for cell in cells):
            spectra[fisher] = tuple(None if cell is None else SpectrumFeature.from_bytes(cell) for cell in cells)
    return spectra


def _aliases(
    store: Store, ids: list[int], functions: Mapping[int, str], space: SearchSpace | None
) -> tuple[tuple[str, ...], ...]:
    known, records = store.aliases(ids), store.functions(ids)
    table = None if space is None else unique_functions(space)
    found = []
    for i in ids:
        position = None if table is None else table.find(records[i].fingerprint)
        in_space = [] if table is None or position is None else table.aliases(position)
        others = {*known.get(i, ()), *in_space} - {functions[i]}
        found.append(tuple(sorted(others, key=lambda text: (parse(text).n_operators, text))))
    return tuple(found)


def _provenance(
    task: TaskRecord, runs: list[str], seeds: list[int], evaluations: Iterable[EvaluationRecord]
) -> dict[str, Any]:
    times = sorted(e.finished_at for e in evaluations if e.finished_at is not None)
    return {
        "task": {"name": task.name, "version": task.version, "digest": task.digest},
        "runs": runs,
        "seeds": seeds,
        "code_versions": sorted({e.code_version for e in evaluations if e.code_version}),
        "devices": sorted({e.device for e in evaluations if e.device}),
        "finished": [time.isoformat() for time in (times[:1] + times[-1:])],
    }
