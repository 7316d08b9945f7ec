"""The table of early stopping in docs/evidence.md, and the sentences around it, are what the kept replays give."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pausing
from kept_trainings import PAGE
from scipy.stats import spearmanr

from aquasurf_ray.analysis import load_benchmark
from aquasurf_ray.analysis.replay.early_stopping.pausing import RULES
from aquasurf_ray.driver.run.early_stopping import CHANCE
from aquasurf_ray.driver.settings.models import SearchConfig
from aquasurf_ray.surrogate.learning_curves import checked_epochs

RESULTS = Path(__file__).parents[2] / "benchmarks/results/2-core-x86_64-vm"
KEPT = [json.loads(line) for line in (RESULTS / "pausing.jsonl").read_text().splitlines()]
MLP, DIGITS, FRIEDMAN, VIT, MNIST1D = ({row["rule"]: row for row in kept["rules"]} for kept in KEPT)
CURVES = f"chance of {CHANCE}, resumed"
SECTION = PAGE.partition("### Early stopping")[2].partition("\n## ")[0]
TEXT = " ".join(SECTION.split())


def test_the_table_has_every_rule_as_it_was_measured() -> None:
    body = SECTION.partition("<!-- pausing -->")[2].partition("<!-- end of pausing -->")[0]
    assert body.strip() == pausing.table(KEPT)
    names = [kept["benchmark"].removeprefix("act-bench-") for kept in KEPT]
    assert names == ["digits-mlp", "digits", "friedman", "digits-vit", "mnist1d"]
    for name, kept in zip(names, KEPT, strict=True):
        assert [row["rule"] for row in kept["rules"]] == list(RULES)
        assert f"{name} ({kept['epochs']} epochs)" in TEXT
        assert (kept["runs"], kept["trainings"], kept["half"]) == (20, 40, "all")


def test_the_sentences_say_what_was_measured() -> None:
    median, full = FRIEDMAN["median"], FRIEDMAN["full trainings"]
    said = f"leaves a regret of {median['regret']:.4f} instead of {full['regret']:.4f} (p = {median['p regret']:.2g})"
    assert said in TEXT
    median = DIGITS["median"]
    assert f"with {median['to top 0.1%']:.1f} trainings to the top 0.1% and more than 40 without it" in TEXT
    assert f"do not confirm (p = {median['p 0.1%']:.2g})" in TEXT
    full, curves = MLP["full trainings"], MLP[CURVES]
    said = f"{curves['to top 1%']:.1f} trainings to the top 1% of digits-mlp instead of {full['to top 1%']:.1f}"
    assert f"{said} (p = {curves['p 1%']:.2g})" in TEXT
    whole, median, curves = (FRIEDMAN[rule] for rule in ("full trainings", "median", CURVES))
    assert f"find the top 1% in {1 - whole['never']:.0%} of the runs, and with the median rule in" in TEXT
    assert f"rule in {1 - median['never']:.0%} (p = {median['p 1%']:.2g})" in TEXT
    said = (
        f"{1 - curves['never']:.0%} instead of {1 - whole['never']:.0%} (p = {curves['p 1%']:.2g} for the epochs to it)"
    )
    assert said in TEXT
    tenth = FRIEDMAN["chance of 0.1, resumed"]["regret"]
    assert f"it loses less (a regret of {curves['regret']:.4f} instead of {tenth:.4f})" in TEXT
    thawed, laws = (FRIEDMAN[f"{model}, 0.1, resumed"]["regret"] for model in ("freeze-thaw", "power laws"))
    assert f"the regret is {thawed:.4f}, with fitted power laws {laws:.4f}" in TEXT
    whole, curves = DIGITS["full trainings"]["regret"], DIGITS[CURVES]["regret"]
    assert f"a regret of {curves:.4f} where whole trainings have {whole:.4f}" in TEXT
    whole, curves, median = (VIT[rule] for rule in ("full trainings", CURVES, "median"))
    said = f"takes {curves['to top 1%']:.1f} trainings and with whole ones {whole['to top 1%']:.1f}"
    assert median["never"] > 0.5
    assert f"{said} (p = {curves['p 1%']:.2f}), with the median rule more than 40 (p = {median['p 1%']:.2g})" in TEXT
    assert {row["to top 1%"] for row in MNIST1D.values()} == {1.0}
    whole, curves = MNIST1D["full trainings"]["to top 0.1%"], MNIST1D[CURVES]
    said = "On mnist1d all rules find the top 1% with the first training, and the top 0.1% takes"
    assert f"{said} {curves['to top 0.1%']:.1f} instead of {whole:.1f} (p = {curves['p 0.1%']:.2f})" in TEXT


def test_early_scores_tell_as_much_as_the_page_says() -> None:
    found = []
    for path in ("act-bench-digits-mlp", "act-bench-digits", "act-bench-friedman"):
        benchmark = load_benchmark(path)
        final, curves = benchmark.seed_scores[:, 0], benchmark.curves[:, 0]
        better = np.flatnonzero(final >= np.nanmedian(final))
        look = checked_epochs(curves.shape[1])[0]
        found.append(spearmanr(curves[better, look - 1], final[better]).statistic)
    said = "is {:.2f} on digits-mlp, {:.2f} on digits and {:.2f} on friedman".format(*found)
    assert said in TEXT


def test_no_rule_is_the_default_because_none_is_better_anywhere() -> None:
    measures = ("to top 1%", "to top 0.1%", "regret")
    for rows in (MLP, DIGITS, FRIEDMAN, VIT, MNIST1D):
        full = rows["full trainings"]
        better = [
            (rule, measure)
            for rule, row in rows.items()
            for measure in measures
            if rule != "full trainings"
            and row[measure] < full[measure]
            and row[f"p {measure.removeprefix('to top ')}"] < 0.05
        ]
        assert better == []
    assert "No rule is significantly better than whole trainings on any network" in TEXT
    assert SearchConfig.model_fields["early_stop"].default == "off"
