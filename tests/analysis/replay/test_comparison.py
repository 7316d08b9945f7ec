"""Measures by hand, and the statistics against slow definitions."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aquasurf_ray.analysis.errors import AnalysisError
from aquasurf_ray.analysis.output_file import check_picture
from aquasurf_ray.analysis.replay.comparison import compare, quantiles, share_never, signed_rank_p, spread, values
from aquasurf_ray.analysis.replay.comparison_table import COLUMNS, markdown, rows
from aquasurf_ray.analysis.replay.curves import draw, draw_curves
from aquasurf_ray.analysis.replay.measures import Goals, goals_of, measure, spearman
from aquasurf_ray.analysis.replay.simulation import Trace, simulate
from aquasurf_ray.analysis.studies.correction import holm
from aquasurf_ray.surrogate.policy import RandomPolicy

NAN = math.nan
GOALS = Goals({"top_1": 0.8, "top_01": 0.9}, best=0.95, worst=0.1)


def trace(truth, observed=None, predicted=None, seconds=1.0):
    """Evaluations one after the other, each of so many seconds."""
    n = len(truth)
    ends = seconds * np.arange(1, n + 1)
    seen = np.array(truth if observed is None else observed, dtype=float)
    said = np.full(n, NAN) if predicted is None else np.array(predicted, dtype=float)
    took = np.full(n, 0.002)
    order = np.nan_to_num(1000 * seen).astype(np.int64)
    return Trace(order, ends - seconds, ends, said, seen, np.array(truth, dtype=float), took, np.arange(8, 60))


def test_measures_by_hand():
    early = trace([0.5, 0.8, NAN, 0.9], observed=[0.99, 0.7, NAN, 0.6], predicted=[0.1, 0.2, 0.9, 0.4], seconds=2.0)
    never = trace([NAN, 0.3, 0.2, 0.79])
    found = measure([early, never], [GOALS, GOALS])
    assert found.best_so_far.tolist() == [[0.5, 0.8, 0.8, 0.9], [0.1, 0.3, 0.3, 0.79]]
    assert found.to_top["top_1"].tolist() == [2, 5]
    assert found.to_top["top_01"].tolist() == [4, 5]
    assert found.seconds_to_top["top_1"].tolist() == [4.0, math.inf]
    assert found.seconds.tolist() == [8.0, 4.0]
    assert found.regret == pytest.approx([0.05, 0.16])
    assert found.regret_of_choice == pytest.approx([0.45, 0.16])
    assert found.rank_correlation[0] == 1.0
    assert math.isnan(found.rank_correlation[1])
    assert found.suggest_ms.tolist() == [2.0, 2.0]
    assert found.distinct == 2
    assert measure([never, never], [GOALS, GOALS]).distinct == 1


def test_a_choice_that_diverged_in_the_median_is_the_worst():
    lucky = trace([0.5, NAN], observed=[0.6, 0.9])
    nothing = trace([NAN, NAN])
    assert measure([lucky, nothing], [GOALS, GOALS]).regret_of_choice == pytest.approx([0.85, 0.85])


def test_goals_are_scores_of_the_functions_that_can_be_chosen():
    scores = np.random.default_rng(0).permutation(np.arange(1500.0))
    scores[scores < 100] = NAN
    assert goals_of(scores) == Goals({"top_1": 1485.0, "top_01": 1498.0}, best=1499.0, worst=100.0)
    few = np.array([NAN] * 999 + [0.5])
    assert goals_of(few).top == {"top_1": 0.5, "top_01": 0.5}  # ten belong to the top, but one has a score
    with pytest.raises(AnalysisError, match="none of 3 functions has a score"):
        goals_of(np.full(3, NAN))


def test_each_run_is_measured_by_what_it_could_choose_from(synthetic_benchmark):
    best, second = np.argsort(-np.nan_to_num(synthetic_benchmark.scores[8:]))[:2] + 8
    without_best = replace(
        trace([synthetic_benchmark.scores[second]]), candidates=np.setdiff1d(np.arange(8, 60), [best])
    )
    compared = compare(
        {"mine": [trace([synthetic_benchmark.scores[second]]), without_best]}, synthetic_benchmark, "mine"
    )
    assert compared.measures["mine"].to_top["top_1"].tolist() == [2, 1]
    assert compared.measures["mine"].regret.tolist() == [
        synthetic_benchmark.scores[best] - synthetic_benchmark.scores[second],
        0.0,
    ]
    assert compared.goals.best == synthetic_benchmark.scores[best]


def test_traces_that_do_not_match_are_refused(synthetic_benchmark):
    runs = [
        simulate(RandomPolicy(len(synthetic_benchmark), seed), synthetic_benchmark, 5, seed=seed) for seed in range(3)
    ]
    with pytest.raises(AnalysisError, match="one length"):
        measure([], [])
    with pytest.raises(AnalysisError, match=r"\[1, 2\] evaluations"):
        measure([trace([0.1]), trace([0.1, 0.2])], [GOALS, GOALS])
    with pytest.raises(AnalysisError, match="reference must be one of random"):
        compare({"random": runs}, synthetic_benchmark, "tpe")
    with pytest.raises(AnalysisError, match=r"different runs and evaluations: \[\(2, 5\), \(3, 5\)\]"):
        compare({"random": runs, "other": runs[:2]}, synthetic_benchmark, "random")


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=3, max_size=12))
def test_spearman_is_the_correlation_of_mean_ranks(pairs):
    a, b = (np.array(side, dtype=float) for side in zip(*pairs, strict=True))

    def ranks(x):
        return np.array([sum(x < v) + (sum(x == v) + 1) / 2 for v in x])

    x, y = ranks(a) - ranks(a).mean(), ranks(b) - ranks(b).mean()
    scale = math.sqrt((x @ x) * (y @ y))
    assert spearman(a, b) == pytest.approx(x @ y / scale if scale else NAN, nan_ok=True)


@given(st.lists(st.integers(1, 8), min_size=1, max_size=9))
def test_the_median_of_censored_runs_is_kaplan_and_meiers(reached):
    """Runs end at 5 evaluations; their survival curve first falls to a half at the median."""
    runs = np.minimum(np.array(reached, dtype=float), 6.0)
    survival, median = 1.0, math.inf
    for time in range(1, 6):
        at_risk = (runs >= time).sum()
        survival *= 1 - (runs == time).sum() / at_risk if at_risk else 1.0
        if survival <= 0.5 + 1e-12:
            median = min(median, time)
    found = quantiles(runs, [0.5])[0]
    assert (math.inf if found == 6.0 else found) == median


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_is_the_closed_test_of_bonferroni(p_values):
    """A hypothesis is rejected where every intersection that contains it is, by Bonferroni (Marcus et al. 1976)."""
    n = len(p_values)
    subsets = [s for size in range(1, n + 1) for s in itertools.combinations(range(n), size)]
    slow = [max(min(1.0, len(s) * min(p_values[j] for j in s)) for s in subsets if i in s) for i in range(n)]
    assert holm(p_values) == pytest.approx(slow)


def test_the_signed_rank_test_is_that_of_all_sign_flips():
    """Pratt's ranks of ten differences, two of them zero; every choice of signs is as likely."""
    a = np.array([5, 9, 3, 7, 11, 2, 4, 8, 6, 10.0])
    b = np.array([5, 4, 4, 7, 1, 5, 10, 1, 2, 2.0])
    ranks = np.array([sum(abs(a - b) < d) + (sum(abs(a - b) == d) + 1) / 2 for d in abs(a - b)])[a != b]
    observed = abs((np.sign(a - b)[a != b] * ranks).sum())
    flips = np.array(list(itertools.product([-1, 1], repeat=len(ranks)))) @ ranks
    assert signed_rank_p(a, b) == pytest.approx(np.mean(np.abs(flips) >= observed - 1e-9), abs=0.02)
    assert signed_rank_p(a, b) == signed_rank_p(b, a)
    assert signed_rank_p(a, a) == 1.0


