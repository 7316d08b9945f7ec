"""The report's first screen: the verdict, the winner drawn next to the reference, and four numbers."""

from __future__ import annotations

import html
import shlex
from collections.abc import Callable, Iterable

import numpy as np

from aquasurf_ray.activations.rendering import short_name
from aquasurf_ray.activations.roles import parts_of
from aquasurf_ray.analysis.report.pictures.functions import drawn
from aquasurf_ray.analysis.studies.confirmation import PairedDifference
from aquasurf_ray.analysis.studies.confirmed_run import Confirmation
from aquasurf_ray.analysis.studies.findings import Findings
from aquasurf_ray.analysis.studies.run_origin import DRAWS, STUDY, has_task, knows_task
from aquasurf_ray.analysis.studies.verdict import difference_text, other_verdict, p_text
from aquasurf_ray.duration_text import duration_text
from aquasurf_ray.store import LeaderboardRow, RequestedEvaluation

WIDTH, HEIGHT = 240, 150  # of a curve, in the units of its picture
REACH = 4.0  # a curve is drawn from -4 to 4, and as high as that width allows
Numbers = tuple[str, str, str]  # what it is as HTML, the number, and a word on it


def front(findings: Findings) -> str:
    """Return the first screen as HTML."""
    leader, reference = findings.leader, findings.reference
    curves = ""
    if leader is not None:
        curves = _figures(leader.function, "the best function found")
        if reference is not None and reference.function != leader.function:
            curves += _figures(reference.function, "the reference")
    numbers = "".join(
        f"<div><dt>{name}</dt><dd><b>{_text(number)}</b> <span>{_text(word)}</span></dd></div>"
        for name, number, word in _numbers(findings, leader)
    )
    sentence = _with_title(_sentence(findings, leader, short_name), _sentence(findings, leader, str))
    run = findings.run
    if run.status == "failed" and run.message:
        failed = _text(f"The run failed: {run.message}.")
        sentence = failed if leader is None else f"{sentence}</p><p>{failed}"
    for other in findings.other_confirmations:
        sentence += f"</p><p>{_with_title(_line(other, short_name), _line(other, str))}"
    faces = f'<div class="faces">{curves}</div>' if curves else ""
    return f'<p class="verdict">{sentence}</p>{faces}<dl class="numbers">{numbers}</dl>'


def named(function: str) -> str:
    """Return a function's short name as HTML, with the whole name under the pointer."""
    return _with_title(short_name(function), function)


def _with_title(shown: str, whole: str) -> str:
    return _text(shown) if shown == whole else f'<span title="{_text(whole)}">{_text(shown)}</span>'


def _sentence(findings: Findings, leader: LeaderboardRow | None, name: Callable[[str], str]) -> str:
    said = findings.verdict(name)
    if said is not None:
        return str(said)
    if leader is None:
        return _nothing_yet(findings)
    baseline = next((row for row in findings.winners if row.baseline and not findings.is_reference(row.function)), None)
    if findings.reference is None:
        return f"{_no_reference(findings, name)}{_against(findings, leader, baseline, name)}"
    return _of_search(findings, leader, findings.reference, baseline, name)


def _nothing_yet(findings: Findings) -> str:
    """Return that no function which a run suggested or was given has a score."""
    yet = "" if findings.run.status == "finished" else " yet"
    if findings.winners:
        return f"No suggested function has a score{yet}."
    return f"No function has a score{yet}{': every training diverged' if findings.finished else ''}."


def _of_search(
    findings: Findings,
    leader: LeaderboardRow,
    reference: LeaderboardRow,
    baseline: LeaderboardRow | None,
    name: Callable[[str], str],
) -> str:
    """Return what single trainings say of the best function, the best baseline and the reference; what leads comes
    first, and confirming is for a function that no baseline beats."""
    best, over, by = name(leader.function), name(reference.function), _by(findings, leader, reference)
    ahead = baseline if baseline is not None and baseline.score > reference.score else None
    other = "" if ahead is None else f"{name(ahead.function)}, {_by(findings, ahead, reference)} better than {over}"
    also = f" The best baseline is {other}." if other else ""
    if leader.score <= reference.score:
        far = f"{by} worse" if leader.score < reference.score else "no better"
        return f"Nothing found so far beats {over}: the best, {best}, is {far}.{also}{_how_to_search_on(findings)}"
    if ahead is not None and ahead.score > leader.score:
        said = f"A baseline leads: {other}; the best function found, {best}, is {by} better. Neither is confirmed."
        return f"{said}{_how_to_search_on(findings)}"
    said = f"Not confirmed: {best} is {by} better than {over} {_where(findings)}, which may be luck."
    return f"{said}{also}{_how_to_confirm(findings)}"


