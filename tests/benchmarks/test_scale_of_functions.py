"""What docs/evidence.md says of the scale of functions is what `benchmarks/evidence/scale_of_functions.py` measured."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
from kept_trainings import MEASURED, PAGE, scores
from scipy.stats import spearmanr

from aquasurf_ray.activations import parse
from aquasurf_ray.activations.standardization import standardized

ROOT = Path(__file__).parents[2]
CHAPTER = " ".join(PAGE.partition("## A fair verdict")[2].split())
ARMS = ("as it is", "standardized", "init auto", "both")


def script():
    path = ROOT / "benchmarks/evidence/scale_of_functions.py"
    spec = importlib.util.spec_from_file_location("scale_of_functions", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


TASKS = list(dict.fromkeys(row["task"] for row in MEASURED["trainings"]))


@pytest.mark.parametrize("task", TASKS)
def test_the_table_of_the_page_is_what_the_trainings_give(task):
    plain = scores(task, "as it is")
    functions = {row["function"] for row in MEASURED["trainings"] if row["task"] == task} - {"relu(x)"}
    for arm in ARMS:
        own = scores(task, arm)
        relu = own.pop("relu(x)")
        both = sorted(own.keys() & plain.keys())
        beat = sum(score > relu for score in own.values())
        order = "-"
        if arm != "as it is":
            rank = spearmanr([plain[f] for f in both], [own[f] for f in both]).statistic
            order = f"{rank:.2f} of {len(both)}"
        cells = [task, arm, len(functions), len(own), beat, f"{max(own.values()):.3f}", f"{relu:.3f}", order]
        assert f"| {' | '.join(map(str, cells))} |" in PAGE


def test_every_function_was_trained_in_every_arm_with_one_seed_as_the_script_draws_them():
    drawn = script().drawn(max(len(MEASURED["trainings"]), 1))
    for task in TASKS:
        rows = [row for row in MEASURED["trainings"] if row["task"] == task]
        n = len(rows) // len(ARMS)
        assert [row["function"] for row in rows[:: len(ARMS)]] == ["relu(x)", *drawn[: n - 1]]
        assert [row["arm"] for row in rows] == list(ARMS) * n
        assert f"{n - 1} functions on {task}" in CHAPTER


def test_standard_forms_are_those_of_today():
    for row in MEASURED["trainings"]:
        expected = standardized(parse(row["function"])) if row["arm"] in ("standardized", "both") else None
        if row["arm"] in ("standardized", "both"):
            assert row["trained"] == (expected and str(expected))
            assert bool(row["results"]) == (expected is not None)


def test_the_sentences_say_what_the_trainings_give():
    counts, beat, ranks = {}, {}, {}
    for task in ("digits", "friedman", "mnist1d"):
        plain = scores(task, "as it is")
        for arm in ARMS:
            own = scores(task, arm)
            relu = own.pop("relu(x)")
            counts[task, arm], beat[task, arm] = len(own), sum(score > relu for score in own.values())
            both = sorted(own.keys() & plain.keys())
            ranks[task, arm] = spearmanr([plain[f] for f in both], [own[f] for f in both]).statistic
    n = [counts["digits", arm] for arm in ARMS]
    assert f"On digits, {n[0]} of 24 functions train as they are, {n[1]} in standard form, {n[2]} with" in CHAPTER
    assert f"and {n[3]} with both; " in CHAPTER
    lacking = [r for r in MEASURED["trainings"] if (r["task"], r["arm"]) == ("digits", "both") and not r["results"]]
    assert f"with both; {len(lacking)} have no standard form" in CHAPTER
    changed = [ranks["digits", arm] for arm in ARMS[1:]]
    assert f"is between {min(changed):.2f} and {max(changed):.2f}" in CHAPTER
    ahead = [beat["digits", arm] for arm in ARMS]
    assert ahead[2] == ahead[3]
    assert f"As they are, {ahead[0]} functions beat ReLU, in standard form {ahead[1]}, with fitted" in CHAPTER
    assert f"with both {ahead[2]}: their leads are of one seed" in CHAPTER
    assert len({counts["friedman", arm] for arm in ARMS}) == 1, "as many train in each arm"
    n_friedman = len({row["function"] for row in MEASURED["trainings"] if row["task"] == "friedman"}) - 1
    assert f"{counts['friedman', 'as it is']} of {n_friedman} functions train as they are" in CHAPTER
    lowest = min(ranks["friedman", arm] for arm in ARMS[1:])
    assert f"the rank correlations are {lowest:.2f} and above" in CHAPTER
    trained = [scores("mnist1d", arm).keys() for arm in ARMS]
    assert all(names == trained[0] for names in trained)
    assert f"the same {counts['mnist1d', 'as it is']} of 20 train in each arm" in CHAPTER
    lowest = min(ranks["mnist1d", arm] for arm in ARMS[1:])
    assert f"and the rank correlations are {lowest:.2f} and above. So `--standardize`" in CHAPTER
