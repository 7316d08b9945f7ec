"""A search by the light driver on either database, and what must hold of it at the end."""

from __future__ import annotations

from collections import Counter

from store_reading import attempts_of

from aquasurf_ray.store import Store, StoreError

BASELINES = 8
BUDGET = 20
SEARCH = ("search", "digits", "--name", "one", "--candidates", "40", "--evaluations", str(BUDGET), "--workers", "2")


def n_results(url):
    """Results of the run so far; none before it is there."""
    try:
        with Store.open(url, create=False, migrate=False, patience=0.5) as store:
            by_status = store.status(store.run("one").id).by_status
    except StoreError:
        return 0
    return by_status.get("done", 0) + by_status.get("diverged", 0)


def results(url):
    """Every finished evaluation with what it measured and when."""
    with Store.open(url, create=False) as store:
        requests = [request for run in store.runs() for request in store.snapshot(run.id).evaluations]
    return {w.evaluation.id: (w.function, w.evaluation.score, w.evaluation.finished_at) for w in requests
            if w.evaluation.finished}  # fmt: skip


def assert_whole(url, budget=BUDGET, kept=None):
    """The run is finished: its budget met exactly, each function trained once, nothing open, nothing lost."""
    with Store.open(url, create=False) as store:
        run = store.run("one")
        requests = store.snapshot(run.id).evaluations
        outcomes = Counter(a.outcome for w in requests for a in attempts_of(store, w.evaluation.id))
        logged = Counter(e.evaluation_id for e in store.events(run.id) if e.kind in ("result", "diverged"))
    assert (run.status, run.lease_owner) == ("finished", None)
    assert Counter(w.evaluation.status for w in requests).keys() <= {"done", "diverged"}, "nothing is left open"
    assert len(requests) == budget + BASELINES
    assert len({w.evaluation.function_id for w in requests}) == len(requests)
    assert outcomes["done"] + outcomes["diverged"] == len(requests), "each was brought to its end exactly once"
    assert outcomes["superseded"] == outcomes[None] == 0
    assert set(logged.values()) == {1}
    assert (kept or {}).items() <= results(url).items(), "a finished result changed or is gone"
