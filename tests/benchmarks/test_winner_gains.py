"""The table of winners' gains in docs/evidence.md is what the kept trainings give, and its rules are what it says."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import winner_gains
from kept_rows import KeptRows, Row
from kept_trainings import PAGE
from scipy.stats import ttest_rel

RESULTS = Path(__file__).parents[2] / "benchmarks/results/2-core-x86_64-vm"
KEPT = KeptRows(RESULTS / "winner_gains.jsonl").rows
TASKS = list(dict.fromkeys(row["task"] for row in KEPT))
TABLE = {(line["task"], line["rival"]): line for line in winner_gains.table(KEPT, TASKS)}
SECTION = PAGE.partition("### What winners gain")[2].partition("\n### ")[0]
TEXT = " ".join(SECTION.split())


def kept_scores(task: str) -> tuple[dict[str, tuple[float, float, float, str]], dict[tuple[str, str, int], float]]:
    """Each function's best merit (score, nearness of the rate) with its rate, and all test scores: the rules again."""
    own, judged = {}, {}
    for row in (row for row in KEPT if row["task"] == task and "function" in row):
        if row["seed"] == winner_gains.CHOOSING_SEED:
            factor = float(row["change"].partition("*")[2] or 1)
            score = -math.inf if row["score"] is None else row["score"]
            merit = (score, -abs(math.log(factor)), -factor, row["change"])
            own[row["function"]] = max(own.get(row["function"], merit), merit)
        judged[row["function"], row["change"], row["seed"]] = math.nan if row["test"] is None else row["test"]
    return own, judged


def holm(p_values: list[float]) -> list[float]:
    """Holm's correction by its definition: each p-value times the number of those that are not smaller, ascending."""
    corrected, so_far = [0.0] * len(p_values), 0.0
    for rank, i in enumerate(np.argsort(p_values)):
        so_far = max(so_far, min(1.0, p_values[i] * (len(p_values) - rank)))
        corrected[i] = so_far
    return corrected


def test_the_table_is_what_the_kept_trainings_give() -> None:
    body = SECTION.partition("<!-- gains -->")[2].partition("<!-- end of gains -->")[0]
    assert body.strip() == winner_gains.markdown(KEPT, TASKS)
    assert {line["searches"] for line in TABLE.values()} == {10}
    assert "replays 10 searches on each" in TEXT


def test_gains_agree_with_scipys_paired_test() -> None:
    """The whole way from trainings to the table, written again."""
    expected = {}
    for task in TASKS:
        own, judged = kept_scores(task)
        baseline = max(winner_gains.BASELINES, key=lambda function: own[function][:3])

        def scores(function: str) -> np.ndarray:
            return np.array([judged[function, own[function][3], seed] for seed in winner_gains.JUDGING_SEEDS])  # noqa: B023

        winners = [scores(row["winner"]) for row in KEPT if row["task"] == task and "winner" in row]
        whole = [found for found in winners if not np.isnan(found).any()]
        for rival in dict.fromkeys(("relu(x)", "gelu", baseline)):
            reference = scores(rival)
            test = ttest_rel(np.mean(whole, axis=0), reference, nan_policy="omit")
            interval = test.confidence_interval(0.95)
            gain = np.nanmean(np.mean(whole, axis=0) - reference)
            ahead = sum(np.nanmean(found - reference) > 0 for found in whole)
            expected[task, rival] = (gain, interval.low, interval.high, test.pvalue, ahead, len(winners) - len(whole))
    assert list(TABLE) == list(expected)
    corrected = holm([found[3] for found in expected.values()])
    for (which, found), p in zip(expected.items(), corrected, strict=True):
        line = TABLE[which]
        assert [line["gain"], line["low"], line["high"], line["p"]] == pytest.approx([*found[:3], p], rel=1e-9), which
        assert (line["ahead"], line["diverged"]) == found[4:]


