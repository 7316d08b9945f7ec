"""The page on benchmarks does as it is printed: features, and an algorithm of one's own against random search."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pages import blocks

from aquasurf_ray.analysis.replay.surrogate_policies import ReplaySettings, parse_settings

PAGE = "docs/benchmarks.md"


@pytest.mark.slow
def test_a_custom_algorithm_in_ten_lines_is_compared_with_others(capsys: pytest.CaptureFixture[str]) -> None:
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
    assert regrets["knr/both/metric"] < regrets["random"] < np.nanmax(found.scores)


def test_the_names_that_the_page_gives_are_such() -> None:
    rows = [
        line.split("|")[1].strip(" `")
        for line in Path(__file__).parents[2].joinpath(PAGE).read_text().splitlines()
        if line.startswith("| `")
    ]
    assert len(rows) == 10
    parsed = [parse_settings(name) for name in rows]
    assert parsed[0] == ReplaySettings()
    assert len(set(parsed)) == 10
