"""The state of a run, for its driver and for people. Every answer shows one consistent state of the database."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from typing import Any

import sqlalchemy as sa

from aquasurf_ray.store.database.schema import (
    Evaluation,
    Event,
    Function,
    RunCandidate,
    RunEvaluation,
    Spectrum,
)
from aquasurf_ray.store.records.answers import (
    RunStatus,
)
from aquasurf_ray.store.records.evaluations import RequestedEvaluation, Snapshot
from aquasurf_ray.store.records.features import Fisher
from aquasurf_ray.store.records.runs import Run
from aquasurf_ray.store.verbs.evaluations import EVALUATION_COLUMNS, to_record
from aquasurf_ray.store.verbs.functions import read_task
from aquasurf_ray.store.verbs.reading.leaderboard import leaderboard_of_run
from aquasurf_ray.store.verbs.requests import to_suggestion
from aquasurf_ray.store.verbs.runs import read_candidates, read_run_by_id
from aquasurf_ray.store.verbs.store_core import StoreCore, chunks

REQUEST_COLUMNS = (
    RunEvaluation.position,
    RunEvaluation.origin,
    RunEvaluation.reused,
    RunEvaluation.suggested_at,
    RunEvaluation.predicted_score,
    RunEvaluation.rank,
    RunEvaluation.neighbors,
    RunEvaluation.embedding_version,
    Function.name,
)


class QueryVerbs(StoreCore):
    """Reading the state of runs."""

    def snapshot(self, run_id: int) -> Snapshot:
        """Return a run with its candidates and evaluations, in order."""

        def body(connection: sa.Connection) -> Snapshot:
            run = read_run_by_id(connection, run_id)
            return Snapshot(run, tuple(read_candidates(connection, run_id)), read_requests(connection, run_id))

        return self._read(body)

    def requests(self, run_id: int, evaluation_ids: Collection[int]) -> list[RequestedEvaluation]:
        """Return the given evaluations as far as the run requested them, in order."""

        def body(connection: sa.Connection) -> list[RequestedEvaluation]:
            of_run = RunEvaluation.run_id == run_id
            parts = chunks(sorted(evaluation_ids))
            return [
                request
                for part in parts
                for request in _requests(connection, of_run & RunEvaluation.evaluation_id.in_(part))
            ]

        return sorted(self._read(body), key=lambda request: request.position) if evaluation_ids else []

    def status(self, run_id: int, *, fisher: Fisher | None = None, spectrum_seed: int | None = None) -> RunStatus:
        """Return counts for display; only spectra of one kind and seed, if these are given."""

        def body(connection: sa.Connection) -> RunStatus:
            run = read_run_by_id(connection, run_id)
            requests = _counts(connection, run_id)
            spectra = _spectra_counts(connection, run_id, run.task_id, fisher, spectrum_seed)
            best = leaderboard_of_run(connection, run_id, n=1)
            return RunStatus(
                run=run,
                task=read_task(connection, run.task_id),
                by_status=_summed(requests, "status"),
                by_origin={(row.origin, row.status): row.n for row in requests},
                reused=sum(row.reused for row in requests),
                stopped_early=sum(row.stopped for row in requests),
                n_candidates=_n_candidates(connection, run_id),
                spectra_done=spectra.get("done", 0),
                spectra_diverged=spectra.get("diverged", 0),
                best=best[0] if best else None,
                failures=_requests(connection, (RunEvaluation.run_id == run_id) & (Evaluation.status == "failed")),
                divergences=_requests(connection, (RunEvaluation.run_id == run_id) & (Evaluation.status == "diverged")),
                reopened=_reopened(connection, run),
            )

        return self._read(body)


def read_requests(connection: sa.Connection, run_id: int) -> tuple[RequestedEvaluation, ...]:
    """Return all evaluations that a run requested, in order."""
    return _requests(connection, RunEvaluation.run_id == run_id)


def _requests(connection: sa.Connection, condition: sa.ColumnElement[bool]) -> tuple[RequestedEvaluation, ...]:
    query = (
        sa.select(*EVALUATION_COLUMNS, *REQUEST_COLUMNS)
        .join(RunEvaluation, RunEvaluation.evaluation_id == Evaluation.id)
        .join(Function, Function.id == Evaluation.function_id)
        .where(condition)
        .order_by(RunEvaluation.run_id, RunEvaluation.position)
    )
    return tuple(to_request(row) for row in connection.execute(query))


def to_request(row: Any) -> RequestedEvaluation:
    """Return a row of a query for `EVALUATION_COLUMNS` and `REQUEST_COLUMNS` as a record."""
    return RequestedEvaluation(
        position=row.position,
        origin=row.origin,
        reused=row.reused,
        suggested_at=row.suggested_at,
        suggestion=to_suggestion(row),
        function=row.name,
        evaluation=to_record(row),
    )


def _counts(connection: sa.Connection, run_id: int) -> list[Any]:
    reused = sa.func.sum(sa.case((RunEvaluation.reused, 1), else_=0)).label("reused")
    # A refusal by the health gate also fills `stopped_early`, but it is counted among the diverged.
    ended = sa.case((Evaluation.status == "done", Evaluation.stopped_early))
    stopped = sa.func.count(ended).label("stopped")
    query = (
        sa.select(RunEvaluation.origin, Evaluation.status, sa.func.count().label("n"), reused, stopped)
        .join(Evaluation, Evaluation.id == RunEvaluation.evaluation_id)
        .where(RunEvaluation.run_id == run_id)
        .group_by(RunEvaluation.origin, Evaluation.status)
    )
    return list(connection.execute(query))


def _reopened(connection: sa.Connection, run: Run) -> tuple[str, ...]:
    """Return why evaluations diverged that a failed run has queued again; a run that continues has them as new ones."""
    if run.status != "failed":
        return ()
    query = (
        sa.select(Event.evaluation_id, Event.data)
        .join(Evaluation, Evaluation.id == Event.evaluation_id)
        .where(Event.run_id == run.id, Event.kind == "reopened", Evaluation.status == "queued")
        .order_by(Event.seq)
    )
    last = {row.evaluation_id: row.data["result"] for row in connection.execute(query)}
    return tuple(str(result["reason"]) for result in last.values() if result["status"] == "diverged")


def _summed(rows: list[Any], key: str) -> dict[Any, int]:
    counts: Counter[Any] = Counter()
    for row in rows:
        counts[getattr(row, key)] += row.n
    return dict(counts)


def _n_candidates(connection: sa.Connection, run_id: int) -> int:
    query = sa.select(sa.func.count()).select_from(RunCandidate).where(RunCandidate.run_id == run_id)
    return int(connection.execute(query).scalar_one())


def _spectra_counts(
    connection: sa.Connection, run_id: int, task_id: int, fisher: str | None, seed: int | None
) -> dict[str, int]:
    query = (
        # Distinct, because a function may have spectra of both kinds and of several seeds.
        sa.select(Spectrum.status, sa.func.count(Spectrum.function_id.distinct()).label("n"))
        .join(RunCandidate, RunCandidate.function_id == Spectrum.function_id)
        .where(RunCandidate.run_id == run_id, Spectrum.task_id == task_id)
        .group_by(Spectrum.status)
    )
    if fisher is not None:
        query = query.where(Spectrum.fisher == fisher)
    if seed is not None:
        query = query.where(Spectrum.seed == seed)
    return {row.status: row.n for row in connection.execute(query)}
