"""The verdict on a confirmation, in one sentence: does a function beat the reference, by how much, and how sure is
that?

A function beats another one if its mean on the split that judges is higher and the paired test is significant after
Holm's correction for the number of winners. If several winners beat the reference, the sentence names the best of them.
Functions have the names that tables have for them, so that a reader finds them there.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from aquasurf_ray.activations.rendering import readable
from aquasurf_ray.analysis.studies.confirmation import PairedDifference
from aquasurf_ray.analysis.studies.confirmed_run import Confirmation, ConfirmedFunction
from aquasurf_ray.counted import counted
from aquasurf_ray.recipe_change import LEARNING_RATE
from aquasurf_ray.store import TaskMetric


@dataclass(frozen=True)
class Verdict:
    """The sentence, and the function that beats the reference; None if none does."""

    sentence: str
    function: str | None

    def __str__(self) -> str:
        """Return the sentence with its full stop, and a capital unless it begins with a function's name.

        >>> str(Verdict("no function beats relu(x)", None)), str(Verdict("erf(x) beats relu(x)", "erf(x)"))
        ('No function beats relu(x).', 'erf(x) beats relu(x).')
        """
        sentence = self.sentence
        return f"{sentence[0].upper()}{sentence[1:]}." if sentence.startswith("no ") else f"{sentence}."


def verdict(found: Confirmation, name: Callable[[str], str] = readable) -> Verdict:
    """Return the verdict on a confirmation; `name` returns what the sentence calls a function."""
    winners = [each for each in found.functions if not each.baseline and found.judged(each).mean is not None]
    reference, conditions = name(found.reference), _conditions(found)
    if found.over is None:
        return Verdict(
            f"no verdict: the reference, {reference}, is not among the functions of run '{found.name}'", None
        )
    better = next((each for each in winners if each.against_reference.is_better), None)
    if better is not None:
        by = difference_text(found.metric, better.against_reference)
        return Verdict(
            f"{name(better.function)} beats {reference} by {by}{_over_best(found, better, name)} {conditions}",
            better.function,
        )
    tested = [each for each in winners if each.against_reference.gain is not None]
    if not tested:
        why = (
            "one seed has no interval" if len(found.seeds) == 1 else f"too few trainings of it and {reference} succeed"
        )
        return Verdict(f"no verdict on whether a function beats {reference}: {why}, {conditions}", None)
    best = tested[0]
    by = difference_text(found.metric, best.against_reference, signed=True)
    p = best.against_reference.p_holm
    sure = "" if p is None else f", p = {p:.2g}"
    gains = f"the best, {name(best.function)}, gains {by}{sure}"
    return Verdict(f"no function beats {reference}: {gains}, {conditions}", None)


def difference_text(metric: TaskMetric, difference: PairedDifference, *, signed: bool = False) -> str:
    """Return a gain with its interval, accuracies in percentage points.

    >>> difference_text(TaskMetric(), PairedDifference(0.012, 0.01, low=0.008, high=0.016))
    '1.2 points [0.8, 1.6]'
    """
    assert difference.gain is not None  # noqa: S101 - the callers have tested it
    is_share = metric.name == "accuracy" and metric.range == (0.0, 1.0)
    factor, form = (100.0, ".1f") if is_share else (1.0, ".4g")

    def text(value: float, sign: str = "") -> str:
        return f"{factor * value:{sign}{form}}"

    unit = " points" if is_share else f" {metric.name}"
    interval = ""
    if difference.low is not None and difference.high is not None:
        # Student's t does not know by how much two values of the metric can differ.
        low, high = metric.gain_interval(difference.gain, difference.low, difference.high)
        interval = f" [{text(low)}, {text(high)}]"
    return f"{text(difference.gain, '+' if signed else '')}{unit}{interval}"


def at_the_edge(found: Confirmation) -> list[str]:
    """Return a sentence if the best winner or the reference was best at the smallest or the largest rate tried: a rate
    beyond it may be better still, and the verdict another one."""
    values = [value for change in found.tuning.changes if (value := found.tuning.value(change)) is not None]
    if not found.is_tuned or not values:
        return []
    winner = next((each for each in found.functions if not each.baseline), None)
    at = {each.function: each.rate for each in (found.over, winner) if each is not None}
    ends = [f"{readable(name)} is best at {rate:g}" for name, rate in at.items() if rate in (min(values), max(values))]
    wider = "--learning-rates" if found.tuning.field == LEARNING_RATE else "--tune"
    return [f"At the edge of what was tried: {' and '.join(ends)}; try more with {wider}."] if ends else []


def _over_best(found: Confirmation, function: ConfirmedFunction, name: Callable[[str], str]) -> str:
    """Return what the sentence says about the best baseline, if that is not the reference."""
    best, difference = found.best_baseline, function.against_best_baseline
    if best is None or best == found.reference or difference.gain is None:
        return ""
    by = difference_text(found.metric, difference, signed=not difference.is_better)
    if difference.is_better:
        return f", and the best baseline, {name(best)}, by {by},"
    return f", but not the best baseline, {name(best)} ({by}),"


def _conditions(found: Confirmation) -> str:
    """Return under which conditions the sentence holds: `at each one's best rate, 5 seeds`."""
    split = "" if found.judge == "test" else ", on the validation split"
    field = found.tuning.field
    if found.is_tuned:
        at = f"at each one's best {'rate' if field == LEARNING_RATE else field}"
    else:
        at = "at the task's own rate" if field is None else f"with {found.tuning.changes[0]}"
    return f"{at}, {counted(len(found.seeds), 'seed')}{split}"