def test_equal_differences_are_ties_whatever_floats_make_of_them():
    steps = np.array([1, -1, 1, 2, -2, 2, 1, 3, 0, 2, -1, 1, 3, 2, 1, -2, 1])
    scores = np.array([0.9, 0.7, 0.3] * 6)[: len(steps)]
    noisy = (scores + 0.0022 * steps) - scores
    assert len(set(np.abs(noisy))) > 4  # what should be 0, 1, 2 and 3 steps
    assert signed_rank_p(scores + 0.0022 * steps, scores) == signed_rank_p(steps.astype(float), np.zeros(len(steps)))


def test_the_signed_rank_test_keeps_its_level_and_sees_what_is_there():
    rng = np.random.default_rng(0)
    nothing = [signed_rank_p(rng.normal(size=100), rng.normal(size=100)) for _ in range(100)]
    assert 0.01 < np.mean(np.array(nothing) < 0.05) < 0.1
    assert signed_rank_p(rng.normal(size=100), rng.normal(size=100) + 1) < 1e-5


def test_intervals_of_the_median_cover_it_as_often_as_they_say():
    rng = np.random.default_rng(1)
    covered = [s.low <= 0.0 <= s.high for s in (spread(rng.normal(size=100)) for _ in range(100))]
    assert 0.9 <= np.mean(covered) <= 0.99
    nothing = spread(np.array([NAN, NAN]))
    assert math.isnan(nothing.median)
    assert spread(np.array([NAN, 3.0, 3.0])).low == 3.0


