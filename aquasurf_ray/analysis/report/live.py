"""The state of runs for `watch`, as JSON: a run's progress, workers, failures and last events, and a list of all runs.

It reads the store's verbs only and imports nothing heavy, so that the first answer takes a moment.
"""

from __future__ import annotations

from collections import Counter, deque
from datetime import UTC, datetime, timedelta
from typing import Any

from aquasurf_ray.activations.rendering import readable
from aquasurf_ray.analysis.studies.activity import activity_document, standing
from aquasurf_ray.analysis.studies.headline import Headline, best_of_run, finished_confirmation
from aquasurf_ray.analysis.studies.reference import marked
from aquasurf_ray.analysis.studies.run_origin import computes_spectra, how_to_continue
from aquasurf_ray.recipe_change import with_change
from aquasurf_ray.store import EventRecord, Run, RunActivity, RunStatus, Store
from aquasurf_ray.training_metrics import on_split
from aquasurf_ray.value_text import value_text

Json = dict[str, Any]
EVENTS_SHOWN = 15
RATE_PERIOD = timedelta(hours=1)  # a rate is over an hour, or over ten results if these took longer
RATE_COUNT = 10
_WORDS = {
    "created": "the run was created with {candidates} candidates",
    "lease_taken": "a driver started on {host}",
    "started": "{function} started on {worker}",
    "result": "{function}: {value}, {seconds:.1f} s",
    "diverged": "{function} diverged: {reason}",
    "failed": "{function} failed for good: {error}",
    "retry": "{function} failed and is tried again: {error}",
    "requeued": "{function} is queued again",
    "proposed": "{function} was requested",
    "reused": "{function}: a result of another run",
    "spectra": "spectra computed: {n}",
    "generation": "{candidates} new candidates of generation {generation}",
    "budget": "the budget is {after}, it was {before}",
    "note": "note: {text}",
    "finished": "the run is finished",
    "interrupted": "the run is interrupted",
}
"""The events that people see; the others are for a restart."""


class EventTail:
    """The last events of a run in words, and the rate of its results; each call reads what is new in its log."""

    def __init__(self, store: Store, run: Run) -> None:
        self._store = store
        self._run = run
        self._metric = store.task(run.task_id).metric
        self._last: deque[EventRecord] = deque(maxlen=EVENTS_SHOWN)
        self._times: deque[datetime] = deque()  # the beginning, and each result since
        self.seq = 0

    def read(self) -> list[Json]:
        """Return the last events, latest first: `at` as ISO 8601, and `text`."""
        for event in self._store.events(self._run.id, after=self.seq):
            self.seq = event.seq
            self._time(event)
            if event.kind in _WORDS:
                self._last.append(event)
        wanted = {event.function_id for event in self._last if event.function_id is not None}
        names = {number: function.name for number, function in self._store.functions(wanted).items()}
        trained = self._store.requests(
            self._run.id, {e.evaluation_id for e in self._last if e.evaluation_id is not None}
        )
        changes = {each.evaluation.id: each.evaluation.recipe_change for each in trained}
        return [
            {"at": event.at.isoformat(), "text": self._text(event, names, changes.get(event.evaluation_id or 0, ""))}
            for event in reversed(self._last)
        ]

    def per_hour(self, now: datetime) -> float | None:
        """Return the results per hour until now, as of the last `read`; None before the first."""
        times = self._times
        while len(times) > RATE_COUNT + 1 and now - times[1] >= RATE_PERIOD:
            times.popleft()
        seconds = (now - times[0]).total_seconds() if times else 0.0
        return (len(times) - 1) * 3600 / seconds if len(times) > 1 and seconds > 0 else None

    def _time(self, event: EventRecord) -> None:
        if event.kind in ("interrupted", "finished"):  # the time until somebody continues it is none of work
            self._times.clear()
        elif event.kind in (("result", "diverged") if self._times else ("started",)):
            self._times.append(event.at)

    def _text(self, event: EventRecord, names: dict[int, str], change: str) -> str:
        data = event.data or {}
        words = {key: "?" if data.get(key) is None else data[key] for key in ("reason", "error", "worker", "text")}
        words |= {key: data.get(key, 0) for key in ("candidates", "generation", "before", "after")}
        value = self._metric.value(data.get("score"))
        words |= {
            "function": with_change(names.get(event.function_id or 0, "the run"), change),
            "host": (data.get("by") or {}).get("host", "?"),
            "seconds": data.get("seconds") or 0.0,
            "value": f"{on_split(self._metric.name)} {value_text(value)}" if value is not None else "no score",
            "n": len(data.get("function_ids", ())),
        }
        if event.kind == "failed" and event.function_id is None:
            return f"the run failed: {data.get('message') or '?'}"
        text = _WORDS[event.kind].format_map(words)
        return f"{text}: {data['message']}" if data.get("message") else text


