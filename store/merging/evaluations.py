"""The merge of two stores' evaluations: one row per key, with the more complete of its two states. A key is task,
function, seed and change of the recipe.

A whole result wins over one that was stopped early or refused, any result over none, and this store's over an equal
one. The result that loses goes into the log of the run that had it, with its learning curve, so that nothing finished
is lost. An evaluation that was running in the other store is queued, as when a lease is released.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import sqlalchemy as sa

from aquasurf_ray.store.database.columns import dump_json, load_json
from aquasurf_ray.store.database.schema import (
    Attempt,
    Epoch,
    Evaluation,
    Event,
    ImportedEntry,
    LearnedValue,
    RunEvaluation,
    table,
)
from aquasurf_ray.store.merging.numbering import Merging, Note, Row
from aquasurf_ray.store.verbs.results import METRICS, read_curve, read_learned
from aquasurf_ray.store.verbs.store_core import chunks
from aquasurf_ray.training_metrics import METRIC_NAMES

_EVALUATIONS, _EPOCHS, _ATTEMPTS = table(Evaluation), table(Epoch), table(Attempt)
_LEARNED = table(LearnedValue)
_ENTRIES, _REQUESTS, _EVENTS = table(ImportedEntry), table(RunEvaluation), table(Event)
_KEY = ("task_id", "function_id", "seed", "recipe_change")
OTHER_RESULT = "other_result"


def merge_evaluations(merging: Merging) -> None:
    """Merge every evaluation that a run of the other store requested or claimed, except for runs that are left out."""
    wanted = _wanted(merging)
    for part in chunks(wanted):  # a part at a time, so that neither store's evaluations are all in memory
        rows = [_translated(merging, row) for row in _rows(merging, part)]
        known = _known_here(merging, rows)
        new = [row for row in rows if _key(row) not in known]
        _insert(merging, new)
        merging.count("evaluations", len(new))
        here = known | _known_here(merging, new)
        merging.evaluations |= {row["id"]: here[_key(row)]["id"] for row in rows}
        taken = [row for row in rows if _key(row) in known and _join(merging, known[_key(row)], row)]
        _copy_curves(merging, new + taken)
        _copy_entries(merging, new)
        _copy_attempts(merging, part)


def other_results(merging: Merging, run_ids: Sequence[int]) -> set[tuple[int, str]]:
    """Return the logged results of these runs that lost to another one, as (evaluation, its JSON)."""
    query = sa.select(_EVENTS.c.evaluation_id, _EVENTS.c.data).where(
        _EVENTS.c.kind == OTHER_RESULT, _EVENTS.c.run_id.in_(run_ids)
    )
    return {(row.evaluation_id, dump_json(row.data)) for row in merging.here.execute(query)}


def _wanted(merging: Merging) -> list[int]:
    requests = merging.source.rows(sa.select(_REQUESTS.c.run_id, _REQUESTS.c.evaluation_id))
    claims = merging.source.rows(
        sa.select(_EVALUATIONS.c.claimed_by.label("run_id"), _EVALUATIONS.c.id.label("evaluation_id"))
    )
    return sorted({row.evaluation_id for row in (*requests, *claims) if row.run_id in merging.runs})


def _rows(merging: Merging, numbers: Sequence[int]) -> list[Row]:
    query = sa.select(_EVALUATIONS).where(_EVALUATIONS.c.id.in_(numbers)).order_by(_EVALUATIONS.c.id)
    return [dict(row._mapping) for row in merging.source.rows(query)]


def _translated(merging: Merging, row: Row) -> Row:
    row = row | {"task_id": merging.task(row["task_id"]), "function_id": merging.function(row["function_id"])}
    row["claimed_by"] = merging.run(row["claimed_by"])
    if row["status"] == "running":
        row |= {"status": "queued", "claimed_by": None}
    # Without its run, the token of a claim means nothing.
    return row | {"claim_token": row["claim_token"] if row["claimed_by"] is not None else None}


def _key(row: Row) -> tuple[Any, ...]:
    return tuple(row[column] for column in _KEY)


def _known_here(merging: Merging, rows: Sequence[Row]) -> dict[tuple[Any, ...], Row]:
    """Return the rows of this store with the keys of `rows`, locked, by key."""
    found: dict[tuple[Any, ...], Row] = {}
    keys = {_key(row) for row in rows}
    for task in sorted({row["task_id"] for row in rows}):
        functions = sorted({row["function_id"] for row in rows if row["task_id"] == task})
        query = sa.select(_EVALUATIONS).where(_EVALUATIONS.c.task_id == task, _EVALUATIONS.c.function_id.in_(functions))
        # Locked in the order of functions, as by every other transaction.
        for row in merging.here.execute(query.order_by(_EVALUATIONS.c.function_id).with_for_update()):
            if _key(dict(row._mapping)) in keys:
                found[_key(dict(row._mapping))] = dict(row._mapping)
    return found


def _insert(merging: Merging, rows: Sequence[Row]) -> None:
    if rows:
        merging.here.execute(sa.insert(_EVALUATIONS), [_without(row, "id") for row in rows])


def _join(merging: Merging, ours: Row, theirs: Row) -> bool:
    """Merge two states of an evaluation; return whether the other store's is taken."""
    if _worth(theirs) > _worth(ours):
        _take(merging, ours, theirs)
        return True
    if not _finished(theirs):
        if _finished(ours):
            merging.settled.add(ours["id"])
        return False
    curve = _curve_there(merging, theirs["id"])
    if _measured(ours, _curve_here(merging, ours["id"])) != _measured(theirs, curve):
        _keep(merging, theirs, curve, _learned_there(merging, theirs), ours["id"])
    elif ours["claimed_by"] is None and theirs["claimed_by"] is not None:
        # The same result, whose run is known in the other store only.
        owner = {"claimed_by": theirs["claimed_by"], "claim_token": theirs["claim_token"]}
        merging.here.execute(sa.update(_EVALUATIONS).where(_EVALUATIONS.c.id == ours["id"]).values(owner))
    return False


