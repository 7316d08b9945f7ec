"""The table of spaces in docs/evidence.md, and the sentences around it, are what the kept searches give."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest
import search_spaces
import torch
from kept_trainings import PAGE

from aquasurf_ray.driver.settings.models import SearchConfig

ROOT = Path(__file__).parents[2]
KEPT = json.loads((ROOT / "benchmarks/results/2-core-x86_64-vm/search_spaces.json").read_text())
SECTION = PAGE.partition("## The space of a search")[2].partition("\n## ")[0]
TEXT = " ".join(SECTION.split())


def winner(task: str, arm: str, seed: int) -> str:
    return next(
        row["winner"] for row in KEPT["results"] if (row["task"], row.get("arm"), row["seed"]) == (task, arm, seed)
    )


def judged(task: str, function: str) -> list[float | None]:
    rows = [row for row in KEPT["results"] if (row["task"], row.get("function")) == (task, function)]
    assert [row["seed"] for row in rows] == list(search_spaces.JUDGES)
    return [row["test"] for row in rows]


def test_the_table_is_that_of_the_searches(tmp_path: Path) -> None:
    body = SECTION.partition("<!-- spaces -->")[2].partition("<!-- end of spaces -->")[0].strip().splitlines()
    (tmp_path / "results.jsonl").write_text("".join(json.dumps(row) + "\n" for row in KEPT["results"]))
    assert body == search_spaces.markdown(search_spaces.table(search_spaces.Results(tmp_path)))


def test_a_row_is_the_mean_of_its_winners() -> None:
    row = next(row for row in KEPT["table"] if (row["task"], row["arm"]) == ("friedman", "three-node"))
    means = []
    for function in (winner("friedman", "three-node", seed) for seed in range(row["searches"])):
        scores = [score for score in judged("friedman", function) if score is not None]
        assert len(scores) == 5
        means.append(sum(scores) / 5)
    assert abs(sum(means) / len(means) - row["test"]) < 1e-12


def of_arm(arm: str, column: str) -> list[float]:
    """The values of a column, by task as in the table."""
    return [row[column] for row in KEPT["table"] if row["arm"] == arm]


def test_the_default_space_is_the_one_that_no_other_is_ahead_of() -> None:
    assert {row["task"]: row["searches"] for row in KEPT["table"]} == {"friedman": 10, "digits-mlp": 6}
    assert len(KEPT["table"]) == 8
    others = [arm for arm in search_spaces.ALL_ARMS if arm != search_spaces.LISTED]
    assert [sum(of_arm(arm, "ahead_of_listed")) for arm in others] == [6, 8, 9.5]
    assert (
        "is ahead of that of `three-node` in 6 of 16 searches, without learned parameters in 8, and of random" in TEXT
    )
    assert "functions of `open` in 9.5, where a tie counts a half" in TEXT
    assert "ahead in 6 of 16 searches" in " ".join(PAGE.split())
    assert SearchConfig.model_fields["space"].default == search_spaces.LISTED


def test_the_sentences_say_what_was_measured() -> None:
    pairs = zip(of_arm("open", "test"), of_arm("open-fixed", "test"), strict=True)
    assert sum(learned > fixed for learned, fixed in pairs) == 1
    assert "`open` has the better mean on one of the two tasks" in TEXT
    searches = [row for row in KEPT["results"] if "arm" in row]
    assert "These are 64 searches, which took 4.8 hours" in TEXT
    assert len(searches) == 64
    assert round(sum(row["seconds"] for row in searches) / 3600, 1) == 4.8
    assert sum(row["ahead_of_relu"] for row in KEPT["table"] if row["task"] == "digits-mlp") == 22
    assert "On digits-mlp, 22 of 24 winners are ahead of ReLU" in TEXT
    n_squares = sum("square(" in row["winner"] for row in searches if row["task"] == "friedman")
    assert f"{n_squares} of 40 winners contain a square" in TEXT
    shares = [row["trainings_ahead"] for row in KEPT["table"] if row["task"] == "friedman"]
    assert (f"{min(shares):.0%}", f"{max(shares):.0%}") == ("68%", "76%")
    assert "with 68% to 76% of the seeds that judge" in TEXT


@pytest.fixture
def settings_kept():
    """The script sets the level of the package's logger and the number of threads, as it may in its own process."""
    logger, threads = logging.getLogger("aquasurf_ray"), torch.get_num_threads()
    level = logger.level
    yield
    logger.setLevel(level)
    torch.set_num_threads(threads)


@pytest.mark.usefixtures("settings_kept")
def test_searches_that_are_kept_are_not_repeated(tmp_path: Path, monkeypatch, capsys) -> None:
    kept = tmp_path / "kept.json"
    rows = [
        row for row in KEPT["results"] if row["task"] == "friedman" and row["seed"] in (0, 1, *search_spaces.JUDGES)
    ]
    of_another_recipe = [row | {"task": "digits-mlp", "task_digest": "earlier"} for row in rows]
    kept.write_text(json.dumps({"results": rows + of_another_recipe}))
    arguments = ["--folder", str(tmp_path / "f"), "--tasks", "friedman", "--seeds", "2", "--kept", str(kept)]
    monkeypatch.setattr("sys.argv", ["search_spaces.py", *arguments])
    search_spaces.main()
    document = json.loads(capsys.readouterr().out)
    assert document["results"] == rows
    assert [row["searches"] for row in document["table"]] == [2, 2, 2, 2]
