"""The sentence on a confirmation in each of its cases, with differences and intervals from SciPy."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from aquasurf_ray.analysis.studies.confirmation import (
    PairedDifference,
    Shrinkage,
    paired_difference,
    seed_mean,
    with_holm,
)
from aquasurf_ray.analysis.studies.confirmed_run import Confirmation, ConfirmedFunction
from aquasurf_ray.analysis.studies.ranking import confirmed_front, one_each, ranked
from aquasurf_ray.analysis.studies.recipe_choice import Tuning
from aquasurf_ray.analysis.studies.verdict import at_the_edge, difference_text, verdict
from aquasurf_ray.store import ACCURACY, LeaderboardRow, TaskMetric

RATES = Tuning(("learning_rate*0.5", "", "learning_rate*2"), range(6, 8))
NONE = PairedDifference(None, None)
NOISE = np.array([0.0, 0.002, -0.002, 0.001, -0.001])
WOBBLE = np.array([0.001, -0.001, 0.002, 0.0, -0.002])


def confirmation(winners, baselines, *, tuning=RATES, metric=None, judge="test", reference="relu(x)"):
    """The confirmation of functions with these scores by seed, as `read_confirmation` makes it."""
    rows = {**winners, **baselines}
    means = {name: np.mean(baselines[name]) for name in baselines}
    best = max(means, key=means.get)

    def compared(to):
        found = {name: paired_difference(scores, rows[to]) for name, scores in rows.items()}
        return found | dict(zip(winners, with_holm([found[name] for name in winners]), strict=True))

    over, over_best, over_relu = compared(reference), compared(best), compared("relu(x)")
    functions = [
        ConfirmedFunction(
            function=name,
            baseline=name in baselines,
            selected=0.9,
            confirmed=seed_mean(scores + 0.1),
            test=seed_mean(scores),
            against_reference=over[name],
            against_best_baseline=over_best[name],
            against_relu=over_relu[name],
            shrinkage=Shrinkage(None, None),
            recipe_change=tuning.changes[-1],
            rate=tuning.value(tuning.changes[-1]),
        )
        for name, scores in rows.items()
    ]
    functions.sort(key=lambda each: (each.baseline, -(each.test.mean or -1)))
    seeds = tuple(range(1, len(next(iter(rows.values()))) + 1))
    return Confirmation("c", "one", seeds, metric or ACCURACY, tuple(functions), judge, reference, best, tuning)


def test_a_function_that_beats_relu_is_named_with_its_gain_and_interval():
    winner, relu = 0.812 + WOBBLE, 0.8 + NOISE
    found = confirmation({"mul(sigmoid(x),elu(x))": winner}, {"relu(x)": relu})
    test = stats.ttest_rel(winner, relu)
    low, high = test.confidence_interval(0.95)
    assert test.pvalue < 0.05
    assert verdict(found).function == "mul(sigmoid(x),elu(x))"
    assert verdict(found).sentence == (
        f"mul(sigmoid(x),elu(x)) beats relu(x) by {100 * np.mean(winner - relu):.1f} points "
        f"[{100 * low:.1f}, {100 * high:.1f}] at each one's best rate, 5 seeds"
    )


def test_the_best_baseline_is_named_where_it_is_not_the_reference():
    scores = {"erf(tanh(x))": 0.85 + WOBBLE}
    beaten = confirmation(scores, {"relu(x)": 0.8 + NOISE, "swish(x)": 0.82 - NOISE})
    assert "beats relu(x) by 5.0 points" in verdict(beaten).sentence
    assert ", and the best baseline, swish(x), by 3.0 points" in verdict(beaten).sentence
    equal = confirmation(scores, {"relu(x)": 0.8 + NOISE, "swish(x)": 0.85 + NOISE})
    assert ", but not the best baseline, swish(x) (+0.0 points [" in verdict(equal).sentence


def test_that_nothing_beats_the_reference_is_said_with_the_best_and_its_p():
    worse = confirmation({"erf(tanh(x))": 0.79 + WOBBLE, "cos(x)": 0.7 + WOBBLE}, {"relu(x)": 0.8 + NOISE})
    assert verdict(worse).function is None
    assert verdict(worse).sentence.startswith("no function beats relu(x): the best, erf(tanh(x)), gains -1.0 points [")
    # Of forty functions, the best p-value counts forty times.
    lucky = {f"mul(x,{i}.5)": 0.80265 + NOISE + WOBBLE for i in range(40)}
    many = confirmation(lucky, {"relu(x)": 0.8 + NOISE})
    best = many.functions[0]
    assert best.against_reference.p_value < 0.05
    assert best.against_reference.p_holm == pytest.approx(40 * best.against_reference.p_value)
    assert f"], p = {best.against_reference.p_holm:.2g}, corrected for 40 comparisons, at " in verdict(many).sentence
    alone = {"erf(x)": 0.8005 + WOBBLE, "cos(x)": np.array([0.5, np.nan, 0.5, 0.5, 0.5])}
    assert "comparisons" not in verdict(confirmation(alone, {"relu(x)": 0.8 + NOISE})).sentence, "one has no p-value"


def test_a_baseline_that_is_better_than_the_reference_is_named_where_no_function_is():
    """Gains of 1.2 points would sound good, if nobody said that plain tanh gains more than that."""
    found = {"erf(x)": 0.81 + 5 * WOBBLE}
    wide = confirmation(found, {"relu(x)": 0.8 + NOISE, "tanh(x)": 0.82 + 15 * WOBBLE, "elu(x)": 0.75 + WOBBLE})
    assert not verdict(wide).function
    p = stats.ttest_rel(0.82 + 15 * WOBBLE, 0.8 + NOISE).pvalue  # the larger of two, which Holm multiplies by one
    assert p > 0.05
    assert "no function beats relu(x): the best, erf(x), gains +1.0 points [" in verdict(wide).sentence
    assert "; the best baseline, tanh(x), gains +2.0 points [" in verdict(wide).sentence
    assert f"], p = {p:.2g}, corrected for 2 comparisons, at each one's best rate" in verdict(wide).sentence
    sure = confirmation(found, {"relu(x)": 0.8 + NOISE, "tanh(x)": 0.82 - NOISE})
    assert verdict(sure).function is None
    assert verdict(sure).sentence.startswith(
        "no function beats relu(x), but the baseline tanh(x) does, by 2.0 points ["
    )
    assert "best baseline" not in verdict(sure).sentence, "said once"
    poorer = confirmation(found, {"relu(x)": 0.8 + NOISE, "tanh(x)": 0.79 + NOISE})
    assert "tanh(x)" not in verdict(poorer).sentence
    lost = confirmation({"erf(x)": np.full(5, np.nan)}, {"relu(x)": 0.8 + NOISE, "tanh(x)": 0.82 - NOISE})
    assert verdict(lost).sentence.startswith(
        "no verdict on whether a function beats relu(x), but the baseline tanh(x) "
    )


def test_one_seed_gives_no_verdict():
    found = confirmation({"erf(tanh(x))": np.array([0.9])}, {"relu(x)": np.array([0.8])})
    assert verdict(found).sentence.startswith(
        "no verdict on whether a function beats relu(x): one seed has no interval"
    )


def test_conditions_are_part_of_the_sentence():
    scores = {"erf(tanh(x))": 0.85 + WOBBLE}, {"relu(x)": 0.8 + NOISE}
    assert verdict(confirmation(*scores, tuning=Tuning(("",), range(6, 6)))).sentence.endswith(
        "at the task's own rate, 5 seeds"
    )
    decay = Tuning(("weight_decay=0", ""), range(6, 8))
    said = verdict(confirmation(*scores, tuning=decay, judge="validation")).sentence
    assert said.endswith("at each one's best weight_decay, 5 seeds, on the validation split")


def test_a_difference_of_accuracies_stays_within_one_and_others_keep_their_unit():
    wide = PairedDifference(0.5, 0.5, low=-3.0, high=4.0)
    assert difference_text(ACCURACY, wide) == "50.0 points [-100.0, 100.0]"
    assert difference_text(TaskMetric("rmse", False), wide, signed=True) == "+0.5 rmse [-3, 4]"


def test_every_function_has_the_name_that_tables_have_for_it():
    """That of the zoo, which commands take too."""
    leaky = "add(relu(x),mul(0.01,min(x,0)))"
    baselines = {"relu(x)": 0.7 + NOISE, leaky: 0.8 + NOISE, "mul(x,sigmoid(mul(1.702,x)))": 0.82 - NOISE}
    found = confirmation({"erf(x)": 0.85 + WOBBLE}, baselines, reference=leaky)
    said = verdict(found).sentence
    assert said.startswith("erf(x) beats leaky_relu(x) by 5.0 points")
    assert ", and the best baseline, quick_gelu(x), by 3.0 points" in said
    assert "leaky_relu(x) is best at 2 and erf(x) is best at 2;" in at_the_edge(found)[0]


def test_a_rate_at_the_edge_is_said():
    found = confirmation({"erf(tanh(x))": 0.85 + WOBBLE}, {"relu(x)": 0.8 + NOISE})
    (said,) = at_the_edge(found)
    assert said == (
        "At the edge of what was tried: relu(x) is best at 2 and erf(tanh(x)) is best at 2; "
        "try more with --learning-rates."
    )
    inside = tuple(replace(each, rate=1.0) for each in found.functions)
    assert at_the_edge(replace(found, functions=inside)) == []


def row(function, rank, score, time_ratio=1.0, baseline=False):
    return LeaderboardRow(
        rank=rank, function_id=rank, function=function, baseline=baseline, score=score, seed=0, seconds=1.0,
        device="cpu", precision="float32", time_ratio=time_ratio, memory_ratio=None, reused=False, evaluation_id=rank,
    )  # fmt: skip


@pytest.fixture
def board():
    names = [("lucky(x)", 0.9, 1.0), ("cos(x)", 0.88, 1.5), ("erf(x)", 0.87, 2.0), ("sin(x)", 0.86, 0.9)]
    rows = [row(name, rank, score, ratio) for rank, (name, score, ratio) in enumerate(names, start=1)]
    return [*rows, row("relu(x)", 5, 0.85, 1.0, baseline=True), row("tanh(x)", 6, 0.3, 1.0, baseline=True)]


def test_functions_are_ranked_by_what_they_keep(board):
    winners = {"lucky(x)": 0.7 + NOISE, "cos(x)": 0.84 + NOISE}
    found = confirmation(winners, {"relu(x)": 0.8 + NOISE, "tanh(x)": 0.2 + NOISE})
    names = [each.function for each in ranked(board, found)]
    assert names == ["cos(x)", "relu(x)", "lucky(x)", "tanh(x)", "erf(x)", "sin(x)"], "unconfirmed scores come last"
    assert [each.rank for each in ranked(board, found)] == [1, 2, 3, 4, 5, 6]
    assert ranked(board, None) == board
    # On the front, confirmed means count: relu is cheaper than cos, and lucky no better than relu.
    assert [each.function for each in confirmed_front(board, found)] == ["cos(x)", "relu(x)"]
    assert [each.function for each in confirmed_front(board, None)] == ["lucky(x)", "sin(x)"]


def test_each_function_counts_once_by_its_best_whole_training_in_the_order_given(board):
    stopped = replace(row("lucky(x)", 1, 0.95), stopped_early="median at epoch 2")
    further = [replace(board[2], rank=7, evaluation_id=7, seed=1, score=0.2), replace(stopped, rank=8, function_id=9)]
    assert one_each([stopped, *board, *further]) == board
    found = confirmation({"lucky(x)": 0.7 + NOISE, "cos(x)": 0.84 + NOISE}, {"relu(x)": 0.6 + NOISE})
    kept = [each.function for each in one_each(ranked([*board, *further], found)) if not each.baseline]
    assert kept == ["cos(x)", "lucky(x)", "erf(x)", "sin(x)"]


ERROR_RATE = TaskMetric("error_rate", higher_is_better=False, low=0.0, high=1.0)


@pytest.mark.parametrize("metric", [ERROR_RATE, TaskMetric("f1", low=0.0, high=1.0), ACCURACY])
def test_two_values_of_a_metric_differ_by_no_more_than_its_range(metric):
    wide = PairedDifference(0.45, 0.4, 0.4, low=-2.5, high=3.4)
    unit = " points" if metric.name == "accuracy" else f" {metric.name}"
    factor = 100 if metric.name == "accuracy" else 1
    ends = f"[{-factor:.1f}, {factor:.1f}]" if factor == 100 else "[-1, 1]"
    assert difference_text(metric, wide) == f"{factor * 0.45:.4g}{'.0' if factor == 100 else ''}{unit} {ends}"


def test_the_range_of_a_task_comes_with_its_spec_and_never_from_the_name_of_its_metric():
    spec = {"objective": {"metric": "error_rate", "higher_is_better": False, "low": 0.0, "high": 1.0}}
    assert TaskMetric.of_spec(spec) == ERROR_RATE
    assert ERROR_RATE.interval(-0.02, -0.05, 0.01) == (0.0, 0.05)
    assert TaskMetric("acc").interval(0.99, 0.97, 1.01) == (0.97, 1.01), "nothing says what is possible"
    assert TaskMetric("f1", high=1.0).interval(0.99, 0.97, 1.01) == (0.97, 1.0)
    percent = TaskMetric("accuracy", low=0.0, high=100.0)
    assert percent.interval(99.5, 98.0, 101.0) == (98.0, 100.0)
    assert difference_text(percent, PairedDifference(1.5, 0.01, low=1.0, high=2.0)) == "1.5 accuracy [1, 2]"
    told = TaskMetric.of_spec({"study": "pct", "objective": {"metric": "accuracy", "higher_is_better": True}})
    assert difference_text(told, PairedDifference(5.0, None)) == "5 accuracy", "a study may tell percent"
    assert TaskMetric.of_spec({}) == ACCURACY, "from the time when there was no other"
    assert ACCURACY.gain_interval(5.0, 3.0, 7.0) == (3.0, 7.0), "percent under the name of a share"
