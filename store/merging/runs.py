"""The merge of two stores' runs: which runs are the same, and how the copy in this store is updated.

A run has no number that is valid in every store. Two runs are the same if they were created at the same instant from
the same configuration of the same task, and the log of one begins with all of the other's; imports are the same if they
are of the same file. If both stores have a run, the longer log wins: the copy here is updated, or stays. If both copies
continued after they were separated, they become two runs. A name that is taken gets a number. Log lines that a merge
wrote are marked, and excluded from the comparison.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import sqlalchemy as sa

from aquasurf_ray.store.database.columns import dump_json
from aquasurf_ray.store.database.schema import (
    Evaluation,
    Event,
    GrownCandidate,
    Run,
    RunCandidate,
    RunEvaluation,
    table,
)
from aquasurf_ray.store.merging.evaluations import OTHER_RESULT, observed, other_results
from aquasurf_ray.store.merging.numbering import Merging, Note, Row
from aquasurf_ray.store.records.leases import LeaseOwner
from aquasurf_ray.store.records.runs import LONGEST_NAME
from aquasurf_ray.store.verbs.leases import lease_is_live
from aquasurf_ray.store.verbs.store_core import chunks, log

_RUNS, _EVENTS, _REQUESTS, _CANDIDATES = table(Run), table(Event), table(RunEvaluation), table(RunCandidate)
_GROWN = table(GrownCandidate)
_NAMES_OF_RUNS = ("confirms", "transferred_from")  # keys of a run's configuration
_CHANGES_AT_RESUME = ("status", "message", "budget", "config", "storage", "code_version", "updated_at")
Log = list[tuple[Any, str]]


@dataclass(frozen=True)
class MergedRun:
    """The outcome for a run of the other store: `name` is its name here, `was` its name there.

    new: this store did not have it. further: this store had it, and it was updated to the other store's state. known:
    nothing to do. alive: a driver works on it in the other store, so it is left out.
    """

    name: str
    was: str
    became: Literal["new", "further", "known", "alive"]


@dataclass
class _Pair:
    """A run of the other store, its copy here, and the number of log lines that the copy had."""

    theirs: Row
    here: int
    n_lines: int
    became: Literal["new", "further", "known"]


def live_runs(connection: sa.Connection, is_dead: Callable[[LeaseOwner], bool]) -> list[Row]:
    """Return the runs that a driver works on."""
    query = sa.select(_RUNS).where(_RUNS.c.lease_owner.is_not(None)).order_by(_RUNS.c.id)
    rows = [dict(row._mapping) for row in connection.execute(query)]
    return [row for row in rows if lease_is_live(connection, row["id"], is_dead)]


class RunMerge:
    """The runs' part of a merge: `begin` finds or creates their rows, `finish` fills them."""

    def __init__(self, merging: Merging, is_dead: Callable[[LeaseOwner], bool]) -> None:
        self._merging = merging
        self._is_dead = is_dead
        self._pairs: list[_Pair] = []
        self.alive: list[str] = []

    def begin(self) -> None:
        """Find or create the copy of every run that no driver works on."""
        merging = self._merging
        alive = {row["id"]: row["name"] for row in live_runs(merging.source.connection, self._is_dead)}
        self.alive = list(alive.values())
        taken: set[int] = set()
        for row in merging.source.rows(sa.select(_RUNS).order_by(_RUNS.c.id)):
            if row.id not in alive:
                theirs = dict(row._mapping) | {"config": merging.operators.config(row.config)}
                pair = self._pair(theirs, taken)
                taken.add(pair.here)
                self._pairs.append(pair)
                merging.runs[row.id] = pair.here
        merging.renewed |= {pair.here for pair in self._pairs if pair.became == "further"}
        self._follow_renamed()

    def finish(self) -> None:
        """Copy candidates, requests and logs, once all evaluations are here."""
        for pair in self._pairs:
            if pair.became != "known":
                self._copy_candidates(pair)
                self._copy_requests(pair)
                self._copy_log(pair)
            if pair.became != "new":
                self._copy_other_results(pair)

    def report(self) -> list[MergedRun]:
        """Return the outcome for each run."""
        names = self._names()
        done = [MergedRun(names[pair.here], pair.theirs["name"], pair.became) for pair in self._pairs]
        return done + [MergedRun(name, name, "alive") for name in self.alive]

    def _names(self) -> dict[int, str]:
        query = sa.select(_RUNS.c.id, _RUNS.c.name)
        return {row.id: row.name for row in self._merging.here.execute(query)}

    def _pair(self, theirs: Row, taken: set[int]) -> _Pair:
        task = self._merging.task(theirs["task_id"])
        lines = _lines(self._merging.source.connection, theirs["id"])
        for here in self._alike(theirs, task):
            if here["id"] in taken:
                continue
            ours = _lines(self._merging.here, here["id"])
            # An import is known by its file (the digest of its task), and is complete from its first instant.
            if theirs["kind"] == "import" or ours[: len(lines)] == lines:
                return _Pair(theirs, here["id"], len(ours), "known")
            if lines[: len(ours)] == ours:
                self._update_run(here, theirs)
                return _Pair(theirs, here["id"], len(ours), "further")
        return _Pair(theirs, self._make(theirs, task), 0, "new")

    def _alike(self, theirs: Row, task: int) -> list[Row]:
        """Return the runs here that may be the same one; runs of the same name come first."""
        same = (_RUNS.c.kind == theirs["kind"]) & (_RUNS.c.task_id == task)
        if theirs["kind"] != "import":
            same &= (_RUNS.c.config_digest == theirs["config_digest"]) & (_RUNS.c.created_at == theirs["created_at"])
            same &= _RUNS.c.seed == theirs["seed"]
        query = sa.select(_RUNS).where(same).order_by(_RUNS.c.name != theirs["name"], _RUNS.c.id)
        return [dict(row._mapping) for row in self._merging.here.execute(query)]

    def _make(self, theirs: Row, task: int) -> int:
        row = {name: value for name, value in theirs.items() if name != "id"} | _freed(theirs)
        row |= {"task_id": task, "name": self._free_name(theirs["name"]), "config": theirs["config"]}
        self._merging.here.execute(sa.insert(_RUNS), [row])
        query = sa.select(_RUNS.c.id).where(_RUNS.c.name == row["name"])
        return int(self._merging.here.execute(query).scalar_one())

    def _update_run(self, here: Row, theirs: Row) -> None:
        values = {name: theirs[name] for name in _CHANGES_AT_RESUME} | _freed(theirs)
        # Never backwards: the token of a driver that lost the run here must not become valid again.
        values |= {name: max(here[name], theirs[name]) for name in ("lease_token", "lease_heartbeat")}
        self._merging.here.execute(sa.update(_RUNS).where(_RUNS.c.id == here["id"]).values(values))

    def _free_name(self, name: str) -> str:
        names = set(self._merging.here.execute(sa.select(_RUNS.c.name)).scalars())
        if name not in names:
            return name
        # One more number than there are names, so one of them is free; 12 characters are room for the hyphen and it.
        numbered = (f"{name[: LONGEST_NAME - 12]}-{i}" for i in range(2, len(names) + 3))
        return next(candidate for candidate in numbered if candidate not in names)

    def _follow_renamed(self) -> None:
        """Update the configurations of confirmations and transfers, which name the run whose winners they train."""
        names = self._names()
        now = {pair.theirs["name"]: names[pair.here] for pair in self._pairs}
        for pair in self._pairs:
            config = pair.theirs["config"]
            named = {key: config[key] for key in _NAMES_OF_RUNS if isinstance(config.get(key), str)}
            renamed = {key: now.get(name, name) for key, name in named.items()}
            if pair.became != "known" and renamed != named:
                config = config | renamed
                self._merging.here.execute(sa.update(_RUNS).where(_RUNS.c.id == pair.here).values(config=config))

    def _copy_candidates(self, pair: _Pair) -> None:
        query = sa.select(_CANDIDATES.c.function_id).where(_CANDIDATES.c.run_id == pair.theirs["id"])
        theirs = [self._merging.function(row[0]) for row in self._rows(query.order_by(_CANDIDATES.c.position))]
        here = sa.select(_CANDIDATES.c.function_id).where(_CANDIDATES.c.run_id == pair.here)
        known = set(self._merging.here.execute(here).scalars())
        rows = [
            {"run_id": pair.here, "position": i, "function_id": number}
            for i, number in enumerate((number for number in theirs if number not in known), start=len(known))
        ]
        for part in chunks(rows):
            self._merging.here.execute(sa.insert(_CANDIDATES), part)
        self._copy_origins(pair)

    def _copy_origins(self, pair: _Pair) -> None:
        """Copy where the candidates came from that the run made itself."""
        here = sa.select(_GROWN.c.function_id).where(_GROWN.c.run_id == pair.here)
        known = set(self._merging.here.execute(here).scalars())
        query = sa.select(_GROWN).where(_GROWN.c.run_id == pair.theirs["id"])
        of_functions = ("function_id", "parent_id", "other_parent_id")
        rows = [
            dict(row._mapping)
            | {"run_id": pair.here}
            | {column: self._merging.function(getattr(row, column)) for column in of_functions}
            for row in self._rows(query.order_by(_GROWN.c.generation, _GROWN.c.function_id))
        ]
        for part in chunks([row for row in rows if row["function_id"] not in known]):
            self._merging.here.execute(sa.insert(_GROWN), part)

    def _copy_requests(self, pair: _Pair) -> None:
        query = sa.select(_REQUESTS).where(_REQUESTS.c.run_id == pair.theirs["id"]).order_by(_REQUESTS.c.position)
        theirs = [self._request(pair, row) for row in self._rows(query)]
        here = self._merging.here.execute(sa.select(_REQUESTS).where(_REQUESTS.c.run_id == pair.here)).all()
        known = {row.evaluation_id: row for row in here}
        new = [row for row in theirs if row["evaluation_id"] not in known]
        for part in chunks(new):
            self._merging.here.execute(sa.insert(_REQUESTS), part)
        # The copy here is the older one: place, origin and reason follow the other store.
        for row in theirs:
            before = known.get(row["evaluation_id"])
            if before is not None:
                at = _REQUESTS.c.id == before.id
                values = row | {"reused": row["reused"] or before.reused}
                self._merging.here.execute(sa.update(_REQUESTS).where(at).values(values))
        self._settle(pair, [row["evaluation_id"] for row in new])

    def _request(self, pair: _Pair, row: Any) -> Row:
        values = {name: value for name, value in row._mapping.items() if name != "id"}
        number = self._merging.evaluation(row.evaluation_id)
        return values | {
            "run_id": pair.here,
            "evaluation_id": number,
            "neighbors": self._merging.json(row.neighbors),
        }

    def _settle(self, pair: _Pair, evaluation_ids: Sequence[int]) -> None:
        """Mark as reused the evaluations that the run still waits for and that have a result here."""
        settled = [number for number in evaluation_ids if number in self._merging.settled]
        for part in chunks(settled):
            at = (_REQUESTS.c.run_id == pair.here) & _REQUESTS.c.evaluation_id.in_(part)
            self._merging.here.execute(sa.update(_REQUESTS).where(at).values(reused=True))
            query = sa.select(Evaluation.id, Evaluation.function_id, Evaluation.status, Evaluation.score)
            for row in self._merging.here.execute(query.where(Evaluation.id.in_(part)).order_by(Evaluation.id)):
                self._merging.notes.append(observed(pair.here, row.id, dict(row._mapping)))

    def _copy_log(self, pair: _Pair) -> None:
        query = sa.select(_EVENTS).where(_EVENTS.c.run_id == pair.theirs["id"]).order_by(_EVENTS.c.seq)
        here = sa.select(sa.func.coalesce(sa.func.max(_EVENTS.c.seq), 0)).where(_EVENTS.c.run_id == pair.here)
        last = int(self._merging.here.execute(here).scalar_one())
        # The copy here has the first `n_lines` of the drivers' own lines; the log of a new run is copied as it is.
        theirs = [row for row in self._rows(query) if pair.became == "new" or not _is_ours(row.data)]
        rows = [self._line(pair, row, last + i) for i, row in enumerate(theirs[pair.n_lines :], start=1)]
        for part in chunks(rows):
            self._merging.here.execute(sa.insert(_EVENTS), part)

    def _copy_other_results(self, pair: _Pair) -> None:
        """Copy results that an earlier merge into the other store put into the log."""
        query = sa.select(_EVENTS.c.evaluation_id, _EVENTS.c.function_id, _EVENTS.c.data).where(
            _EVENTS.c.run_id == pair.theirs["id"], _EVENTS.c.kind == OTHER_RESULT
        )
        for row in self._rows(query.order_by(_EVENTS.c.seq)):
            evaluation, function = self._merging.evaluation(row.evaluation_id), self._merging.function(row.function_id)
            if evaluation is not None and function is not None:
                data = self._merging.json(row.data)
                self._merging.notes.append(Note(pair.here, OTHER_RESULT, evaluation, function, data))

    def _line(self, pair: _Pair, row: Any, seq: int) -> Row:
        return {
            "run_id": pair.here,
            "seq": seq,
            "at": row.at,
            "kind": row.kind,
            "evaluation_id": self._merging.evaluation(row.evaluation_id),
            "function_id": self._merging.function(row.function_id),
            "data": self._merging.json(row.data),
        }

    def _rows(self, query: sa.Select[*tuple[Any, ...]]) -> Sequence[Any]:
        return self._merging.source.rows(query)