def _take(merging: Merging, ours: Row, theirs: Row) -> None:
    if _finished(ours):
        learned = [asdict(values) for values in read_learned(merging.here, ours["id"])]
        _keep(merging, ours, _curve_here(merging, ours["id"]), learned, ours["id"])
    values = _without(theirs, "id", "created_at", *_KEY)
    merging.here.execute(sa.update(_EVALUATIONS).where(_EVALUATIONS.c.id == ours["id"]).values(values))
    for curves in (_EPOCHS, _LEARNED):
        merging.here.execute(sa.delete(curves).where(curves.c.evaluation_id == ours["id"]))
    merging.count("results")
    _note_reuse(merging, ours, theirs)


def _worth(row: Row) -> int:
    if not _finished(row):
        return 0
    return 1 if row["stopped_early"] is not None else 2


def _finished(row: Row) -> bool:
    return row["status"] in ("done", "diverged")


def _measured(row: Row, curve: list[Row]) -> str:
    """Return the values that a training reached as text, in which NaN equals NaN.

    How long it took and on what machine makes it no other result.
    """
    epochs = (sorted(_without(epoch, "seconds").items()) for epoch in curve)
    return repr([row["status"], row["reason"], *(row[name] for name in METRIC_NAMES), *epochs])


def _curve_here(merging: Merging, evaluation_id: int) -> list[Row]:
    return [asdict(epoch) for epoch in read_curve(merging.here, evaluation_id)]


def _curve_there(merging: Merging, evaluation_id: int) -> list[Row]:
    query = sa.select(_EPOCHS).where(_EPOCHS.c.evaluation_id == evaluation_id).order_by(_EPOCHS.c.epoch)
    return [_without(dict(row._mapping), "evaluation_id") for row in merging.source.rows(query)]


def _learned_there(merging: Merging, theirs: Row) -> list[Row]:
    query = sa.select(_LEARNED).where(_LEARNED.c.evaluation_id == theirs["id"]).order_by(_LEARNED.c.position)
    rows = [_without(dict(row._mapping), "evaluation_id", "position") for row in merging.source.rows(query)]
    return [row | {"parameter": merging.parameter(theirs["function_id"], row["parameter"])} for row in rows]


def _keep(merging: Merging, result: Row, curve: list[Row], learned: list[Row], evaluation_id: int) -> None:
    """Record a result that loses to another one, for the log of the run that had it."""
    run_id = result["claimed_by"] or _requesting_run(merging, evaluation_id)
    kept = {name: result[name] for name in ("status", "code_version", *METRICS)} | {"epochs": curve}
    kept |= {"learned": learned} if learned else {}
    data = load_json(dump_json({"result": kept, "merged": True}))
    merging.notes.append(Note(run_id, OTHER_RESULT, evaluation_id, result["function_id"], data))


