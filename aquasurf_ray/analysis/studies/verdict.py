"""The verdict on a confirmation or a transfer, in one sentence: does a function beat the reference, by how much, and
how sure is that?

A function beats another one if its mean on the split that judges is higher and the paired test is significant after
Holm's correction for the number of winners. If several winners beat the reference, the sentence names the best of them.
Intervals are of single gains, so a p-value next to one says for how many comparisons it was corrected. A baseline that
is better than the reference is named too, since a function that is worse than the reference says less than that.
Functions have the names that tables have for them, so that a reader finds them there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from aquasurf_ray.activations.rendering import readable
from aquasurf_ray.analysis.studies.confirmation import PairedDifference, with_holm
from aquasurf_ray.analysis.studies.confirmed_run import Confirmation, ConfirmedFunction
from aquasurf_ray.analysis.studies.headline import confirmation_of
from aquasurf_ray.analysis.studies.run_origin import TRANSFERRED
from aquasurf_ray.analysis.studies.transferred_run import Transfer, read_transfer
from aquasurf_ray.counted import counted
from aquasurf_ray.recipe_change import LEARNING_RATE
from aquasurf_ray.store import Run, Store, TaskMetric


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


class Judged(Protocol):
    """What a verdict needs of a function: its gain over the reference, whose p-value is corrected unless it is a
    baseline's."""

    @property
    def function(self) -> str: ...
    @property
    def baseline(self) -> bool: ...
    @property
    def against_reference(self) -> PairedDifference: ...


def verdict(found: Confirmation, name: Callable[[str], str] = readable) -> Verdict:
    """Return the verdict on a confirmation; `name` returns what the sentence calls a function."""
    reference = name(found.reference)
    if found.over is None:
        return Verdict(
            f"no verdict: the reference, {reference}, is not among the functions of run '{found.name}'", None
        )
    winners = [each for each in found.functions if not each.baseline and found.judged(each).mean is not None]
    better = next((each for each in winners if each.against_reference.is_better), None)
    if better is not None:
        by = difference_text(found.metric, better.against_reference)
        beats = f"{name(better.function)} beats {reference} by {by}{_over_best(found, better, name)}"
        return Verdict(f"{beats} {_conditions(found)}", better.function)
    baseline = _best_baseline(found.metric, found.functions, found.reference, found.best_baseline, name)
    said = _nothing_beats(found.metric, winners, reference, baseline, len(found.seeds), name)
    return Verdict(f"{said}, {_conditions(found)}", None)


def transfer_verdict(found: Transfer, name: Callable[[str], str] = readable) -> Verdict:
    """Return the verdict on a transfer: does a function beat the other task's reference?"""
    reference, on = name(found.reference), f"on {found.task}, {counted(len(found.seeds), 'seed')}, validation split"
    if all(each.function != found.reference for each in found.functions):
        return Verdict(f"no verdict: the reference, {reference}, was not trained {on}", None)
    known = [each for each in found.functions if each.mean.mean is not None]  # best mean first
    winners = [each for each in known if not each.baseline]
    best = next((each.function for each in known if each.baseline), None)
    baseline = _best_baseline(found.metric, found.functions, found.reference, best, name)
    better = next((each for each in winners if each.against_reference.is_better), None)
    if better is not None:
        by, also = difference_text(found.metric, better.against_reference), f"; {baseline.gains}" if baseline else ""
        return Verdict(f"{name(better.function)} beats {reference} by {by}{also}, {on}", better.function)
    said = _nothing_beats(found.metric, winners, reference, baseline, len(found.seeds), name)
    return Verdict(f"{said}, {on}", None)


def verdict_of(store: Store, run: Run) -> Verdict | None:
    """Return the verdict on a run that was confirmed, or is a confirmation or a transfer, as its command and its report
    have it; None for another run, which tested nothing."""
    confirmation, source = confirmation_of(store, run, own=True), run.config.get(TRANSFERRED)
    if confirmation is not None or source is None:
        return verdict_on(confirmation, None)
    return verdict_on(None, read_transfer(store, source, run.name))


def verdict_on(
    confirmation: Confirmation | None, transfer: Transfer | None, name: Callable[[str], str] = readable
) -> Verdict | None:
    """Return the verdict on the confirmation of a run, or else on the transfer that it is; None for neither."""
    if confirmation is not None:
        return verdict(confirmation, name)
    return None if transfer is None else transfer_verdict(transfer, name)


