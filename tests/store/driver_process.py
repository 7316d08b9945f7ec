"""A driver as a process of its own, for tests that kill, race and cut off drivers. It trains nothing.

    python driver_process.py URL RUN N_FUNCTIONS [--hold SECONDS]

Takes the run's lease, claims every function in a random order, records a result with a learning curve for each, and
polls what other runs train. Prints `ready` when it holds the run, and at the end one line of JSON: the functions that
it trained itself. With --hold it only holds the run for a while. Exit status 3: the run is held by another driver.
"""

from __future__ import annotations

import json
import random
import sys
import time

from store import EpochRecord, EvaluationResult, FunctionRow, NewRun, RunHeld, Store, this_process

N_EPOCHS = 20
LEASE_SECONDS = 3.0


def main(url: str, name: str, n: str, *options: str) -> int:
    with Store.open(url) as store:
        task_id = store.add_task("digits", "1", "task-digest", {})
        rows = [FunctionRow(f"race{i}", f"race{i}(x)", 1) for i in range(int(n))]
        random.shuffle(rows)
        functions = store.add_functions(rows)
        run = store.create_run(NewRun(name, "search", task_id, {}, "digest", 0, int(n), None, "0.1.0"), functions)
        try:
            lease = store.acquire_lease(run.id, this_process(), lease_seconds=LEASE_SECONDS)
        except RunHeld:
            return 3
        print("ready", flush=True)
        if options:
            hold(store, lease, float(options[1]))
            return 0
        trained, taken = [], []
        while (claim := store.claim_queued(lease)) is not None:
            train(store, lease, claim, trained)
        for function in functions:
            claim = store.claim(lease, function, 0, "suggestion")
            if claim.state == "claimed":
                train(store, lease, claim, trained)
            elif claim.state == "taken":
                taken.append(claim.evaluation_id)
        while any(store.observe(lease, evaluation) is None for evaluation in taken):
            time.sleep(0.01)
        store.release_lease(lease, "finished")
        print(json.dumps(trained), flush=True)
    return 0


def train(store, lease, claim, trained):
    store.start(lease, claim.evaluation_id, "worker")
    epochs = tuple(EpochRecord(epoch, train_loss=float("nan")) for epoch in range(1, N_EPOCHS + 1))
    result = EvaluationResult("done", score=random.random(), epochs=epochs)
    if not store.record_result(lease, claim.evaluation_id, result):
        raise SystemExit("a result was there before ours")
    trained.append(claim.function_id)


def hold(store, lease, seconds):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        store.renew_lease(lease)
        time.sleep(LEASE_SECONDS / 10)
    store.release_lease(lease, "finished")


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