def _no_reference(findings: Findings, name: Callable[[str], str]) -> str:
    """Return why gains over the reference are unknown; empty where it is not trained yet."""
    if findings.diverged_reference is None:
        return ""
    return f"{name(findings.diverged_reference)}, the reference, diverged, so no gain over it is known. "


def _against(
    findings: Findings, leader: LeaderboardRow, baseline: LeaderboardRow | None, name: Callable[[str], str]
) -> str:
    """Return how the best function compares with the best baseline, where the reference has no score."""
    best = name(leader.function)
    if baseline is None or baseline.score == leader.score:
        return f"The best function so far is {best}; nothing has confirmed it."
    by, other = _by(findings, leader, baseline), name(baseline.function)
    if baseline.score > leader.score:
        return (
            f"A baseline leads: {other}; the best function found, {best}, is {by} worse.{_how_to_search_on(findings)}"
        )
    said = f"Not confirmed: {best} is {by} better than the best baseline, {other}, {_where(findings)}"
    return f"{said}, which may be luck.{_how_to_confirm(findings)}"


def _by(findings: Findings, one: LeaderboardRow, other: LeaderboardRow) -> str:
    return difference_text(findings.task.metric, PairedDifference(abs(one.score - other.score), None))


def _where(findings: Findings) -> str:
    return "in the search" if findings.run.kind == "search" else "in this run"


def _how_to_search_on(findings: Findings) -> str:
    """Return what continues a search that has met its budget; empty for one that goes on, or has none."""
    run = findings.run
    if run.kind != "search" or run.status in ("new", "running"):
        return ""
    if STUDY in run.config or DRAWS in run.config or run.budget is None:
        return " Search longer in your own loop."
    more = 2 * run.budget
    if not knows_task(run.config):
        call = f"aquasurf_ray.driver.resume({run.name!r}, task=task, evaluations={more})"
        return f" Search longer in Python, with its task: {call}"
    return f" Search longer with: aquasurf resume {shlex.quote(run.name)} --evaluations {more}{findings.store_option}"


def _how_to_confirm(findings: Findings) -> str:
    """Return what confirms the winners of a search; empty where it is not known whether anything here does."""
    run = findings.run
    if run.kind != "search" or DRAWS in run.config:  # trials of Tune may be of another recipe than the task's
        return ""
    if not has_task(run.config):
        return " Confirm it in your own loop, with other seeds."
    if not knows_task(run.config):
        return f" Confirm it in Python, with its task: aquasurf_ray.driver.confirm({run.name!r}, task=task)"
    return f" Confirm it with: aquasurf confirm {shlex.quote(run.name)}{findings.store_option}"


def _line(other: Confirmation, name: Callable[[str], str]) -> str:
    line = other_verdict(other, name)
    return f"{line[0].upper()}{line[1:]}."


def _gain(findings: Findings, leader: LeaderboardRow) -> PairedDifference:
    """Return the tested gain over the reference, or that of the search, which has no interval."""
    if findings.judged:
        found = (each.against_reference for each in findings.judged if each.function == leader.function)
        return next(found, PairedDifference(None, None))
    reference = findings.reference
    return PairedDifference(None if reference is None else leader.score - reference.score, None)


def _numbers(findings: Findings, leader: LeaderboardRow | None) -> list[Numbers]:
    over = findings.reference.function if findings.reference else findings.diverged_reference
    cost, word = "-", "step time relative to ReLU, not measured"
    if leader is not None and leader.time_ratio is not None:
        cost, word = f"{leader.time_ratio:.2f} x", "step time relative to ReLU"
        word += f"; memory {leader.memory_ratio:.2f} x" if leader.memory_ratio is not None else ""
    return [
        (f"Gain over {named(over) if over else 'the reference'}", *_gain_words(findings, leader)),
        ("Cost", cost, word),
        *_effort(findings),
    ]


