"""The result of a training: metrics in the row of its evaluation, and a learning curve in a table of its own.

A result is written once, and the first one stays. The exception is a training that was stopped early, or that the
health gate refused, which a run may request in full: `reopen` moves such a result from the row into the run's log, so
that nothing finished is lost.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, fields
from typing import Any

import sqlalchemy as sa

from aquasurf_ray.store.database.columns import utc_now
from aquasurf_ray.store.database.schema import Epoch, Evaluation, LearnedValue, RunEvaluation, table
from aquasurf_ray.store.errors import BadRecord
from aquasurf_ray.store.records.evaluations import EpochRecord, EvaluationRecord, EvaluationResult
from aquasurf_ray.store.records.leases import Lease
from aquasurf_ray.store.verbs.store_core import FencedRun, log
from aquasurf_ray.training_metrics import LearnedValues

_EVALUATIONS, _EPOCHS, _REQUESTS = table(Evaluation), table(Epoch), table(RunEvaluation)
_LEARNED = table(LearnedValue)
CHANGE = sa.update(_EVALUATIONS).where(_EVALUATIONS.c.id == sa.bindparam("at_evaluation"))
FINISH = CHANGE.values(finished_at=utc_now())
METRICS = tuple(field.name for field in fields(EvaluationResult) if field.name not in ("status", "epochs", "learned"))
_KEPT = ("status", "claimed_by", "code_version", *METRICS)  # its times are in the run's log
_READ_KEPT = sa.select(*(_EVALUATIONS.c[name] for name in ("function_id", *_KEPT))).where(
    _EVALUATIONS.c.id == sa.bindparam("at_evaluation")
)
_EMPTY: dict[str, Any] = dict.fromkeys((*_KEPT, "claim_token", "epochs", "started_at", "finished_at"))
_EMPTY |= {"status": "queued", "attempts": 0}
_CURVE = sa.select(*(_EPOCHS.c[field.name] for field in fields(EpochRecord)))
_READ_CURVE = _CURVE.where(_EPOCHS.c.evaluation_id == sa.bindparam("at_evaluation")).order_by(_EPOCHS.c.epoch)
_ADD_CURVE = sa.insert(_EPOCHS)
_DROP_CURVE = sa.delete(_EPOCHS).where(_EPOCHS.c.evaluation_id == sa.bindparam("at_evaluation"))
_READ_LEARNED = (
    sa.select(*(_LEARNED.c[field.name] for field in fields(LearnedValues)))
    .where(_LEARNED.c.evaluation_id == sa.bindparam("at_evaluation"))
    .order_by(_LEARNED.c.position)
)
_ADD_LEARNED = sa.insert(_LEARNED)
_DROP_LEARNED = sa.delete(_LEARNED).where(_LEARNED.c.evaluation_id == sa.bindparam("at_evaluation"))
_NOT_REUSED = (
    sa.update(_REQUESTS)
    .where(_REQUESTS.c.run_id == sa.bindparam("at_run"), _REQUESTS.c.evaluation_id == sa.bindparam("at_evaluation"))
    .values(reused=False)
)


def check_result(result: EvaluationResult) -> None:
    """Raise BadRecord for a contradictory result."""
    finite = result.score is not None and math.isfinite(result.score)
    if result.status == "done" and not finite:
        raise BadRecord(f"a done evaluation needs a finite score, got {result.score}; record it as diverged")
    if result.status == "diverged" and result.score is not None:
        raise BadRecord(f"a diverged evaluation has no score, got {result.score}")
    if len({epoch.epoch for epoch in result.epochs}) < len(result.epochs):
        raise BadRecord(f"the learning curve of {len(result.epochs)} epochs has one epoch twice")


def write_results(
    connection: sa.Connection, lease: Lease, run: FencedRun, results: Mapping[int, EvaluationResult]
) -> None:
    """Write results into locked rows without a result, by number."""
    by = {"claimed_by": run.id, "claim_token": lease.token, "code_version": run.code_version}
    rows = [_values(result) | by | {"at_evaluation": number} for number, result in results.items()]
    curves = [vars(epoch) | {"evaluation_id": n} for n, result in results.items() for epoch in result.epochs]
    if rows:
        connection.execute(FINISH, rows)
    if curves:
        connection.execute(_ADD_CURVE, curves)
    learned = [
        vars(values) | {"evaluation_id": n, "position": position, "course": list(values.course)}
        for n, result in results.items()
        for position, values in enumerate(result.learned)
    ]
    if learned:
        connection.execute(_ADD_LEARNED, learned)


def _values(result: EvaluationResult) -> dict[str, Any]:
    metrics = {name: getattr(result, name) for name in METRICS}
    # A user's own loop or trainable may report some of its epochs only, or none.
    last = max((epoch.epoch for epoch in result.epochs), default=None)
    return metrics | {"status": result.status, "epochs": last, "error": None}


def same_result(record: EvaluationRecord, result: EvaluationResult) -> bool:
    """Return whether all measured values are equal, with NaN equal to NaN."""
    # As text, because NaN is not equal to itself; repr gives every float back exactly.
    stored = repr([record.status, *(getattr(record, name) for name in METRICS)])
    return stored == repr([result.status, *(getattr(result, name) for name in METRICS)])


def read_curve(connection: sa.Connection, evaluation_id: int) -> tuple[EpochRecord, ...]:
    """Return the learning curve, by epoch."""
    return tuple(EpochRecord(*row) for row in connection.execute(_READ_CURVE, {"at_evaluation": evaluation_id}))


def read_learned(connection: sa.Connection, evaluation_id: int) -> tuple[LearnedValues, ...]:
    """Return what the function's learned parameters became, in the network's order."""
    rows = connection.execute(_READ_LEARNED, {"at_evaluation": evaluation_id}).mappings()
    return tuple(LearnedValues(**{**row, "course": tuple(row["course"])}) for row in rows)


def reopen(connection: sa.Connection, run_id: int, evaluation_id: int) -> None:
    """Queue a finished evaluation as if it were new, and move its result to the log of the requesting run.

    The caller has locked the rows of the run and of the evaluation.
    """
    at = {"at_evaluation": evaluation_id}
    row = connection.execute(_READ_KEPT, at).one()
    kept = {name: getattr(row, name) for name in _KEPT}
    curve = [asdict(epoch) for epoch in read_curve(connection, evaluation_id)]
    kept["epochs"] = curve
    learned = [asdict(values) for values in read_learned(connection, evaluation_id)]
    result = kept | ({"learned": learned} if learned else {})
    log(connection, run_id, "reopened", evaluation_id, row.function_id, {"result": result})
    connection.execute(_DROP_CURVE, at)
    connection.execute(_DROP_LEARNED, at)
    connection.execute(CHANGE, _EMPTY | at)
    # The run trains it now, so it no longer counts as found in the store.
    connection.execute(_NOT_REUSED, at | {"at_run": run_id})
