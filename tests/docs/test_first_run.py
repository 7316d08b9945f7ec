"""The README says of `make search` only what `benchmarks/evidence/first_run.py` measured, and its verdict is what SciPy
finds in the trainings."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from pages import PAGES, ROOT, all_blocks, commands_of_make_search
from scipy import stats

RESULTS = ROOT / "benchmarks/results/2-core-x86_64-vm/first_run.json"
MEASURED = json.loads(RESULTS.read_text(encoding="utf-8"))
VERDICT = MEASURED["confirmation"]["verdict"]
CHOOSING, JUDGING = (6,), (1, 2, 3, 4, 5)
CHANGES = ("learning_rate*0.5", "", "learning_rate*2")


def text_of(page: str) -> str:
    """The page as one line."""
    return " ".join((ROOT / page).read_text(encoding="utf-8").split())


def judged() -> dict[str, np.ndarray]:
    """The test scores of each judged function with the judging seeds, at the rate that its choosing seed prefers."""
    rows = MEASURED["trainings"][MEASURED["confirmation"]["run"]]
    by_key = {(row["function"], row["seed"], row["recipe_change"]): row for row in rows}
    found = {}
    for function in {row["function"] for row in rows if row["seed"] in JUDGING}:
        tried = {change: [by_key[function, seed, change]["score"] for seed in CHOOSING] for change in CHANGES}
        known = {change: np.mean(scores) for change, scores in tried.items() if None not in scores}
        rate = max(known, key=lambda change: known[change])
        found[function] = np.array([by_key[function, seed, rate]["test_score"] for seed in JUDGING], dtype=float)
    return found


def test_the_measured_commands_are_the_makefiles() -> None:
    assert MEASURED["commands"] == commands_of_make_search()


@pytest.mark.parametrize("page", ["README.md", "docs/results.md", "docs/benchmarks-build.md"])
def test_a_verdict_that_a_page_shows_is_the_measured_one(page: str) -> None:
    assert VERDICT in text_of(page)


@pytest.mark.parametrize("page", [page for page in PAGES if "make search" in text_of(page)])
def test_output_of_the_run_is_quoted_as_it_was_printed(page: str) -> None:
    block = next((b for b in all_blocks(page) if b.language == "text" and "retrained with seeds" in b.text), None)
    if block is None:
        assert page != "README.md"
        return
    printed = [line.rstrip() for line in MEASURED["printed"]]
    lines = [line.rstrip() for line in block.text.splitlines() if line.strip() not in ("", "...")]
    assert len(lines) > 5
    assert [line for line in lines if line not in printed] == []


def test_the_verdict_is_what_scipy_finds_in_the_trainings() -> None:
    scores = judged()
    confirmed = MEASURED["confirmation"]
    winners = [f["function"] for f in confirmed["functions"] if not f["baseline"]]
    assert len(winners) == 2
    gains = {name: np.mean(scores[name] - scores["relu(x)"]) for name in winners}
    tests = {name: stats.ttest_rel(scores[name], scores["relu(x)"]) for name in winners}
    # Holm's correction of two p-values: the smaller one counts twice, and the other one is no smaller than that.
    low_first = sorted(winners, key=lambda name: tests[name].pvalue)
    adjusted = {low_first[0]: min(1, 2 * tests[low_first[0]].pvalue)}
    adjusted[low_first[1]] = max(adjusted[low_first[0]], tests[low_first[1]].pvalue)
    better = [name for name in winners if gains[name] > 0 and adjusted[name] < 0.05]
    assert (confirmed["winner"] is not None) == bool(better)
    best = max(better or winners, key=lambda name: np.mean(scores[name]))
    low, high = tests[best].confidence_interval(0.95)
    sign = "" if better else "+"
    assert f"{100 * gains[best]:{sign}.1f} points [{100 * low:.1f}, {100 * high:.1f}]" in VERDICT
    assert best.removesuffix("(x)") in VERDICT
    baselines = {name: np.mean(each) for name, each in scores.items() if name not in winners}
    assert confirmed["best_baseline"] == max(baselines, key=lambda name: baselines[name])


def test_what_the_run_costs_is_told_as_it_was_measured() -> None:
    trainings = sum(len(rows) for rows in MEASURED["trainings"].values())
    assert f"{trainings} trainings" in text_of("README.md")
    assert f"{MEASURED['processor_seconds']:.0f} s of processor time" in text_of("README.md")
    assert Path(RESULTS).stat().st_size < 100_000
