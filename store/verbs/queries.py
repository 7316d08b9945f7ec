"""Queries by the driver and by people. Every answer shows one consistent state of the database."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import fields
from typing import Any

import sqlalchemy as sa

from aquasurf_ray.seed_means import leader_seeds_of
from aquasurf_ray.store.database.schema import (
    Alias,
    Cost,
    Evaluation,
    Function,
    Run,
    RunCandidate,
    RunEvaluation,
    Spectrum,
    Task,
)
from aquasurf_ray.store.errors import BadRecord, RecordNotFound
from aquasurf_ray.store.records.answers import (
    FunctionHistory,
    HistoryEntry,
    LeaderboardRow,
    RunStatus,
    SpectrumSummary,
    TaskCost,
)
from aquasurf_ray.store.records.runs import (
    CostRecord,
    Fisher,
    RequestedEvaluation,
    Snapshot,
    TaskMetric,
)
from aquasurf_ray.store.records.seed_rows import means_of_seeds
from aquasurf_ray.store.verbs.costs import COST_COLUMNS
from aquasurf_ray.store.verbs.evaluations import EVALUATION_COLUMNS, to_record
from aquasurf_ray.store.verbs.functions import find_function, read_task
from aquasurf_ray.store.verbs.requests import to_suggestion
from aquasurf_ray.store.verbs.runs import read_candidates, read_run_by_id
from aquasurf_ray.store.verbs.store_core import StoreCore, chunks

_REQUEST_COLUMNS = (
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
_ELSEWHERE = {
    "function": Function.name,
    "time_ratio": Cost.step_seconds / Cost.relu_step_seconds,
    "memory_ratio": sa.cast(Cost.activation_bytes, sa.Double()) / sa.cast(Cost.relu_activation_bytes, sa.Double()),
    "evaluation_id": Evaluation.id,
}
_LEADERBOARD_COLUMNS = {
    field.name: _ELSEWHERE[field.name] if field.name in _ELSEWHERE else getattr(Evaluation, field.name)
    for field in fields(LeaderboardRow)
    if field.name not in ("rank", "baseline", "reused", "seeds", "noise")
}
_COST_OF_EVALUATION = (
    (Cost.task_id == Evaluation.task_id)
    & (Cost.function_id == Evaluation.function_id)
    & (Cost.device == Evaluation.device)
)


class QueryVerbs(StoreCore):
    """Reading runs, leaderboards and functions."""

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
            best = _leaderboard_of_run(connection, run_id, n=1)
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
            )

        return self._read(body)

    def leaderboard(
        self, *, run_id: int | None = None, task_id: int | None = None, n: int | None = None
    ) -> list[LeaderboardRow]:
        """Return the best evaluations of a run, or of a task over all runs; all of them without `n`.

        A search whose leader is trained with several seeds has one row for each function, by the mean over its seeds.
        Equal scores are in the order of their completion.
        """
        # Without either, scores of different tasks would be ranked against each other.
        if (run_id is None) == (task_id is None):
            raise BadRecord("a leaderboard is of a run or of a task: give run_id or task_id")
        if run_id is None:
            return self._read(lambda connection: _leaderboard(connection, run_id=None, task_id=task_id, n=n))
        return self._read(lambda connection: _leaderboard_of_run(connection, run_id, n=n))

    def seed_scores(self, task_id: int, function_ids: Collection[int]) -> dict[int, dict[int, float | None]]:
        """Return the scores of whole trainings over all runs of the task, by function and seed; None if it diverged.

        Only trainings with the task's recipe as it is count.
        """

        def body(connection: sa.Connection) -> dict[int, dict[int, float | None]]:
            found: dict[int, dict[int, float | None]] = {}
            for part in chunks(sorted(set(function_ids))):
                query = sa.select(Evaluation.function_id, Evaluation.seed, Evaluation.score).where(
                    Evaluation.task_id == task_id,
                    Evaluation.function_id.in_(part),
                    Evaluation.status.in_(("done", "diverged")),
                    Evaluation.stopped_early.is_(None),
                    Evaluation.recipe_change == "",
                )
                for row in connection.execute(query.order_by(Evaluation.seed)):
                    found.setdefault(row.function_id, {})[row.seed] = row.score
            return found

        return self._read(body)

    def pareto(self, *, run_id: int | None = None, task_id: int | None = None) -> list[LeaderboardRow]:
        """Return the leaderboard's Pareto front of score against step time, best first.

        Evaluations with unknown cost, and those that were stopped early, are left out.
        """
        return front(self.leaderboard(run_id=run_id, task_id=task_id))

    def function_history(self, text: str) -> FunctionHistory:
        """Return everything known about the function with this fingerprint, name or alias.

        Raises:
            RecordNotFound: the store does not have the function.
        """

        def body(connection: sa.Connection) -> FunctionHistory:
            function = find_function(connection, text)
            if function is None:
                raise RecordNotFound(f"no function '{text:.100}' is in the store; give its name or fingerprint")
            return FunctionHistory(
                function=function,
                aliases=_aliases(connection, function.id),
                spectra=_spectra_of(connection, function.id),
                costs=_costs_of(connection, function.id),
                evaluations=_history(connection, function.id),
                candidate_of=_candidate_of(connection, function.id),
            )

        return self._read(body)


def front(rows: Sequence[LeaderboardRow]) -> list[LeaderboardRow]:
    """Return the rows that no other row equals or beats in both score (higher is better) and step time, best first.

    Of rows that are equal in both, the first one is kept.
    """
    complete = [(row, row.time_ratio) for row in rows if row.time_ratio is not None and row.stopped_early is None]
    found: list[LeaderboardRow] = []
    cheapest = math.inf
    # By falling score, a row is on the front exactly if it is cheaper than all before it.
    for row, time_ratio in sorted(complete, key=lambda pair: (-pair[0].score, pair[1])):
        if time_ratio < cheapest:
            found.append(row)
            cheapest = time_ratio
    return found


def read_requests(connection: sa.Connection, run_id: int) -> tuple[RequestedEvaluation, ...]:
    """Return all evaluations that a run requested, in order."""
    return _requests(connection, RunEvaluation.run_id == run_id)


def _requests(connection: sa.Connection, condition: sa.ColumnElement[bool]) -> tuple[RequestedEvaluation, ...]:
    query = (
        sa.select(*EVALUATION_COLUMNS, *_REQUEST_COLUMNS)
        .join(RunEvaluation, RunEvaluation.evaluation_id == Evaluation.id)
        .join(Function, Function.id == Evaluation.function_id)
        .where(condition)
        .order_by(RunEvaluation.run_id, RunEvaluation.position)
    )
    return tuple(_to_request(row) for row in connection.execute(query))


def _to_request(row: Any) -> RequestedEvaluation:
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


def _leaderboard_of_run(connection: sa.Connection, run_id: int, *, n: int | None) -> list[LeaderboardRow]:
    run = read_run_by_id(connection, run_id)
    if leader_seeds_of(run.kind, run.config) == 1:
        return _leaderboard(connection, run_id=run_id, task_id=None, n=n)
    query = (
        sa.select(Evaluation.function_id, Evaluation.recipe_change)
        .join(RunEvaluation, RunEvaluation.evaluation_id == Evaluation.id)
        .where(RunEvaluation.run_id == run_id, Evaluation.status == "diverged")
    )
    diverged = {(row.function_id, row.recipe_change) for row in connection.execute(query)}
    return means_of_seeds(_leaderboard(connection, run_id=run_id, task_id=None, n=None), diverged)[:n]


def _leaderboard(
    connection: sa.Connection, *, run_id: int | None, task_id: int | None, n: int | None
) -> list[LeaderboardRow]:
    # Several runs of a task may share an evaluation: a baseline of any run is one, and reused is what nobody trained.
    baseline = sa.func.max(sa.case((RunEvaluation.origin == "baseline", 1), else_=0)).label("baseline")
    reused = sa.func.min(sa.case((RunEvaluation.reused, 1), else_=0)).label("reused")
    requests = sa.select(RunEvaluation.evaluation_id, baseline, reused).group_by(RunEvaluation.evaluation_id)
    if run_id is not None:
        requests = requests.where(RunEvaluation.run_id == run_id)
    found = requests.subquery()
    query = (
        sa.select(*_LEADERBOARD_COLUMNS.values(), found.c.baseline, found.c.reused)
        .join(found, found.c.evaluation_id == Evaluation.id)
        .join(Function, Function.id == Evaluation.function_id)
        .outerjoin(Cost, _COST_OF_EVALUATION)
        .where(Evaluation.status == "done")
        # The number last, so that equal scores have one order in every query and on both engines.
        .order_by(Evaluation.score.desc(), Evaluation.finished_at, Evaluation.id)
        .limit(n)
    )
    if task_id is not None:
        query = query.where(Evaluation.task_id == task_id)
    names = (*_LEADERBOARD_COLUMNS, "baseline", "reused")
    rows = [dict(zip(names, row, strict=True)) for row in connection.execute(query)]
    # A baseline that a search tries at another rate was suggested, and is a baseline all the same.
    changed = {row["function_id"] for row in rows if row["recipe_change"]}
    baselines = _baselines_among(connection, changed, run_id=run_id, task_id=task_id) if changed else set()
    return [
        LeaderboardRow(
            **row
            | {
                "rank": rank,
                "baseline": bool(row["baseline"]) or bool(row["recipe_change"] and row["function_id"] in baselines),
                "reused": bool(row["reused"]),
                "seeds": (row["seed"],),
            },
        )
        for rank, row in enumerate(rows, start=1)
    ]


def _baselines_among(
    connection: sa.Connection, function_ids: Collection[int], *, run_id: int | None, task_id: int | None
) -> set[int]:
    """Return which of these functions a run, or some run of a task, has trained as a baseline."""
    query = (
        sa.select(Evaluation.function_id)
        .join(RunEvaluation, RunEvaluation.evaluation_id == Evaluation.id)
        .where(RunEvaluation.origin == "baseline")
    )
    query = query.where(Evaluation.task_id == task_id if run_id is None else RunEvaluation.run_id == run_id)
    return {
        number
        for part in chunks(sorted(function_ids))
        for number in connection.execute(query.where(Evaluation.function_id.in_(part))).scalars()
    }


def _aliases(connection: sa.Connection, function_id: int) -> tuple[str, ...]:
    query = sa.select(Alias.name).where(Alias.function_id == function_id).order_by(Alias.name)
    return tuple(connection.execute(query).scalars())


def _spectra_of(connection: sa.Connection, function_id: int) -> tuple[SpectrumSummary, ...]:
    # The length and not the bytes: a feature has kilobytes, and people only see its size.
    n_bytes = sa.func.coalesce(sa.func.length(Spectrum.feature), 0)
    query = (
        sa.select(
            Task.name, Spectrum.fisher, Spectrum.seed, Spectrum.status, Spectrum.reason, Spectrum.seconds, n_bytes
        )
        .join(Task, Task.id == Spectrum.task_id)
        .where(Spectrum.function_id == function_id)
        .order_by(Spectrum.id)
    )
    return tuple(SpectrumSummary(*row) for row in connection.execute(query))


def _costs_of(connection: sa.Connection, function_id: int) -> tuple[TaskCost, ...]:
    query = (
        sa.select(*COST_COLUMNS, Task.name)
        .join(Task, Task.id == Cost.task_id)
        .where(Cost.function_id == function_id)
        .order_by(Cost.created_at, Cost.task_id, Cost.device)
    )
    return tuple(TaskCost(row.name, CostRecord(*row[:-1])) for row in connection.execute(query))


def _history(connection: sa.Connection, function_id: int) -> tuple[HistoryEntry, ...]:
    query = (
        sa.select(*EVALUATION_COLUMNS, *_REQUEST_COLUMNS, Run.name.label("run"), Task.name.label("task"), Task.spec)
        .join(RunEvaluation, RunEvaluation.evaluation_id == Evaluation.id)
        .join(Function, Function.id == Evaluation.function_id)
        .join(Run, Run.id == RunEvaluation.run_id)
        .join(Task, Task.id == Evaluation.task_id)
        .where(Evaluation.function_id == function_id)
        .order_by(RunEvaluation.id)
    )
    return tuple(
        HistoryEntry(row.run, row.task, TaskMetric.of_spec(row.spec), _to_request(row))
        for row in connection.execute(query)
    )


def _candidate_of(connection: sa.Connection, function_id: int) -> tuple[str, ...]:
    query = (
        sa.select(Run.name)
        .join(RunCandidate, RunCandidate.run_id == Run.id)
        .where(RunCandidate.function_id == function_id)
        .order_by(Run.id)
    )
    return tuple(connection.execute(query).scalars())
