"""The page on benchmarks does as it is printed: features, and an algorithm of one's own against random search."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_benchmark import made_benchmark
from pages import blocks

from aquasurf_ray.analysis import benchmark as benchmarks
from aquasurf_ray.analysis import write_benchmark
from aquasurf_ray.analysis.surrogates import parse_settings
from surrogate.settings import SurrogateSettings

PAGE = "docs/benchmarks.md"
NAME = "act-bench-digits"


@pytest.fixture
def shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A made benchmark in the place of the one that is shipped, where that is not there yet."""
    if not (benchmarks.SHIPPED / f"{NAME}.parquet").exists():
        write_benchmark(made_benchmark(400), tmp_path / f"{NAME}.parquet")
        monkeypatch.setattr(benchmarks, "SHIPPED", tmp_path)


@pytest.mark.usefixtures("shipped")
def test_an_algorithm_of_ones_own_in_ten_lines_beats_random_search(capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, Any] = {}
    for block in blocks(PAGE, "python"):
        exec(block, names)
    found = names["benchmark"]
    assert names["outputs"].shape == (len(found), 1000)
    assert len(names["spectra"]) == len(found)
    (own,) = (block for block in blocks(PAGE, "python") if "class" in block)
    assert len([line for line in own.splitlines() if line.strip()]) <= 12
    lines = [line.rsplit(" ", 1) for line in capsys.readouterr().out.splitlines()]
    regrets = {name: float(value) for name, value in lines if name in ("near best", "random", "knr/both/metric")}
    assert len(regrets) == 3
    better = ("knr/both/metric",) if found.name == "made" else ("near best", "knr/both/metric")
    assert max(regrets[name] for name in better) < regrets["random"] < np.nanmax(found.scores)


def test_the_names_that_the_page_gives_are_such() -> None:
    rows = [
        line.split("|")[1].strip(" `")
        for line in Path(__file__).parents[2].joinpath(PAGE).read_text().splitlines()
        if line.startswith("| `")
    ]
    assert len(rows) == 9
    parsed = [parse_settings(name) for name in rows]
    assert parsed[0] == SurrogateSettings()
    assert len(set(parsed)) == 9
