"""Candidates that a run adds while it searches: a generation at a time, with their parents."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from aquasurf_ray.store.database.schema import (
    Evaluation,
    Event,
    Function,
    GrownCandidate,
    Run,
    RunCandidate,
    Task,
    table,
)
from aquasurf_ray.store.errors import BadRecord
from aquasurf_ray.store.records.growth import Family, FamilyMember, GrowthState, NewCandidate
from aquasurf_ray.store.records.leases import Lease
from aquasurf_ray.store.records.tasks import FunctionRecord, TaskMetric
from aquasurf_ray.store.verbs.functions import FUNCTION_COLUMNS, insert_functions
from aquasurf_ray.store.verbs.store_core import FencedRun, StoreCore, chunks, log

_GENERATION = "generation"
_MOST_PARENTS = 2


class GrowthVerbs(StoreCore):
    """Adding candidates to a run, and reading where they came from."""

    def grow(self, lease: Lease, generation: int, candidates: Sequence[NewCandidate]) -> list[FunctionRecord]:
        """Append the candidates of one generation to those of the run, in one transaction; return the new ones.

        A function that is a candidate of the run already is left out. A generation that is stored already, by a verb
        whose COMMIT was not answered, is returned as it is.

        Raises:
            BadRecord: a candidate has more than two parents.
            LeaseLost: another driver took the run over.
        """
        for candidate in candidates:
            if len(candidate.parents) > _MOST_PARENTS:
                raise BadRecord(f"'{candidate.function.name}' has {len(candidate.parents)} parents; at most two")

        def body(connection: sa.Connection, run: FencedRun) -> list[FunctionRecord]:
            # The driver repeats a verb whose COMMIT was not answered, and the first time may have been stored.
            if _generation(connection, run.id) < generation:
                n = _insert(connection, run.id, generation, candidates)
                log(connection, run.id, _GENERATION, data={"generation": generation, "candidates": n})
            return _of_generation(connection, run.id, generation)

        return self._fenced(lease, body)

    def growth(self, run_id: int) -> GrowthState:
        """Return how far the run has grown."""

        def body(connection: sa.Connection) -> GrowthState:
            of_run = sa.select(sa.func.count()).select_from(GrownCandidate).where(GrownCandidate.run_id == run_id)
            return GrowthState(_generation(connection, run_id), int(connection.execute(of_run).scalar_one()))

        return self._read(body)

    def families(self, function_id: int) -> list[Family]:
        """Return the relatives of a function in each run that made it, or made others from it."""
        return self._read(lambda connection: _families(connection, function_id))


def _generation(connection: sa.Connection, run_id: int) -> int:
    # From the log, since a generation may have no new function.
    query = sa.select(Event.data).where(Event.run_id == run_id, Event.kind == _GENERATION)
    last = connection.execute(query.order_by(Event.seq.desc()).limit(1)).scalar()
    return 0 if last is None else int(last["generation"])


def _insert(connection: sa.Connection, run_id: int, generation: int, candidates: Sequence[NewCandidate]) -> int:
    """Insert the candidates that are new, and return their number."""
    # Another spelling of a candidate is the same function, and keeps its place and its first origin.
    known = set(connection.execute(sa.select(RunCandidate.function_id).where(RunCandidate.run_id == run_id)).scalars())
    numbers = insert_functions(connection, [candidate.function for candidate in candidates])
    new = {number: candidate for number, candidate in zip(numbers, candidates, strict=True) if number not in known}
    places = [
        {"run_id": run_id, "position": position, "function_id": number}
        for position, number in enumerate(new, start=len(known))
    ]
    origins = [_origin(run_id, generation, number, candidate) for number, candidate in new.items()]
    for part in chunks(places):
        connection.execute(sa.insert(RunCandidate), part)
    for part in chunks(origins):
        connection.execute(sa.insert(GrownCandidate), part)
    return len(new)


def _origin(run_id: int, generation: int, number: int, candidate: NewCandidate) -> dict[str, Any]:
    first, second = (*candidate.parents, None, None)[:_MOST_PARENTS]
    origin = {"run_id": run_id, "function_id": number, "generation": generation, "change": candidate.change}
    return origin | {"parent_id": first, "other_parent_id": second}


def _of_generation(connection: sa.Connection, run_id: int, generation: int) -> list[FunctionRecord]:
    query = (
        sa.select(*FUNCTION_COLUMNS)
        .join(GrownCandidate, GrownCandidate.function_id == Function.id)
        .join(
            RunCandidate,
            (RunCandidate.run_id == GrownCandidate.run_id) & (RunCandidate.function_id == Function.id),
        )
        .where(GrownCandidate.run_id == run_id, GrownCandidate.generation == generation)
        .order_by(RunCandidate.position)
    )
    return [FunctionRecord(*row) for row in connection.execute(query)]


def _families(connection: sa.Connection, function_id: int) -> list[Family]:
    is_relative = sa.or_(
        GrownCandidate.function_id == function_id,
        GrownCandidate.parent_id == function_id,
        GrownCandidate.other_parent_id == function_id,
    )
    query = (
        sa.select(Run.id, Run.name, Run.task_id, Task.spec)
        .join(Task, Task.id == Run.task_id)
        .where(Run.id.in_(sa.select(GrownCandidate.run_id).where(is_relative)))
        .order_by(Run.id)
    )
    return [_family(connection, run, function_id) for run in connection.execute(query).all()]


def _family(connection: sa.Connection, run: Any, function_id: int) -> Family:
    # The whole run in one query: a query for each ancestor would be one for each generation.
    query = sa.select(table(GrownCandidate)).where(GrownCandidate.run_id == run.id)
    grown = {row.function_id: row for row in connection.execute(query)}
    parents = {number: tuple(p for p in (row.parent_id, row.other_parent_id) if p) for number, row in grown.items()}
    lineage = _ancestors(function_id, parents)
    children = [number for number, of in parents.items() if function_id in of]
    wanted = [*lineage, *children]
    names, scores = _names(connection, wanted), _scores(connection, run.task_id, wanted)

    def relative(number: int) -> FamilyMember:
        row, score = grown.get(number), scores.get(number)
        # A candidate of the first generation was drawn from the space and has no row here.
        if row is None:
            return FamilyMember(number, names[number], 0, None, (), score)
        return FamilyMember(number, names[number], row.generation, row.change, parents[number], score)

    best_first = sorted(map(relative, children), key=lambda each: (each.score is None, -(each.score or 0.0)))
    return Family(run.name, TaskMetric.of_spec(run.spec), tuple(map(relative, lineage)), tuple(best_first))


def _ancestors(function_id: int, parents: Mapping[int, tuple[int, ...]]) -> list[int]:
    """Return the function and all that it descends from, the nearest first."""
    found = {function_id: None}
    pending = [function_id]
    for number in pending:
        new = [parent for parent in dict.fromkeys(parents.get(number, ())) if parent not in found]
        found.update(dict.fromkeys(new))
        pending += new
    return list(found)


def _names(connection: sa.Connection, numbers: Sequence[int]) -> dict[int, str]:
    found: dict[int, str] = {}
    for part in chunks(sorted(set(numbers))):
        query = sa.select(Function.id, Function.name).where(Function.id.in_(part))
        found.update((row.id, row.name) for row in connection.execute(query))
    return found


def _scores(connection: sa.Connection, task_id: int, numbers: Sequence[int]) -> dict[int, float]:
    """Return the best score of each function that has one in the task."""
    found: dict[int, float] = {}
    for part in chunks(sorted(set(numbers))):
        query = (
            sa.select(Evaluation.function_id, sa.func.max(Evaluation.score).label("best"))
            .where(Evaluation.task_id == task_id, Evaluation.function_id.in_(part), Evaluation.status == "done")
            .group_by(Evaluation.function_id)
        )
        found.update((row.function_id, row.best) for row in connection.execute(query) if row.best is not None)
    return found
