"""A search of `digits` as a store has it, made by its own verbs: everything that a report can show, in small."""

from __future__ import annotations

import numpy as np

from aquasurf_ray.activations import BASELINES, SearchSpace, fingerprint, parse, unique_functions
from store import (
    CostRecord,
    EpochRecord,
    EvaluationResult,
    FunctionRow,
    Lease,
    Neighbor,
    NewRun,
    SpectrumRecord,
    Store,
    SuggestionRecord,
    this_process,
)
from surrogate.spectra import SpectrumFeature

NAME = "made"
CONFIG = {
    "task": "digits",
    "name": NAME,
    "space": "three-node",
    "evaluations": 12,
    "candidates": 16,
    "seed": 3,
    "surrogate": "metric",
    "regressor": "gp",
    "modules": [],
    "fisher": "sampled",
}
METRIC = {"objective": {"metric": "accuracy", "higher_is_better": True}}
DIVERGED = "vanishing-gradient: 0.00012 of relu's"
FAILED = "the worker died: out of memory"


def make_run(store: Store, *, n_candidates: int = 24, n_trained: int = 12, spec: dict | None = None) -> Lease:
    """Fills a run; scores are 0.9 and less in an order of the maker's own, and `functions[0]` is the best."""
    draw = np.random.default_rng(0)
    names = functions(n_candidates)
    task = store.add_task("digits", "1", f"digest {spec}", METRIC if spec is None else spec)
    rows = [FunctionRow(fingerprint(name), name, parse(name).n_operators) for name in names]
    ids = dict(zip(names, store.add_functions(rows), strict=True))
    new = NewRun(NAME, "search", task, CONFIG, "digest", 3, 12, None, "0.1.0")
    lease = store.acquire_lease(store.create_run(new, list(ids.values())).id, this_process())
    store.record_spectra(lease, [spectrum_of(number, draw) for number in ids.values()])
    suggested = [name for name in names if name not in BASELINES][:n_trained]
    for order, name in enumerate([*BASELINES, *suggested]):
        near = (Neighbor(ids["relu(x)"], 0.5, 0.7),)
        why = None if name in BASELINES else SuggestionRecord(0.8 - 0.01 * order, 1, near)
        origin = "baseline" if name in BASELINES else "suggestion"
        claim = store.claim(lease, ids[name], 0, origin=origin, suggestion=why)
        store.start(lease, claim.evaluation_id, f"worker-{order % 2 + 1}", None, ())
        finish(store, lease, claim.evaluation_id, order, draw)
        store.record_costs(lease, [CostRecord(ids[name], "cpu", 0.02 + 0.001 * order, 0.02, 300 + order, 300)])
    confirm(store, task, [ids[name] for name in suggested[:2]])
    return lease


def confirm(store: Store, task: int, function_ids: list[int]) -> None:
    """Trains functions with further seeds, in a run of its own."""
    new = NewRun("made-confirm", "confirm", task, {"confirms": NAME, "seeds": 2}, "confirm", 3, 4, None, "0.1.0")
    lease = store.acquire_lease(store.create_run(new, function_ids).id, this_process())
    for number in function_ids:
        for seed in (1, 2):
            claim = store.claim(lease, number, seed, origin="proposal")
            store.record_result(lease, claim.evaluation_id, done(0.8 + 0.01 * seed))


def functions(n: int) -> list[str]:
    """The baselines, and so many functions of a space that there are `n`."""
    table = unique_functions(SearchSpace.load("three-node" if n < 2_000 else "four-node"))
    known = {fingerprint(name) for name in BASELINES}
    drawn = [table.names[i] for i in table.sample(n, 0) if table.fingerprints[i] not in known]
    return [*BASELINES, *drawn[: n - len(BASELINES)]]


def spectrum_of(function_id: int, draw: np.random.Generator) -> SpectrumRecord:
    quantiles = np.sort(draw.normal(-4.0, 2.0, size=(2, 32)), axis=1)
    feature = SpectrumFeature(("conv", "dense"), (90, 330), quantiles)
    return SpectrumRecord(function_id, "sampled", 0, "done", feature.to_bytes())


def finish(store: Store, lease: Lease, evaluation_id: int, order: int, draw: np.random.Generator) -> None:
    if order == 10:
        store.record_result(lease, evaluation_id, EvaluationResult("diverged", reason=DIVERGED, seconds=0.1))
    elif order == 11:
        store.record_failure(lease, evaluation_id, FAILED, final=True)
    else:
        score = 0.9 if order == len(BASELINES) else float(draw.uniform(0.5, 0.85))
        store.record_result(lease, evaluation_id, done(score, f"worker-{order % 2 + 1}"))


def done(score: float, worker: str | None = None) -> EvaluationResult:
    epochs = tuple(EpochRecord(n, train_loss=1 / n, val_score=score * n / 4, seconds=0.5) for n in range(1, 5))
    return EvaluationResult(
        "done",
        score,
        val_accuracy=score,
        test_score=score - 0.02,
        test_accuracy=score - 0.02,
        seconds=2.0,
        device="cpu",
        n_devices=1,
        worker=worker,
        peak_memory_mb=500.0,
        epochs=epochs,
    )
