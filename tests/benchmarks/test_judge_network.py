"""The table of the sixth network in docs/evidence-tables.md, and the sentences around it, are what its replays gave."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import judge_network
from kept_trainings import PAGE

from aquasurf_ray.activations import Activation
from aquasurf_ray.workers.training import train

ROOT = Path(__file__).parents[2]
KEPT = json.loads((ROOT / "benchmarks/results/2-core-x86_64-vm/judge_network.json").read_text())
TABLES = (ROOT / "docs/evidence-tables.md").read_text(encoding="utf-8")
SECTION = TABLES.partition("### Judged on a sixth network")[2].partition("\n## ")[0]
TEXT = " ".join(SECTION.split())


def test_the_table_is_that_of_the_replays() -> None:
    _, _, *body = SECTION.partition("<!-- judge -->")[2].partition("<!-- end of judge -->")[0].strip().splitlines()
    wanted = [[value for column, value in row.items() if column != "suggest ms"] for row in KEPT["rows"]]
    assert [[cell.strip() for cell in line.strip("|").split(" |")] for line in body] == wanted


def test_the_sentences_say_what_the_replays_gave() -> None:
    kept, _, both = KEPT["rows"]
    assert f"{KEPT['runs']} runs, each among half" in TEXT
    trainings = [row[column].split()[0] for column in ("to top 1%", "to top 0.1%") for row in (kept, both)]
    assert trainings == ["5", "5", "15", "19"]
    assert "the top 1% takes 5 trainings as before, and the top 0.1% takes 19 instead of 15 (p = 0.016)" in TEXT
    assert both["p 0.1%"] == "0.016"
    assert "does not confirm it" in " ".join(PAGE.split())


def test_the_task_trains_and_its_metric_is_the_mean_over_examples() -> None:
    task = judge_network.cancer()
    found = train(replace(task, recipe=replace(task.recipe, epochs=2)), Activation("relu(x)"), seed=0)
    assert found.status == "done"
    assert abs(found.val_loss + found.score) < 1e-6
    assert 0 < found.val_loss < 1
