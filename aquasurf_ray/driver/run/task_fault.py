"""Ends a run in which no baseline trains: the task is then at fault, and not the functions.

Learning rate, data or loss make every function diverge in such a task. A search on it would spend its budget on
functions that all fail, and store each failure as the function's own. So the run fails, and what diverged in it is
queued again: it is trained once more at `resume`, when the task has been mended.
"""

from __future__ import annotations

from collections import Counter

from aquasurf_ray.driver.errors import TaskAtFault
from aquasurf_ray.driver.run.claims import Budget
from aquasurf_ray.driver.state.context import RunContext

BAD = frozenset({"diverged", "failed"})


def refuse_task_without_baseline(context: RunContext, budget: Budget) -> None:
    """End the run if every baseline has diverged or was given up, and no other function has a score.

    Raises:
        TaskAtFault: with the most frequent reason.
    """
    evaluations, n = context.history.evaluations, len(budget.baselines)
    # One function that trains shows that task, data and learning rate can work.
    if n == 0 or context.history.best() is not None:
        return
    # While a baseline is under way or queued, it may still train.
    if evaluations.n(status=BAD) - evaluations.n(status=BAD, but="baseline") < n:
        return
    bad = [each for each in evaluations.values() if each.status in BAD]
    records = [context.store.evaluation(each.evaluation_id) for each in bad if each.origin == "baseline"]
    reasons = Counter(record.reason or record.error or "no reason is known" for record in records)
    reason, count = reasons.most_common(1)[0]
    verbs = {status: sum(record.status == status for record in records) for status in ("diverged", "failed")}
    counted = " and ".join(f"{number} {status}" for status, number in verbs.items() if number)
    # `diverged` is final and the surrogate's evidence, so it must not stay in the store for a fault of the task.
    context.store.reopen_diverged(context.lease, [each.evaluation_id for each in bad])
    raise TaskAtFault(
        f"no baseline trains ({counted}; {count} of {n}: {reason}), so the fault is the task's and not the functions': "
        f"look at its learning rate and its data with 'aquasurf task check {context.config.task}'"
    )