def _requesting_run(merging: Merging, evaluation_id: int) -> int:
    """Return the run of this store that claimed the evaluation, or else one that requested it."""
    query = sa.select(_EVALUATIONS.c.claimed_by).where(_EVALUATIONS.c.id == evaluation_id)
    owner = merging.here.execute(query).scalar()
    request = sa.select(sa.func.min(_REQUESTS.c.run_id)).where(_REQUESTS.c.evaluation_id == evaluation_id)
    return int(owner if owner is not None else merging.here.execute(request).scalar_one())


def _note_reuse(merging: Merging, ours: Row, theirs: Row) -> None:
    """Record for the runs here that requested the evaluation that they have its result now without training it.

    A run that is updated to the other store's state has this in its own log there.
    """
    query = sa.select(_REQUESTS.c.run_id).where(_REQUESTS.c.evaluation_id == ours["id"]).order_by(_REQUESTS.c.run_id)
    for run_id in merging.here.execute(query).scalars().all():
        if run_id != theirs["claimed_by"] and run_id not in merging.renewed:
            at = (_REQUESTS.c.run_id == run_id) & (_REQUESTS.c.evaluation_id == ours["id"])
            merging.here.execute(sa.update(_REQUESTS).where(at).values(reused=True))
            merging.notes.append(observed(run_id, ours["id"], theirs))


def observed(run_id: int, evaluation_id: int, result: Row) -> Note:
    """Return the log line of a run that now has a result which it did not train."""
    data = {"status": result["status"], "score": result["score"], "merged": True}
    return Note(run_id, "observed", evaluation_id, result["function_id"], data)


def _copy_curves(merging: Merging, rows: Sequence[Row]) -> None:
    """Copy learning curves, and what was learned."""
    function_of = {row["id"]: row["function_id"] for row in rows}
    for curves, order in ((_EPOCHS, _EPOCHS.c.epoch), (_LEARNED, _LEARNED.c.position)):
        query = sa.select(curves).where(curves.c.evaluation_id.in_(function_of)).order_by(curves.c.evaluation_id, order)
        found = merging.source.rows(query) if function_of else []
        moved = [(_moved(merging, row), function_of[row.evaluation_id]) for row in found]
        if curves is _LEARNED:
            for row, function in moved:
                row["parameter"] = merging.parameter(function, row["parameter"])
        for part in chunks([row for row, _ in moved]):
            merging.here.execute(sa.insert(curves), part)


def _copy_entries(merging: Merging, rows: Sequence[Row]) -> None:
    """Copy the file entries of imported evaluations; other evaluations have none."""
    numbers = [row["id"] for row in rows]
    query = sa.select(_ENTRIES).where(_ENTRIES.c.evaluation_id.in_(numbers)).order_by(_ENTRIES.c.evaluation_id)
    entries = [_moved(merging, row) for row in merging.source.rows(query)] if numbers else []
    if entries:
        merging.here.execute(sa.insert(_ENTRIES), entries)


def _copy_attempts(merging: Merging, numbers: Sequence[int]) -> None:
    """Copy the attempts of runs that are not left out, numbered after those here; an open one becomes interrupted."""
    query = sa.select(_ATTEMPTS).where(_ATTEMPTS.c.evaluation_id.in_(numbers))
    rows = merging.source.rows(query.order_by(_ATTEMPTS.c.evaluation_id, _ATTEMPTS.c.number))
    attempts = [_moved(merging, row) for row in rows if row.run_id in merging.runs]
    ids = sorted({row["evaluation_id"] for row in attempts})
    here = merging.here.execute(sa.select(_ATTEMPTS).where(_ATTEMPTS.c.evaluation_id.in_(ids))).all()
    # Numbers of attempts are each store's own; run and start say whether two are the same.
    known = {(row.evaluation_id, row.run_id, row.started_at) for row in here}
    last = {number: max((row.number for row in here if row.evaluation_id == number), default=0) for number in ids}
    new = []
    for row in attempts:
        row["run_id"] = merging.run(row["run_id"])
        if (row["evaluation_id"], row["run_id"], row["started_at"]) in known:
            continue
        last[row["evaluation_id"]] += 1
        new.append(row | {"number": last[row["evaluation_id"]], "outcome": row["outcome"] or "interrupted"})
    for part in chunks(new):
        merging.here.execute(sa.insert(_ATTEMPTS), part)


def _moved(merging: Merging, row: Any) -> Row:
    return _without(dict(row._mapping), "id") | {"evaluation_id": merging.evaluation(row.evaluation_id)}


def _without(row: Row, *names: str) -> Row:
    return {name: value for name, value in row.items() if name not in names}
