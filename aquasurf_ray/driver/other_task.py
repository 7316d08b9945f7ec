"""Results of another task in the same store, as the prior of a run's surrogate: see `surrogate.source`.

What a run sees of them is what was there when the run was made, so that it goes on after an interruption as it would
have without one. Imported results are a task of their own and may be such a source.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from aquasurf_ray.activations import outputs
from aquasurf_ray.driver.config import SearchConfig
from aquasurf_ray.driver.errors import BadUse
from store import FunctionRecord, Run, Store
from store.records import TaskRecord
from surrogate.comparable import comparable_rows
from surrogate.source import Source
from surrogate.spectra import SpectrumFeature

Rows = NDArray[np.float32]
Scores = NDArray[np.float64]


class OtherTask:
    """What another task's results say of functions.

    Args:
        function_ids: of the functions that it has results of, ascending.
        source: their results, in this order.
    """

    def __init__(self, function_ids: Sequence[int], source: Source) -> None:
        self._row = {number: i for i, number in enumerate(function_ids)}
        self._source = source

    def prior(self, candidates: Sequence[FunctionRecord], values: Rows, spectra: Rows) -> Scores:
        """What is to be expected of candidates [n] with these outputs and comparable spectra: float64 [n]."""
        same = np.array([self._row.get(function.id, -1) for function in candidates], dtype=np.int64)
        return self._source.prior(same, values, spectra)


def check_other_task(store: Store, config: SearchConfig, own_digest: str) -> None:
    """Looks before a run is made whether there is what it is to look at.

    Raises:
        BadUse: no such task in the store, several, the run's own, or one without any score.
    """
    if config.transfer_from is None:
        return
    task = _named(store, config.transfer_from, own_digest)
    if not any(score is not None for scores in store.task_scores(task.id).values() for score in scores):
        raise BadUse(f"transfer-from: task '{task.name}' has no results in the store yet")


def other_task(store: Store, config: SearchConfig, run: Run) -> OtherTask | None:
    """What the run's `transfer_from` had when the run was made; None for a run without.

    Raises:
        BadUse: the task is no longer the only one of its name.
    """
    if config.transfer_from is None:
        return None
    task = _named(store, config.transfer_from, store.task(run.task_id).digest)
    found = store.task_scores(task.id, until=run.created_at)
    ids = sorted(found)
    scores = np.array([_median(found[number]) for number in ids])
    records = store.spectra(task.id, ids, config.fisher, config.training_seed)
    features = [records[number].feature if number in records else None for number in ids]
    spectra = comparable_rows([None if cell is None else SpectrumFeature.from_bytes(cell) for cell in features])
    functions = store.functions(ids)
    values = np.stack([outputs(functions[number].name) for number in ids])
    return OtherTask(ids, Source(scores, values, spectra))


def _named(store: Store, name: str, own_digest: str) -> TaskRecord:
    found = [task for task in store.tasks() if name in (task.name, task.digest) and task.digest != own_digest]
    if len(found) == 1:
        return found[0]
    if found:
        digests = ", ".join(task.digest for task in found)
        raise BadUse(f"transfer-from: {len(found)} tasks of the store are called '{name}'; give a digest: {digests}")
    others = ", ".join(sorted({task.name for task in store.tasks() if task.digest != own_digest})) or "none"
    raise BadUse(f"transfer-from: the store has no other task '{name}'; there are: {others}")


def _median(scores: list[float | None]) -> float:
    """Of the seeds, what diverged at the worse end; NaN where that is in the middle."""
    median = float(np.median([-np.inf if score is None else score for score in scores]))
    return median if np.isfinite(median) else np.nan