@pytest.fixture
def comparison(synthetic_benchmark):
    """Better by four evaluations in three runs, as good in one; the fourth pair never gets there."""
    top = goals_of(synthetic_benchmark.scores[8:]).top["top_1"]

    def reaching(*numbers):
        return [
            trace([top if i == n else synthetic_benchmark.scores[0] - i / 1e6 for i in range(1, 9)]) for n in numbers
        ]

    return compare({"ours": reaching(1, 2, 3, 99), "theirs": reaching(5, 6, 7, 99)}, synthetic_benchmark, "theirs")


def test_a_comparison_by_hand(comparison):
    assert (comparison.runs, comparison.evaluations) == (4, 8)
    assert values(comparison.measures["ours"], "to_top_1").tolist() == [1, 2, 3, 9]
    ours, theirs = (comparison.spread(policy, "to_top_1") for policy in ("ours", "theirs"))
    assert (ours.q25, ours.median, ours.q75) == (1, 2, 3)
    assert (theirs.q25, theirs.median, theirs.q75) == (5, 6, 7)
    assert share_never(comparison.measures["ours"], "top_1") == 0.25
    assert list(comparison.tests) == ["ours"]
    test = comparison.tests["ours"]["to_top_1"]
    assert (test.wins, test.losses, test.times_less) == (0.75, 0.0, 3.0)
    assert test.p == test.p_holm == signed_rank_p(np.array([1, 2, 3, 9.0]), np.array([5, 6, 7, 9.0]))
    assert test.low <= 3.0 <= test.high


def test_more_policies_make_for_larger_p_values(synthetic_benchmark, comparison):
    rng = np.random.default_rng(0)
    runs = {
        f"p{i}": [trace(list(rng.permutation(synthetic_benchmark.scores[:8]))) for _ in range(20)] for i in range(4)
    }
    tests = compare(runs, synthetic_benchmark, "p0").tests
    for measure_name in ("to_top_1", "regret"):
        alone = [tests[policy][measure_name].p for policy in ("p1", "p2", "p3")]
        assert [tests[policy][measure_name].p_holm for policy in ("p1", "p2", "p3")] == holm(alone)


