"""The table of winners' gains in docs/evidence.md is what the kept trainings give, and its rules are what it says."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import winner_gains
from kept_trainings import PAGE
from scipy.stats import ttest_rel

RESULTS = Path(__file__).parents[2] / "benchmarks/results/2-core-x86_64-vm"
KEPT = winner_gains.read(RESULTS / "winner_gains.jsonl")
TABLE = {(line["task"], line["rival"]): line for line in winner_gains.table(KEPT)}
TASKS = list(dict.fromkeys(task for task, _ in TABLE))
SECTION = PAGE.partition("### What winners gain")[2].partition("\n### ")[0]
TEXT = " ".join(SECTION.split())


def test_the_table_is_what_the_kept_trainings_give() -> None:
    body = SECTION.partition("<!-- gains -->")[2].partition("<!-- end of gains -->")[0]
    assert body.strip() == winner_gains.markdown(KEPT)
    assert f"{max(line['searches'] for line in TABLE.values())} searches on each" in TEXT


@pytest.mark.parametrize("task", TASKS)
def test_gains_agree_with_scipys_paired_test(task: str) -> None:
    """The whole way from trainings to a line of the table, written again."""
    own, judged = {}, {}
    for row in (row for row in KEPT if row["task"] == task and "function" in row):
        if row["seed"] == winner_gains.CHOOSES:
            best = own.get(row["function"])
            score = -np.inf if row["score"] is None else row["score"]
            if best is None or score > best[0]:
                own[row["function"]] = (score, row["change"])
        judged[row["function"], row["change"], row["seed"]] = row["test"]
    baseline = max(winner_gains.BASELINES, key=lambda function: own[function][0])
    found = [row["winner"] for row in KEPT if row["task"] == task and "winner" in row]

    def tests(function: str) -> np.ndarray:
        return np.array([judged[function, own[function][1], seed] for seed in winner_gains.JUDGES], dtype=float)

    judged_winners = [tests(function) for function in found]
    whole = [scores for scores in judged_winners if not np.isnan(scores).any()]
    assert [rival for of, rival in TABLE if of == task] == list(dict.fromkeys(("relu(x)", "gelu", baseline)))
    for rival in ("relu(x)", "gelu", baseline):
        line, reference = TABLE[task, rival], tests(rival)
        test = ttest_rel(np.mean(whole, axis=0), reference)
        interval = test.confidence_interval(0.95)
        found_here = [line[key] for key in ("gain", "low", "high", "p")]
        expected = [np.mean(whole) - np.mean(reference), interval.low, interval.high, test.pvalue]
        assert found_here == pytest.approx(expected, rel=1e-9)
        assert line["diverged"] == len(found) - len(whole)
        assert line["ahead"] == sum(np.mean(scores) > np.mean(reference) for scores in whole)


def test_a_function_whose_best_rate_is_the_last_one_tried_gets_a_further_one() -> None:
    def rows(**scores: float | None) -> list[winner_gains.Row]:
        changes = {"half": "learning_rate*0.5", "one": "", "two": "learning_rate*2", "most": "learning_rate*16"}
        which = {"task": "t", "function": "f(x)", "seed": winner_gains.CHOOSES}
        return [which | {"change": changes[name], "score": score} for name, score in scores.items()]

    assert winner_gains.further(rows(half=0.1, one=0.2, two=0.3), "t", "f(x)") == (4.0,)
    assert winner_gains.further(rows(half=0.1, one=0.3, two=0.2), "t", "f(x)") == ()
    assert winner_gains.further(rows(half=0.1, one=None, two=None), "t", "f(x)") == (0.25,)
    assert winner_gains.further(rows(half=0.1, one=0.2, most=0.3), "t", "f(x)") == ()


def test_every_rate_is_bracketed_or_as_far_out_as_any_is_tried() -> None:
    for task, function in {(row["task"], row["function"]) for row in KEPT if "function" in row}:
        assert winner_gains.further(KEPT, task, function) == ()


def test_what_is_kept_is_not_trained_again(tmp_path: Path, monkeypatch, capsys) -> None:
    output = tmp_path / "gains.jsonl"
    rows = [row for row in KEPT if row["task"] == "friedman"]
    output.write_text("".join(json.dumps(row) + "\n" for row in rows))
    monkeypatch.setattr("sys.argv", ["winner_gains.py", "act-bench-friedman", "--output", str(output)])
    monkeypatch.setattr(winner_gains, "train", None)
    monkeypatch.setattr(winner_gains.torch, "set_num_threads", lambda n: None)
    winner_gains.main()
    assert capsys.readouterr().out.strip() == winner_gains.markdown(rows)
    assert winner_gains.read(output) == rows
