"""A driver that does nothing but write: spectra, costs, claims, starts, results. It says on standard output what it is
about to write, so that its killer knows what it interrupts.

python store_driver.py URL RUN N_FUNCTIONS
"""

from __future__ import annotations

import sys

from aquasurf_ray.store import (
    CostRecord,
    EpochRecord,
    EvaluationResult,
    FunctionRow,
    NewRun,
    SpectrumRecord,
    Store,
    this_process,
)

N_EPOCHS = 20
BATCH = 5
FEATURE = bytes(range(256)) * 80


def main(url, name, n):
    with Store.open(url) as store:
        task = store.add_task("digits", "1", "task-digest", {})
        functions = store.add_functions([FunctionRow(f"f{i}", f"f{i}(x)", 1) for i in range(n)])
        run = store.create_run(NewRun(name, "search", task, {}, "digest", 0, n, None, "0.1.0"), functions)
        lease = store.acquire_lease(run.id, this_process(), lease_seconds=60)
        for left in store.snapshot(run.id).evaluations:
            if left.evaluation.status == "queued":
                train(store, lease, store.claim(lease, left.evaluation.function_id, 0, left.origin))
        done = {item.evaluation.function_id for item in store.snapshot(run.id).evaluations}
        for start in range(0, n, BATCH):  # always the same batches, so that a half one could be told
            left = [function for function in functions[start : start + BATCH] if function not in done]
            if left:
                prepare(store, lease, functions[start : start + BATCH])
            for function in left:
                say("claim")
                claim = store.claim(lease, function, 0, "suggestion")
                assert claim.state == "claimed"
                train(store, lease, claim)
        store.release_lease(lease, "finished")


def say(what):
    print(what, flush=True)


def prepare(store, lease, functions):
    say("spectra")
    store.record_spectra(lease, [SpectrumRecord(f, "sampled", 0, "done", FEATURE) for f in functions])
    say("costs")
    store.record_costs(lease, [CostRecord("cpu", 0.1, 0.1, 10, 10, function_id=f) for f in functions])


def train(store, lease, claim):
    say("start")
    store.start(lease, claim.evaluation_id, "worker")
    epochs = tuple(EpochRecord(epoch, val_score=epoch / N_EPOCHS) for epoch in range(1, N_EPOCHS + 1))
    say("result")
    assert store.record_result(lease, claim.evaluation_id, EvaluationResult("done", score=0.5, epochs=epochs))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
