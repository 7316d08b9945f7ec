"""The experiments behind the evidence: every algorithm in them can be made, and what is told of them."""

from __future__ import annotations

import numpy as np
import pytest

from aquasurf_ray.analysis.errors import AnalysisError
from aquasurf_ray.analysis.replay import features as maps
from aquasurf_ray.analysis.replay.algorithms import check_policy, make_policy
from aquasurf_ray.analysis.replay.comparison import compare
from aquasurf_ray.analysis.replay.experiments import EXPERIMENTS, Experiment, Variant, experiments_named, section
from aquasurf_ray.analysis.replay.simulation import simulate
from aquasurf_ray.analysis.replay.transfer import OTHERS, TRANSFER, parse_transfer
from aquasurf_ray.surrogate.embedding import Embedding, embedding_version

ALL_POLICIES = sorted({variant.policy for experiment in EXPERIMENTS.values() for variant in experiment.variants})
MADE_HERE = [name for name in ALL_POLICIES if not name.startswith(TRANSFER)]


def laid_out_at_random(outputs, spectra, config):
    """An embedding without UMAP."""
    points = np.random.default_rng(config.seed).normal(size=(len(outputs), 2)).astype(np.float32)
    return Embedding(points, embedding_version(outputs, spectra, config), np.ones(len(outputs), dtype=bool))


def test_every_algorithm_can_be_made_and_suggests(synthetic_benchmark, monkeypatch, tmp_path):
    monkeypatch.setenv("AQUASURF_CACHE", str(tmp_path))
    monkeypatch.setattr(maps, "embed", laid_out_at_random)
    for name in MADE_HERE:
        check_policy(name)
        policy = make_policy(name, synthetic_benchmark, 0)
        for candidate in synthetic_benchmark.baselines.tolist():
            policy.observe(candidate, float(synthetic_benchmark.scores[candidate]))
        assert policy.suggest().candidate not in synthetic_benchmark.baselines, name


def test_every_installed_benchmark_is_a_source_of_results():
    named = [parse_transfer(name).source for name in ALL_POLICIES if name.startswith(TRANSFER)]
    assert OTHERS in named


def test_an_experiment_has_a_question_a_reference_and_no_variant_twice():
    for experiment in EXPERIMENTS.values():
        assert experiment.question.endswith(("?", "."))
        assert len(set(experiment.variants)) == len(experiment.variants) > 1
        assert experiment.reference == experiment.variants[0].label


def test_experiments_are_chosen_by_name_the_grid_on_demand_only():
    assert list(experiments_named(["fisher", "k"])) == ["fisher", "k"]
    on_demand = {
        "grid",
        "families",
        "choices",
        "shares",
        "reflections",
        "from-others",
        "from-digits",
        "from-digits-mlp",
    }
    assert set(EXPERIMENTS) - set(experiments_named([])) == on_demand
    grid = {variant.policy.split(":")[0] for variant in experiments_named(["grid"])["grid"].variants}
    assert len(grid) == 4 * 3 * 2
    with pytest.raises(AnalysisError, match=r"experiment must be one of rivals, default, features, .*, got 'layers'"):
        experiments_named(["k", "layers"])


def test_a_section_has_a_row_a_variant_and_times_where_workers_differ(synthetic_benchmark):
    experiment = Experiment("What does parallelism cost?", (Variant("random"), Variant("random", 4)))
    traces = {
        variant.label: [
            simulate(
                make_policy("random", synthetic_benchmark, seed),
                synthetic_benchmark,
                10,
                seed=seed,
                workers=variant.workers,
            )
            for seed in range(4)
        ]
        for variant in experiment.variants
    }
    text = section("parallel", experiment, compare(traces, synthetic_benchmark, "random"))
    head, _, question, _, columns, _, alone, four = text.splitlines()
    assert (head, question) == ("### parallel", "What does parallelism cost?")
    assert columns.endswith("| seconds to top 1% |")
    assert alone.startswith("| random |")
    assert four.startswith("| random, 4 workers |")
    same = Experiment("?", (Variant("random"),))
    assert "seconds" not in section("k", same, compare({"random": traces["random"]}, synthetic_benchmark, "random"))
