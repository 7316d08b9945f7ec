"""The table of early stopping in docs/evidence.md, and the sentences around it, are what the kept replays give."""

from __future__ import annotations

import json
from pathlib import Path

import pausing
from kept_trainings import PAGE

from aquasurf_ray.analysis.replay.early_stopping.pausing import RULES

ROOT = Path(__file__).parents[2]
KEPT = json.loads((ROOT / "benchmarks/results/2-core-x86_64-vm/pausing.json").read_text())
ROWS = {row["rule"]: row for row in KEPT["rules"]}
SECTION = PAGE.partition("### Early stopping")[2].partition("\n## ")[0]
TEXT = " ".join(SECTION.split())


def test_the_table_has_every_rule_as_it_was_measured() -> None:
    body = SECTION.partition("<!-- pausing -->")[2].partition("<!-- end of pausing -->")[0].strip().splitlines()
    assert list(ROWS) == list(RULES)
    cells = [[cell.strip() for cell in line.strip("|").split(" |")] for line in body]
    assert cells[0] == [column.strip() for column in pausing.COLUMNS]
    expected = [[pausing.cell(column, row, KEPT["trainings"]) for column in pausing.COLUMNS] for row in ROWS.values()]
    assert cells[2:] == expected


def test_the_sentences_say_what_was_measured() -> None:
    full, curves, median = (ROWS[rule] for rule in ("full trainings", "chance of 0.1, resumed", "median"))
    assert f"takes {curves['to top 0.1%']:.1f} trainings with `--early-stop curves`" in TEXT
    assert f"instead of {full['to top 0.1%']:.1f} (p = {curves['p 0.1%']:.2g})" in TEXT
    assert f"takes {median['to top 0.1%']:.1f} with `--early-stop median`" in TEXT
    assert f"(p = {median['p 0.1%']:.2g})" in TEXT
    thawed, laws = (ROWS[f"{model}, 0.1, resumed"]["to top 0.1%"] for model in ("freeze-thaw", "power laws"))
    assert f"it takes {thawed:.1f} trainings, with fitted power laws {laws:.1f}" in TEXT
    assert f"{KEPT['runs']} runs with the epochs of {KEPT['trainings']} trainings" in TEXT
    assert all(2 <= row["to top 1%"] < 3 for row in ROWS.values()), "two or three trainings by every rule"
    finding = " ".join(PAGE.partition("## Findings")[2].partition("## A fair")[0].split())
    assert f"epochs of {curves['to top 0.1%']:.1f} trainings instead of {full['to top 0.1%']:.1f}" in finding