def p_text(difference: PairedDifference, functions: Iterable[Judged]) -> str:
    """Return a corrected p-value and for how many of these functions it was corrected, to stand after an interval,
    which is not; empty without one.

    >>> p_text(PairedDifference(0.1, 0.03, 0.03), [])
    ', p = 0.03'
    """
    n = sum(not each.baseline and each.against_reference.p_value is not None for each in functions)
    return _corrected_p(difference, n)


def _corrected_p(difference: PairedDifference, n: int) -> str:
    if difference.p_holm is None:
        return ""
    return f", p = {difference.p_holm:.2g}" + (f", corrected for {n} comparisons" if n > 1 else "")


def other_verdict(found: Confirmation, name: Callable[[str], str] = readable) -> str:
    """Return the line on a confirmation that is not the one that is said of its run."""
    return f"another confirmation, run '{found.name}': {verdict(found, name).sentence}"


class _Baseline(NamedTuple):
    """What is said of the best baseline, where it is better than the reference; `beats` only if it beats that."""

    gains: str
    beats: str | None


def _best_baseline(
    metric: TaskMetric, functions: Sequence[Judged], reference: str, best: str | None, name: Callable[[str], str]
) -> _Baseline | None:
    """Return what is said of the best baseline; None if none is better than the reference.

    The baselines are tested as a family of their own, corrected for their number: they are no candidates for a
    discovery, but a user whose reference is a poor one should know.
    """
    others = [each for each in functions if each.baseline and each.function != reference]
    corrected = with_holm([each.against_reference for each in others])
    tested = {each.function: difference for each, difference in zip(others, corrected, strict=True)}
    difference = tested.get(best) if best is not None else None
    if best is None or difference is None or difference.gain is None or difference.gain <= 0:
        return None
    n = sum(each.p_value is not None for each in tested.values())
    by = difference_text(metric, difference, signed=True)
    gains = f"the best baseline, {name(best)}, gains {by}{_corrected_p(difference, n)}"
    beats = f"the baseline {name(best)} does, by {difference_text(metric, difference)}"
    return _Baseline(gains, beats if difference.is_better else None)


def _nothing_beats(
    metric: TaskMetric,
    winners: Sequence[Judged],
    reference: str,
    baseline: _Baseline | None,
    n_seeds: int,
    name: Callable[[str], str],
) -> str:
    """Return that no winner beats the reference, with the best of them, and whether a baseline does."""
    tested = [each for each in winners if each.against_reference.gain is not None]
    does = f", but {baseline.beats}" if baseline and baseline.beats else ""
    also = f"; {baseline.gains}" if baseline and not baseline.beats else ""
    if not tested:
        why = "one seed has no interval" if n_seeds == 1 else f"too few trainings of it and {reference} succeed"
        return f"no verdict on whether a function beats {reference}{does}: {why}{also}"
    best = tested[0]
    by = difference_text(metric, best.against_reference, signed=True)
    gains = f"the best, {name(best.function)}, gains {by}{p_text(best.against_reference, winners)}"
    return f"no function beats {reference}{does}: {gains}{also}"


def difference_text(metric: TaskMetric, difference: PairedDifference, *, signed: bool = False) -> str:
    """Return a gain with its interval, in percentage points for accuracies that are known to be fractions.

    >>> from aquasurf_ray.store import ACCURACY
    >>> difference_text(ACCURACY, PairedDifference(0.012, 0.01, low=0.008, high=0.016))
    '1.2 points [0.8, 1.6]'
    """
    assert difference.gain is not None  # noqa: S101 - the callers have tested it
    is_share = metric.name == "accuracy" and metric.range == (0.0, 1.0)
    factor, form = (100.0, ".1f") if is_share else (1.0, ".4g")

    def text(value: float, sign: str = "") -> str:
        return f"{factor * value:{sign}z{form}}"

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
    return f", but not the best baseline, {name(best)} ({by}{p_text(difference, found.functions)}),"


def _conditions(found: Confirmation) -> str:
    """Return under which conditions the sentence holds: `at each one's best rate, 5 seeds`."""
    split = "" if found.judge == "test" else ", on the validation split"
    field = found.tuning.field
    if found.is_tuned:
        at = f"at each one's best {'rate' if field == LEARNING_RATE else field}"
    else:
        at = "at the task's own rate" if field is None else f"with {found.tuning.changes[0]}"
    return f"{at}, {counted(len(found.seeds), 'seed')}{split}"
