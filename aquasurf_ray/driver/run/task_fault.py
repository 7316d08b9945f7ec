"""Ends a run in which no baseline trains: the task is then at fault, and not the functions.

Learning rate, data or loss make every function diverge in such a task, a metric that is NaN for finite outputs leaves
every function without a score, and an error in its code makes every training fail. A run on it would spend its budget
on functions that all fail, and store each failure as the function's own. So the run fails, and what diverged in it is
queued again: it is trained once more at `resume`, when the task has been mended. A failure on a worker may be the
machine's, too, so the message names both.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from aquasurf_ray.driver.errors import TaskAtFault
from aquasurf_ray.driver.run.claims import Budget
from aquasurf_ray.driver.state.context import RunContext
from aquasurf_ray.driver.state.evaluations import EvaluationState
from aquasurf_ray.training_metrics import is_metric_reason

BAD = frozenset({"diverged", "failed"})


def refuse_task_without_baseline(context: RunContext, budget: Budget) -> None:
    """End the run if every baseline has diverged or was given up, and no other function has a score.

    Raises:
        TaskAtFault: with the most frequent reason.
    """
    # One function that trains shows that task, data and learning rate can work.
    if not budget.baselines or context.history.best() is not None:
        return
    # A build has many evaluations, which are not to be read at each step of the loop.
    if context.history.evaluations.n(status=BAD) < len(budget.baselines):
        return
    found = _of_baselines(context, budget)
    # While a baseline is under way or queued, it may still train.
    if len(found) == len(budget.baselines) and all(each.status in BAD for each in found):
        _blame_task(context, budget, found)


def refuse_failing_baselines(context: RunContext, budget: Budget) -> None:
    """End a run whose workers fail on one function after the other, if some are baselines and none has ever trained.

    Raises:
        TaskAtFault: with the most frequent reason.
    """
    bad = [each for each in _of_baselines(context, budget) if each.status in BAD]
    if bad and context.history.best() is None:
        _blame_task(context, budget, bad)


def _of_baselines(context: RunContext, budget: Budget) -> list[EvaluationState]:
    """Return the first evaluation of each baseline that has one: with the first of several seeds, so that a build,
    which trains all else before the second one, need not wait for that."""
    ids, known = {function.id for function in budget.baselines}, context.history.evaluations.values()
    first: dict[int, EvaluationState] = {}
    for each in known:
        if each.function_id in ids:
            first.setdefault(each.function_id, each)
    return list(first.values())


def _blame_task(context: RunContext, budget: Budget, bad: Sequence[EvaluationState]) -> None:
    """Raise TaskAtFault for these evaluations of baselines, which have diverged or failed."""
    records = [context.store.evaluation(each.evaluation_id) for each in bad]
    reasons = Counter(record.reason or record.error or "no reason is known" for record in records)
    reason, count = reasons.most_common(1)[0]
    verbs = {status: sum(record.status == status for record in records) for status in ("diverged", "failed")}
    counted = " and ".join(f"{number} {status}" for status, number in verbs.items() if number)
    n_left = len(budget.baselines) - len(bad)
    left = f", {n_left} without a result" if n_left else ""
    is_of_metric = all(is_metric_reason(record.reason) for record in records)
    whose, remedy = _whose(f"'aquasurf task check {context.config.task}'", bool(verbs["failed"]), is_of_metric)
    lacks = "gets a score" if is_of_metric else "trains"
    again = "; what diverged is queued again" if verbs["diverged"] else ""
    # `diverged` is final and the surrogate's evidence, so it must not stay in the store for a fault of the task.
    known = context.history.evaluations.values()
    context.store.reopen_diverged(context.lease, [each.evaluation_id for each in known if each.status in BAD])
    raise TaskAtFault(
        f"no baseline {lacks} ({counted}{left}; {count} of {len(records)}: {reason}), "
        f"so the fault is the {whose} and not the functions': {remedy}{again}"
    )


def _whose(check: str, has_failed: bool, is_of_metric: bool) -> tuple[str, str]:
    """Return whose fault it is, and what to look at."""
    if is_of_metric:
        return "metric's", f"look at its update() and compute(), also with {check}"
    if has_failed:
        return "task's or the machines'", f"look at the task with {check}, at a machine with 'aquasurf doctor'"
    return "task's", f"look at its learning rate and its data with {check}"
