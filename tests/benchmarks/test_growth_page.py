"""What docs/scale.md says of growth is what the kept results give."""

from __future__ import annotations

import json
from pathlib import Path

ROOT = Path(__file__).parents[2]
KEPT = ROOT / "benchmarks/results/2-core-x86_64-vm"
SECTION = (ROOT / "docs/scale.md").read_text(encoding="utf-8").partition("## A search of the open space")[2]
TEXT = " ".join(SECTION.partition("\n## ")[0].split())


def test_an_open_search_spends_its_time_on_trainings_spectra_and_costs() -> None:
    kept = json.loads((KEPT / "open_search_real.json").read_text(encoding="utf-8"))
    assert (kept["arguments"]["real"], kept["evaluations"]) == (True, 200 + 8)
    jobs = kept["job_seconds"]
    outside = 1 - sum(jobs.values()) / (kept["arguments"]["workers"] * kept["search_seconds"])
    assert outside < 0.05
    said = f"{jobs['train']} s of trainings, {jobs['spectra']} s of spectra and {jobs['costs']} s of costs in the"
    assert f"{said} {kept['search_seconds']} s" in TEXT
    assert f"are without a job for {outside:.1%} of that time" in TEXT
    assert f"as far as its {kept['driver_cpu_seconds']} s of processor time" in TEXT
    assert f"grows {kept['candidates']:,} candidates in all" in TEXT


def test_it_does_so_with_simulated_workers() -> None:
    kept = json.loads((KEPT / "open_search.json").read_text(encoding="utf-8"))
    assert kept["evaluations"] == 200 + 8
    assert kept["outside_share"] < 0.05
    assert f"without work for {kept['outside_share']:.1%} of the time" in TEXT
    assert f"{kept['driver_cpu_seconds']} s of {kept['search_seconds']:.0f} s" in TEXT
    assert f"{kept['growth_seconds']} s for {kept['generations']} generations" in TEXT
    assert f"{kept['suggestion_seconds']} s for the suggestions" in TEXT
    given = kept["arguments"]
    seconds = [given[name] for name in ("training_seconds", "spectrum_seconds", "cost_seconds")]
    assert f"{seconds[0]} s for a training, {seconds[1]} s for a spectrum, {seconds[2]} s for a cost" in TEXT


def test_growth_makes_at_least_two_thousand_functions_a_second() -> None:
    rate = json.loads((KEPT / "growth.json").read_text(encoding="utf-8"))["candidates_per_cpu_second"]
    assert rate > 2000
    assert f"{rate:,.0f} functions per second of one core" in TEXT
