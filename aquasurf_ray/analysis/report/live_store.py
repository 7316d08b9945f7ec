"""The runs of a store for the pages of `watch`, each with its state now and its report; the store may come later.

Pages ask every two seconds, several at a time: what takes long is done by one thread, and the others get its answer.
"""

from __future__ import annotations

import logging
import shlex
import threading
from collections.abc import Callable
from typing import Any

from aquasurf_ray.analysis.report.live import EventTail, RunList, run_now
from aquasurf_ray.analysis.studies.headline import finished_confirmations
from aquasurf_ray.store import Store, StoreError

Json = dict[str, Any]
Again = Callable[[Store, str], str]

logger = logging.getLogger(__name__)


class LiveRun:
    """A run: what happens in it now, and its report, built again when the run's log has grown since the last one, or
    the run was confirmed."""

    def __init__(self, store: Store, name: str, again: Again, store_option: str) -> None:
        self._store, self._name, self._again, self._store_option = store, name, again, store_option
        self._building, self._reading = threading.Lock(), threading.Lock()
        self._tail = EventTail(store, store.run(name))
        self._seq = -1
        self._confirmations: tuple[str, ...] = ()
        self._shown: Json = {}

    def now(self) -> Json:
        """Return the state of the run."""
        with self._reading:
            return run_now(self._store, self._store.run(self._name), self._tail, self._store_option)

    def document(self) -> Json:
        """Return `report_page.document` with its HTML, and a `version` that changes with it.

        Raises:
            StoreError: there is no document yet, and the database cannot be read.
        """
        # One thread at a time: the first of several requests builds the document, the others get it.
        with self._building:
            try:
                self._poll()
            except StoreError as error:
                if not self._shown:
                    raise
                logger.warning("the page keeps its last state: %s", error)
            return self._shown

    def _poll(self) -> None:
        # Loaded here, because they need PyTorch, and the page is there before it.
        from aquasurf_ray.analysis.report.report_page import body, document
        from aquasurf_ray.analysis.studies.findings import read_findings

        run = self._store.run(self._name)
        new = self._store.events(run.id, after=max(self._seq, 0))
        confirmations = finished_confirmations(self._store.runs(), run)  # runs with logs of their own
        if self._shown and not new and confirmations == self._confirmations:
            return
        quick = run.status in ("new", "running")
        findings = read_findings(
            self._store, self._name, self._again(self._store, self._name), self._store_option, quick=quick
        )
        # Read before the findings: a line that comes in between is found again by the next request.
        self._seq = new[-1].seq if new else self._seq
        self._confirmations = confirmations
        shown = document(findings)
        version = f"{self._seq}-{run.status}-{','.join(confirmations)}"
        self._shown = shown | {"version": version, "body": body(shown)}


class LiveStore:
    """The runs of a store, which may be created later.

    Args:
        name: the store's URL without a password.
        open_store: opens the store; called until it succeeds, whenever the store is needed.
        again: returns what repeats a run of the store, by the run's name.
        store_option: the option that makes a command use this store; empty for the default store.
    """

    def __init__(self, name: str, open_store: Callable[[], Store], again: Again, store_option: str = "") -> None:
        self._name, self._open, self._again, self._store_option = name, open_store, again, store_option
        self._lock, self._opening = threading.Lock(), threading.Lock()
        self._opened: Store | None = None
        self._runs: dict[str, LiveRun] = {}
        self._list: RunList | None = None
        self._failure = ""

    @property
    def _store(self) -> Store:
        """The open store.

        Raises:
            StoreError: it cannot be opened, or is not there yet.
        """
        with self._opening:
            if self._opened is None:
                self._opened = self._open()
            return self._opened

    def names(self) -> list[str]:
        """Return the names of all runs, the latest one first."""
        return [run.name for run in reversed(self._store.runs())]

    def close(self) -> None:
        """Close the store, if it was opened."""
        if self._opened is not None:
            self._opened.close()

    def note_failure(self, error: Exception) -> None:
        """Log why there is no answer yet, once: pages ask again every two seconds."""
        if str(error) != self._failure:
            self._failure = str(error)
            logger.warning("no answer yet: %s", error)

    def run(self, name: str) -> LiveRun:
        """Return a run.

        Raises:
            RunNotFound: there is no such run.
        """
        with self._lock:
            if name not in self._runs:
                self._runs[name] = LiveRun(self._store, name, self._again, self._store_option)
            return self._runs[name]

    def refuse_unknown(self, name: str) -> None:
        """Raise RunNotFound if there is no such run."""
        self._store.run(name)

    def without_script(self, name: str | None = None) -> str:
        """Return a sentence for a reader whose browser runs no scripts, on the list of runs or the page of one."""
        run = "" if name is None else f" {shlex.quote(name)}"
        shows = "lists the runs" if name is None else "shows the run"
        return f"This page needs JavaScript; without it, aquasurf status{run}{self._store_option} {shows}."

    def runs(self) -> Json:
        """Return the list of all runs."""
        with self._lock:
            self._list = self._list or RunList(self._store)
            return {"runs": self._list.read()}

    def add_note(self, name: str, text: str) -> None:
        """Add a note of the page's reader to a run."""
        self._store.add_note(self._store.run(name).id, text)

    def __str__(self) -> str:
        return self._name