def test_the_sentences_say_what_was_measured() -> None:
    better = {which for which, line in TABLE.items() if line["p"] < 0.05}
    baselines = {(task, [rival for of, rival in TABLE if of == task][-1]) for task in TASKS}
    assert better == {("friedman", "relu(x)"), ("friedman", "softplus(x)")}
    assert all(TABLE[which]["gain"] > 0 for which in better)
    assert better & baselines == {("friedman", "softplus(x)")}
    assert "beat ReLU by 0.0085 on friedman (p < 0.0001) and the best baseline there by 0.0031" in " ".join(
        PAGE.split()
    )
    gains = [TABLE[task, "relu(x)"]["gain"] for task in TASKS if task != "friedman"]
    assert f"from {min(gains):.4f} to {max(gains):.4f}, are not significant" in " ".join(PAGE.split())
    for task in TASKS:
        line = TABLE[task, "relu(x)"]
        assert f"{line['gain']:.4f}" in TEXT
        assert ("<0.0001" if line["p"] < 1e-4 else f"{line['p']:.2g}").replace("<", "") in TEXT
    assert TABLE["mnist1d", "relu(x)"]["ahead"] == 10
    different = [len({row["winner"] for row in KEPT if row["task"] == task and "winner" in row}) for task in TASKS]
    assert f"are {min(different)} to {max(different)} different functions a network" in TEXT


def rows(**scores: float | None) -> list[Row]:
    changes = {"half": "learning_rate*0.5", "one": "", "two": "learning_rate*2", "most": "learning_rate*16"}
    which = {"task": "t", "function": "f(x)", "seed": winner_gains.CHOOSING_SEED}
    return [which | {"change": changes[name], "score": score} for name, score in scores.items()]


def test_a_function_whose_best_rate_is_the_last_one_tried_gets_a_further_one() -> None:
    assert winner_gains.further(rows(half=0.1, one=0.2, two=0.3), "t", "f(x)") == (4.0,)
    assert winner_gains.further(rows(half=0.1, one=0.3, two=0.3), "t", "f(x)") == (4.0,), "as good as any"
    assert winner_gains.further(rows(half=0.1, one=0.3, two=0.2), "t", "f(x)") == ()
    assert winner_gains.further(rows(half=0.1, one=None, two=None), "t", "f(x)") == (0.25,)
    assert winner_gains.further(rows(half=0.1, one=0.2, most=0.3), "t", "f(x)") == ()


def test_of_equal_scores_the_rate_nearest_to_the_recipes_is_the_functions_own() -> None:
    assert winner_gains.own_change(rows(half=0.1, two=0.3, one=0.3), "t", "f(x)") == ""
    assert winner_gains.own_change(rows(one=0.1, most=0.3, two=0.3), "t", "f(x)") == "learning_rate*2"
    assert winner_gains.own_change(rows(two=0.3, half=0.3, one=0.1), "t", "f(x)") == "learning_rate*0.5"


def test_every_rate_is_bracketed_or_as_far_out_as_any_is_tried() -> None:
    for task, function in {(row["task"], row["function"]) for row in KEPT if "function" in row}:
        assert winner_gains.further(KEPT, task, function) == ()


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    monkeypatch.setattr("sys.argv", ["winner_gains.py", *arguments])
    monkeypatch.setattr(winner_gains.torch, "set_num_threads", lambda n: None)
    winner_gains.main()


def test_what_is_kept_is_not_trained_again(tmp_path: Path, monkeypatch, capsys) -> None:
    output = tmp_path / "gains.jsonl"
    kept = [row for row in KEPT if row["task"] == "friedman"]
    output.write_text("".join(json.dumps(row) + "\n" for row in kept))
    monkeypatch.setattr(winner_gains, "train", None)
    run(monkeypatch, "act-bench-friedman", "--output", str(output))
    assert capsys.readouterr().out.strip() == winner_gains.markdown(kept, ["friedman"])
    assert KeptRows(output).rows == kept
    with pytest.raises(SystemExit):
        run(monkeypatch, "act-bench-friedman", "--output", str(output), "--evaluations", "50")
    assert "has other searches on friedman; give another file" in capsys.readouterr().err


def test_a_function_that_diverges_with_every_seed_leaves_a_line_without_a_gain() -> None:
    lost = [row | {"test": None} if row.get("function") == "gelu" else row for row in KEPT if row["task"] == "friedman"]
    assert "| `gelu` | 1 | - | - | - | 0 of 10 | 0 |" in winner_gains.markdown(lost, ["friedman"])
