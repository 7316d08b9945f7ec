"""Costs of functions: step time and activation memory in a task's network on one kind of device, and those of ReLU.

A cost belongs to a task, a function and a device, is measured once, and is shared by all runs.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, fields
from typing import Any

import sqlalchemy as sa

from aquasurf_ray.store.database.engine import insert_new
from aquasurf_ray.store.database.schema import Cost
from aquasurf_ray.store.errors import BadRecord
from aquasurf_ray.store.records.features import CostRecord
from aquasurf_ray.store.records.leases import Lease
from aquasurf_ray.store.verbs.store_core import FencedRun, StoreCore, chunks, log

_NAMES = [field.name for field in fields(CostRecord)]
COST_COLUMNS = tuple(getattr(Cost, name) for name in _NAMES)


class CostVerbs(StoreCore):
    """Recording and reading costs."""

    def record_costs(self, lease: Lease, costs: Sequence[CostRecord]) -> int:
        """Write costs in one transaction, and return how many were new; existing ones of the task stay.

        Raises:
            BadRecord: a time or a size is not positive and finite (the function may save 0 bytes, ReLU may not).
            LeaseLost: another driver took the run over.
        """
        for cost in costs:
            _check(cost)

        def body(connection: sa.Connection, run: FencedRun) -> int:
            new = _insert(connection, run.task_id, costs)
            if new:
                log(connection, run.id, "costs", data={"function_ids": new})
            return len(new)

        return self._fenced(lease, body)

    def costs(self, task_id: int, function_ids: Iterable[int], device: str | None = None) -> dict[int, CostRecord]:
        """Return the known costs by function: on this device, or the one measured last on any device."""

        known = self._read(lambda connection: read_costs(connection, task_id, function_ids))
        # In the order of measurement: of several devices, the last one stays.
        return {cost.function_id: cost for cost in known if device in (None, cost.device)}


def read_costs(connection: sa.Connection, task_id: int, function_ids: Iterable[int]) -> list[CostRecord]:
    """Return all costs of these functions on a task, on any device, in the order of measurement."""
    found: list[CostRecord] = []
    for part in chunks(sorted(set(function_ids))):
        query = sa.select(*COST_COLUMNS).where(Cost.task_id == task_id, Cost.function_id.in_(part))
        found += [to_cost(row) for row in connection.execute(query.order_by(Cost.created_at, Cost.device))]
    return found


def to_cost(row: Any) -> CostRecord:
    """Return the cost in a row of a query for `COST_COLUMNS`."""
    return CostRecord(**{name: getattr(row, name) for name in _NAMES})


def _check(cost: CostRecord) -> None:
    for name in ("step_seconds", "relu_step_seconds", "relu_activation_bytes"):
        value = getattr(cost, name)
        if not (math.isfinite(value) and value > 0):
            raise BadRecord(f"{name} must be positive and finite, got {value}")
    if cost.activation_bytes < 0:
        raise BadRecord(f"activation_bytes must not be negative, got {cost.activation_bytes}")


def _insert(connection: sa.Connection, task_id: int, costs: Sequence[CostRecord]) -> list[int]:
    # Sorted, so that two drivers that insert the same costs cannot deadlock.
    in_order = sorted(costs, key=lambda item: (item.function_id, item.device))
    return insert_new(connection, Cost, [asdict(cost) | {"task_id": task_id} for cost in in_order], "function_id")