def run_now(store: Store, run: Run, tail: EventTail, where: str = "") -> Json:
    """Return the state of a run now; `spectra` is None for a run that computes none, `again` what continues a run whose
    driver has died, with the option `where` that names the store."""
    status, activity = store.status(run.id), store.activity(run.id)
    now = activity_document(activity, store.failure_causes(run.id))
    events, row = tail.read(), _row(status, activity, best_of_run(store, status))
    live = now["live"] or {"workers": [], "ending": None, "age": 0.0, **_rate_of_loops(row, now["loops"], tail)}
    diverged = [*(str(each.evaluation.reason) for each in status.divergences), *status.reopened]
    reasons = Counter(reason.partition(":")[0] for reason in diverged)
    causes = [{"n": n, "text": f"diverged: {reason}"} for reason, n in reasons.most_common()]
    causes += [{"n": cause["tries"], "text": f"failed attempt: {cause['cause']}"} for cause in now["failure_causes"]]
    return row | {
        "spectra": status.spectra_done + status.spectra_diverged if computes_spectra(run.kind, run.config) else None,
        "candidates": status.n_candidates,
        "message": live["ending"] or status.run.message,
        "again": how_to_continue(run.name, run.config, where) if row["status"] == "dead" else None,
        "per_hour": live["per_hour"],
        "seconds_left": live["seconds_left"],
        "age": live["age"],
        "workers": live["workers"],
        "loops": now["loops"],
        "causes": causes,
        "events": events,
    }


def _rate_of_loops(row: Json, loops: list[Json], tail: EventTail) -> Json:
    """Return the rate of a study, and the seconds left if it has a budget: its processes report neither."""
    per_hour = tail.per_hour(datetime.now(UTC)) if loops else None
    left = None if per_hour is None or row["wanted"] is None else max(row["wanted"] - row["evaluations"], 0)
    return {"per_hour": per_hour, "seconds_left": None if left is None or per_hour is None else left * 3600 / per_hour}


class RunList:
    """All runs of a store. Those that are not running are read again only after a change."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._known: dict[int, tuple[tuple[datetime, str | None], Json]] = {}

    def read(self) -> list[Json]:
        """Return the runs, oldest first, each with the last note on it."""
        notes = {note.run_id: note.text for note in self._store.notes()}
        runs = self._store.runs()
        return [self._row(run, finished_confirmation(runs, run)) | {"note": notes.get(run.id, "")} for run in runs]

    def _row(self, run: Run, confirmation: str | None) -> Json:
        # A confirmation is a run of its own, and changes what is said of the best function of this one.
        before, row = self._known.get(run.id, (None, {}))
        # The death of a driver changes nothing in the store.
        if before != (run.updated_at, confirmation) or run.status == "running":
            status = self._store.status(run.id)
            row = _row(status, self._store.activity(run.id), best_of_run(self._store, status))
            self._known[run.id] = (run.updated_at, confirmation), row | {"created": run.created_at.isoformat()}
        return self._known[run.id][1]


def _row(status: RunStatus, activity: RunActivity, best: Headline | None) -> Json:
    """Return what a list of runs has of a run. `wanted` is its budget with the baselines, which the budget does not
    count and `evaluations` does; None without a budget. `exhausted`: all candidates are used up. `score` is `best` with
    the sign changed where lower is better. `confirmed` says what a confirmed `best` is; else it is None, and `best` is
    the best training, or the best mean over `averaged` seeds of a run that trains with several."""
    run = status.run
    return {
        "run": run.name,
        "task": status.task.name,
        "kind": run.kind,
        "status": standing(run, activity),
        "evaluations": status.finished,
        "wanted": status.wanted,
        "diverged": status.diverged,
        "failed": status.by_status.get("failed", 0),
        "metric": best.metric_name if best else on_split(status.task.metric.name),
        "best": best.value if best else None,
        "score": best.score if best else None,
        "exhausted": status.exhausted,
        "confirmed": best.confirmed if best else None,
        "averaged": best.averaged if best else None,
        "best_function": _best_function(best) if best else None,
    }


def _best_function(best: Headline) -> str:
    name = with_change(readable(best.function), best.recipe_change)
    return marked(name, baseline=best.row.baseline, reference=False)
