"""The table of roles in docs/evidence.md, and the sentences around it, are what the kept trainings give."""

from __future__ import annotations

import json
from pathlib import Path
from statistics import mean, stdev

from kept_trainings import PAGE

ROOT = Path(__file__).parents[2]
KEPT = json.loads((ROOT / "benchmarks/results/2-core-x86_64-vm/roles.json").read_text())["results"]
SEARCHES = {(row["seed"], row["arm"]): row for row in KEPT if "arm" in row}
SECTION = PAGE.partition("## A function per role")[2].partition("\n## ")[0]
TEXT = " ".join(SECTION.split())


def judged(function: str) -> float:
    scores = [row["test"] for row in KEPT if row.get("function") == function]
    assert len(scores) == 5
    return mean(scores)


def test_the_table_has_the_winners_and_their_tests() -> None:
    body = SECTION.partition("<!-- roles -->")[2].partition("<!-- end of roles -->")[0].strip().splitlines()[2:]
    winners = {seed: [SEARCHES[seed, arm]["winner"] for arm in ("one", "roles")] for seed in range(5)}
    expected = [
        f"| {seed} | `{one}` | {judged(one):.4f} | `{roles}` | {judged(roles):.4f} |"
        for seed, (one, roles) in winners.items()
    ]
    assert body == expected


def test_the_sentences_say_what_the_trainings_give() -> None:
    one, roles = ([judged(SEARCHES[seed, arm]["winner"]) for seed in range(5)] for arm in ("one", "roles"))
    gains = [b - a for a, b in zip(one, roles, strict=True)]
    assert f"mean is {mean(roles):.4f} with roles and {mean(one):.4f} without" in TEXT
    of_the_difference = f"difference of {mean(gains):.4f} with a standard error of {stdev(gains) / 5**0.5:.4f}"
    assert of_the_difference in TEXT
    assert of_the_difference in " ".join(PAGE.partition("## Findings")[2].partition("## A fair")[0].split())
    assert f"ReLU has {judged('relu(x)'):.4f}" in TEXT
    pairs = [SEARCHES[seed, "roles"]["of_roles"] for seed in range(5)]
    assert f"{min(pairs)} to {max(pairs)} of the 60 trainings are of pairs" in TEXT
    higher = sum(SEARCHES[seed, "roles"]["score"] > SEARCHES[seed, "one"]["score"] for seed in range(5))
    assert (higher, "higher with roles in four of five searches" in TEXT) == (4, True)
