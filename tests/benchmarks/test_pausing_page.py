"""The table of early stopping in docs/evidence.md, and the sentences around it, are what the kept replays give."""

from __future__ import annotations

import json
from pathlib import Path

import pausing
from kept_trainings import PAGE

from aquasurf_ray.analysis.replay.early_stopping.pausing import RULES

ROOT = Path(__file__).parents[2]
KEPT = [
    json.loads(line) for line in (ROOT / "benchmarks/results/2-core-x86_64-vm/pausing.jsonl").read_text().splitlines()
]
SECTION = PAGE.partition("### Early stopping")[2].partition("\n## ")[0]
TEXT = " ".join(SECTION.split())


def test_the_table_has_every_rule_as_it_was_measured() -> None:
    body = SECTION.partition("<!-- pausing -->")[2].partition("<!-- end of pausing -->")[0]
    assert body.strip() == pausing.table(KEPT)
    assert all([row["rule"] for row in kept["rules"]] == list(RULES) for kept in KEPT)


def test_the_sentences_say_what_was_measured() -> None:
    (mlp,) = (kept for kept in KEPT if kept["benchmark"] == "act-bench-digits-mlp")
    rows = {row["rule"]: row for row in mlp["rules"]}
    full, curves, median = (rows[rule] for rule in ("full trainings", "chance of 0.1, resumed", "median"))
    assert f"takes {curves['to top 0.1%']:.1f} trainings with `--early-stop curves`" in TEXT
    assert f"instead of {full['to top 0.1%']:.1f} (p = {curves['p 0.1%']:.2g})" in TEXT
    assert f"takes {median['to top 0.1%']:.1f} with `--early-stop median`" in TEXT
    assert f"(p = {median['p 0.1%']:.2g})" in TEXT
    thawed, laws = (rows[f"{model}, 0.1, resumed"]["to top 0.1%"] for model in ("freeze-thaw", "power laws"))
    assert f"it takes {thawed:.1f} trainings, with fitted power laws {laws:.1f}" in TEXT
    assert f"{mlp['runs']} runs with the epochs of {mlp['trainings']} trainings" in TEXT
    assert all(2 <= row["to top 1%"] < 3 for row in rows.values()), "two or three trainings by every rule"
    finding = " ".join(PAGE.partition("## Findings")[2].partition("## A fair")[0].split())
    assert f"epochs of {curves['to top 0.1%']:.1f} trainings instead of {full['to top 0.1%']:.1f}" in finding
