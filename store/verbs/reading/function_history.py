"""Everything that is known about one function, over all runs and tasks."""

from __future__ import annotations

import sqlalchemy as sa

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
from aquasurf_ray.store.errors import RecordNotFound
from aquasurf_ray.store.records.answers import (
    FunctionHistory,
    HistoryEntry,
    SpectrumSummary,
    TaskCost,
)
from aquasurf_ray.store.records.tasks import TaskMetric
from aquasurf_ray.store.verbs.costs import COST_COLUMNS, to_cost
from aquasurf_ray.store.verbs.evaluations import EVALUATION_COLUMNS
from aquasurf_ray.store.verbs.functions import find_function
from aquasurf_ray.store.verbs.reading.queries import REQUEST_COLUMNS, to_request
from aquasurf_ray.store.verbs.store_core import StoreCore


class FunctionHistoryVerbs(StoreCore):
    """The history of a function."""

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
    return tuple(TaskCost(row.name, to_cost(row)) for row in connection.execute(query))


def _history(connection: sa.Connection, function_id: int) -> tuple[HistoryEntry, ...]:
    query = (
        sa.select(*EVALUATION_COLUMNS, *REQUEST_COLUMNS, Run.name.label("run"), Task.name.label("task"), Task.spec)
        .join(RunEvaluation, RunEvaluation.evaluation_id == Evaluation.id)
        .join(Function, Function.id == Evaluation.function_id)
        .join(Run, Run.id == RunEvaluation.run_id)
        .join(Task, Task.id == Evaluation.task_id)
        .where(Evaluation.function_id == function_id)
        .order_by(RunEvaluation.id)
    )
    return tuple(
        HistoryEntry(row.run, row.task, TaskMetric.of_spec(row.spec), to_request(row))
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