def _gain_words(findings: Findings, leader: LeaderboardRow | None) -> tuple[str, str]:
    """Return the gain and a word on it: its interval, or why there is none."""
    difference = PairedDifference(None, None) if leader is None else _gain(findings, leader)
    if difference.gain is None:
        return "-", "the reference diverged" if findings.diverged_reference else "no score yet"
    metric = findings.judged_metric
    gain, _, ends = difference_text(metric, difference, signed=True).partition(" [")
    word = f"95% interval [{ends}{p_text(difference, findings.judged)}" if ends else "no interval: not confirmed"
    if not metric.higher_is_better and difference.gain:
        # A gain is positive where better, and so has the other sign than the difference of the values.
        word += f"; {metric.name} is {'lower' if difference.gain > 0 else 'higher'} by that"
    return gain, word


def _effort(findings: Findings) -> list[Numbers]:
    """Return the trainings that the verdict rests on, those too that another run had trained, and their time."""
    own = {request.evaluation.id: request for request in findings.finished}
    later = [each for each in findings.confirming if each.evaluation.finished and each.evaluation.id not in own]
    trainings = [*own.values(), *later]
    split = f"{len(own)} in the run, {len(later)} to confirm" if later else "finished"
    reused = [request for request in trainings if request.reused]
    n_diverged = sum(request.evaluation.status == "diverged" for request in trainings)
    split += f"; {n_diverged} diverged" if n_diverged else ""
    split += f"; {len(reused)} reused from other runs" if reused else ""
    # Other runs may have been long ago, so with theirs there is no time from first to last.
    span = f"of training, {duration_text(_seconds(reused))} of it in other runs" if reused else _span(trainings)
    return [
        ("Trainings", str(len(trainings)), split),
        ("Time", duration_text(_seconds(trainings)), span),
    ]


def _seconds(requests: Iterable[RequestedEvaluation]) -> float:
    return sum(request.evaluation.seconds or 0.0 for request in requests)


def _span(requests: Iterable[RequestedEvaluation]) -> str:
    """Return what the time is, and how long it took on the wall clock."""
    times = [(each.evaluation.started_at, each.evaluation.finished_at) for each in requests]
    known = [(start, end) for start, end in times if start is not None and end is not None]
    if not known:
        return "of training"
    wall = (max(end for _, end in known) - min(start for start, _ in known)).total_seconds()
    return f"of training, {duration_text(wall)} from first to last"


def _figures(function: str, what: str) -> str:
    """Return a function's curve, or one for each of its roles."""
    parts = parts_of(function)
    return "".join(_figure(part, f"{what}, role {role}") for role, part in parts.items()) or _figure(function, what)


def _figure(function: str, what: str) -> str:
    """Return a function's curve with its name below; only the name, if it cannot be drawn here."""
    short = short_name(function)
    whole = "" if short == function else f"; <code>{_text(function)}</code>"
    name = f"<code>{_text(short)}</code> <span>{_text(what)}{whole}</span>"
    curves = drawn(function)
    if curves is None:
        return f"<figure><figcaption>{name}</figcaption></figure>"
    x, (values, _) = np.linspace(-5.0, 5.0, len(curves[0])), curves
    unit = WIDTH / (2 * REACH)
    points = [
        (WIDTH / 2 + unit * a, HEIGHT * 0.7 - unit * b) for a, b in zip(x, values, strict=True) if abs(a) <= REACH
    ]
    path, pen = "", "M"
    for right, down in points:
        # NaN is a gap; far above and below, the picture is cut anyway.
        if np.isfinite(down):
            path += f"{pen}{right:.1f},{np.clip(down, -HEIGHT, 2 * HEIGHT):.1f}"
        pen = "L" if np.isfinite(down) else "M"
    label = html.escape(f"{function}, {what}, drawn from {-REACH:g} to {REACH:g}")
    axes = f"M0,{HEIGHT * 0.7:.0f}H{WIDTH}M{WIDTH / 2:.0f},0V{HEIGHT}"
    return (
        f'<figure><svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{label}"><path class="axis" d="{axes}"/>'
        f'<path class="curve" d="{path}"/></svg><figcaption>{name}</figcaption></figure>'
    )


def _text(value: str) -> str:
    return html.escape(value)