def test_a_comparison_as_a_table_and_as_a_document(comparison):
    first, second = rows(comparison)
    table = dict(zip(COLUMNS, first, strict=True))
    assert (table["policy"], table["to top 1%"], table["never"]) == ("ours", "2 [1, 3]", "25%")
    assert table["rank corr."] == "-"
    assert table["suggest ms"] == "2.0"
    assert table["times fewer"].startswith("3.00 [")
    assert second[-1] == second[-2] == "-"
    text = markdown(COLUMNS, rows(comparison)).splitlines()
    assert [line.count("|") for line in text] == [len(COLUMNS) + 1] * 4
    document = comparison.document()
    assert document["policies"]["ours"]["never"] == {"top_1": 0.25, "top_01": 0.25}
    assert document["policies"]["ours"]["to_top_1"]["median"] == 2
    assert len(document["policies"]["theirs"]["best_so_far"]["q75"]) == 8
    assert document["policies"]["theirs"]["tests"] == {}


@pytest.mark.parametrize(
    ("ours", "theirs", "cell"),
    [(2, 99, ">4.50 [4.50, 4.50]"), (99, 3, "<0.33 [0.33, 0.33]"), (99, 99, "-"), (2, 4, "2.00 [2.00, 2.00]")],
)
def test_a_ratio_to_what_was_never_reached_is_a_bound(synthetic_benchmark, ours, theirs, cell):
    top = goals_of(synthetic_benchmark.scores[8:]).top["top_1"]

    def reaching(n):
        return [trace([top if i == n else synthetic_benchmark.scores[0] - i / 1e6 for i in range(1, 9)])] * 3

    found = rows(compare({"ours": reaching(ours), "theirs": reaching(theirs)}, synthetic_benchmark, "theirs"))
    assert dict(zip(COLUMNS, found[0], strict=True))["times fewer"] == cell


def test_the_picture_shows_medians_and_quartiles(comparison, tmp_path):
    from matplotlib.colors import to_hex
    from matplotlib.figure import Figure

    axes = Figure().subplots()
    draw_curves(axes, comparison, sign=-1.0)
    ours, theirs, *goals = axes.lines
    assert [line.get_label() for line in (ours, theirs)] == ["ours", "theirs"]
    by_hand = np.sort(comparison.measures["ours"].best_so_far, axis=0)[1]  # the second of four
    assert ours.get_ydata().tolist() == (-by_hand).tolist()
    assert [line.get_ydata()[0] for line in goals] == [-score for score in comparison.goals.top.values()]
    assert len({to_hex(line.get_color()) for line in (ours, theirs)}) == 2
    path = tmp_path / "curves.png"
    draw(comparison, path, metric="accuracy", title="synthetic")
    assert path.read_bytes().startswith(b"\x89PNG")


def test_a_picture_that_cannot_be_drawn_is_reported_before(tmp_path, monkeypatch):
    with pytest.raises(AnalysisError, match=r"'curves\.gif2' must end in one of .*\.png"):
        check_picture(tmp_path.joinpath("curves.gif2").relative_to(tmp_path))
    with pytest.raises(AnalysisError, match="there is no folder"):
        check_picture(tmp_path / "absent" / "curves.png")
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(AnalysisError, match="is a folder"):
        check_picture(tmp_path / "folder.png")
    monkeypatch.setattr("os.access", lambda path, mode: path != tmp_path)  # root may write anywhere
    with pytest.raises(AnalysisError, match="does not permit it"):
        check_picture(tmp_path / "curves.png")
    monkeypatch.setitem(__import__("sys").modules, "matplotlib.figure", None)
    with pytest.raises(AnalysisError, match=r"a picture needs matplotlib: pip install matplotlib"):
        check_picture(tmp_path / "curves.png")