def write_notes(merging: Merging) -> None:
    """Add the merge's own lines to logs, but no result that is in its run's log already."""
    runs = sorted({note.run_id for note in merging.notes})
    known = {result for part in chunks(runs) for result in other_results(merging, part)}
    for note in merging.notes:
        if note.kind == OTHER_RESULT:
            key = (note.evaluation_id, dump_json(note.data))
            if key in known:
                continue
            known.add(key)
            merging.count("other_results")
        log(merging.here, note.run_id, note.kind, note.evaluation_id, note.function_id, note.data)


def _lines(connection: sa.Connection, run_id: int) -> Log:
    """Return the lines that the run's drivers wrote."""
    query = sa.select(_EVENTS.c.at, _EVENTS.c.kind, _EVENTS.c.data).where(_EVENTS.c.run_id == run_id)
    rows = connection.execute(query.order_by(_EVENTS.c.seq))
    return [(row.at, row.kind) for row in rows if not _is_ours(row.data)]


def _is_ours(data: Any) -> bool:
    """Return whether a merge wrote the line."""
    return isinstance(data, dict) and data.get("merged") is True


def _freed(theirs: Row) -> Row:
    """Return the columns of a run without a driver, as after one that died and whose evaluations were queued again."""
    if theirs["status"] != "running":
        return {"lease_owner": None}
    return {"lease_owner": None, "status": "interrupted", "message": "its driver was gone when the run was merged"}
