"""Leaderboards: the best evaluations of a run or of a task, and their Pareto front of score against step time."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import fields

import sqlalchemy as sa

from aquasurf_ray.seed_means import is_selecting, leader_seeds_of
from aquasurf_ray.store.database.schema import (
    Cost,
    Evaluation,
    Function,
    Run,
    RunEvaluation,
)
from aquasurf_ray.store.errors import BadRecord
from aquasurf_ray.store.records.answers import (
    LeaderboardRow,
)
from aquasurf_ray.store.records.seed_rows import means_of_seeds
from aquasurf_ray.store.verbs.runs import read_run_by_id
from aquasurf_ray.store.verbs.store_core import StoreCore, chunks

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


class LeaderboardVerbs(StoreCore):
    """Leaderboards, and the scores behind their rows."""

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
        return self._read(lambda connection: leaderboard_of_run(connection, run_id, n=n))

    def independent_scores(self, task_id: int, function_ids: Collection[int]) -> dict[int, dict[int, float | None]]:
        """Return the scores of whole trainings over all runs of the task which selected nothing, by function and seed;
        None if it diverged.

        A search selects functions by its seeds, and a confirmation their recipes by its choosing ones. Only trainings
        with the task's recipe as it is count.
        """

        def body(connection: sa.Connection) -> dict[int, dict[int, float | None]]:
            runs = sa.select(Run.id, Run.kind, Run.config).where(Run.task_id == task_id)
            of_run = {row.id: (row.kind, row.config) for row in connection.execute(runs)}
            found: dict[int, dict[int, float | None]] = {}
            selecting: set[tuple[int, int]] = set()
            for part in chunks(sorted(set(function_ids))):
                query = (
                    sa.select(Evaluation.function_id, Evaluation.seed, Evaluation.score, RunEvaluation.run_id)
                    .join(RunEvaluation, RunEvaluation.evaluation_id == Evaluation.id)
                    .where(
                        Evaluation.task_id == task_id,
                        Evaluation.function_id.in_(part),
                        Evaluation.status.in_(("done", "diverged")),
                        Evaluation.stopped_early.is_(None),
                        Evaluation.recipe_change == "",
                    )
                )
                for row in connection.execute(query.order_by(Evaluation.seed)):
                    found.setdefault(row.function_id, {})[row.seed] = row.score
                    if is_selecting(*of_run[row.run_id], row.seed):
                        selecting.add((row.function_id, row.seed))
            for function_id, seed in selecting:
                del found[function_id][seed]
            return found

        return self._read(body)

    def pareto(self, *, run_id: int | None = None, task_id: int | None = None) -> list[LeaderboardRow]:
        """Return the leaderboard's Pareto front of score against step time, best first.

        Evaluations with unknown cost, and those that were stopped early, are left out.
        """
        return front(self.leaderboard(run_id=run_id, task_id=task_id))


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


def leaderboard_of_run(connection: sa.Connection, run_id: int, *, n: int | None) -> list[LeaderboardRow]:
    """Return the best evaluations of a run, or with several leader seeds, its functions by the mean over seeds."""
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
