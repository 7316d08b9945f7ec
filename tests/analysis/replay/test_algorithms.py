"""Search algorithms by name: what a name means, and that the paper's own configuration stays what it is."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from aquasurf_ray.analysis.benchmarks.benchmark import Benchmark
from aquasurf_ray.analysis.errors import AnalysisError, BenchmarkError
from aquasurf_ray.analysis.replay import features as maps
from aquasurf_ray.analysis.replay.algorithms import make_policy
from aquasurf_ray.analysis.replay.simulation import simulate
from aquasurf_ray.analysis.replay.surrogate_policies import ReplaySettings, parse_settings, surrogate_policy
from aquasurf_ray.surrogate.embedding import EmbeddingConfig, embed
from aquasurf_ray.surrogate.errors import SurrogateError
from aquasurf_ray.surrogate.policy import PredictorPolicy
from aquasurf_ray.surrogate.predictors import MapPredictor
from aquasurf_ray.surrogate.regressors import make_regressor
from aquasurf_ray.surrogate.settings import AQUASURF, METRIC
from aquasurf_ray.surrogate.spectra import feature_matrix


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AQUASURF_CACHE", str(tmp_path_factory.getbasetemp() / "maps"))


@pytest.mark.slow
def test_aquasurf_is_the_papers_own_configuration(synthetic_benchmark: Benchmark) -> None:
    spectra = feature_matrix(synthetic_benchmark.spectra["sampled"], "inverse")
    config = EmbeddingConfig("both", n_neighbors_outputs=15, n_neighbors_spectrum=3, combine="union", seed=42)
    embedding = embed(synthetic_benchmark.outputs, spectra, config)
    by_hand = PredictorPolicy(MapPredictor(embedding, lambda: make_regressor("knr", 7)), seed=7)
    policy = make_policy("aquasurf", synthetic_benchmark, 7)
    for candidate, score in enumerate(synthetic_benchmark.scores[:20]):
        for each in (by_hand, policy):
            each.observe(candidate, None if np.isnan(score) else score)
    assert policy.suggest_batch(20) == by_hand.suggest_batch(20)


def test_a_name_says_the_settings() -> None:
    assert parse_settings("knr/both/umap") == ReplaySettings()
    seeds = parse_settings("knr/both/umap:k=3:weighting=inverse:combine=union:n_neighbors_outputs=15")
    assert seeds == ReplaySettings(**vars(AQUASURF))
    default = "gp/both/metric:targets=ranks:acquisition=ucb:pending=believer"
    assert parse_settings(default) == ReplaySettings(**vars(METRIC))
    found = parse_settings("rfr/spectrum/umap:weighting=size:n_neighbors_spectrum=9:min_dist=0.2")
    wanted = ReplaySettings("rfr", "spectrum", "umap", weighting="size", n_neighbors_spectrum=9, min_dist=0.2)
    assert found == wanted


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        ("randm", AnalysisError, "policy must be random, aquasurf, .*, got 'randm'"),
        (
            "knr/both/umap:neighbours=3",
            AnalysisError,
            "'neighbours=3' in .* is not a setting; write SETTING=VALUE, each once, with: weighting",
        ),
        ("knr/both/umap:n_neighbors_spectrum=x", AnalysisError, "must be int"),
        ("knn/both/umap", SurrogateError, "unknown regressor 'knn'"),
        ("knr/spectra/umap", SurrogateError, "features is 'spectra'"),
        ("knr/both/plane", SurrogateError, "space must be umap or metric, got 'plane'"),
        ("knr/both/metric:acquisition=ei", SurrogateError, "has no uncertainty"),
        ("gp/both/metric:balance=most", SurrogateError, "balance must be .* a share between 0 and 1, got 'most'"),
        ("gp/both/umap:on_demand=3", SurrogateError, "spectra on demand need a single regressor"),
        ("knr/both/umap:fisher=exact", BenchmarkError, "no exact spectra; set fisher=empirical or fisher=sampled"),
    ],
)
def test_a_wrong_name_is_named(synthetic_benchmark: Benchmark, name: str, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        make_policy(name, synthetic_benchmark, 0)


def test_embeddings_are_computed_once(synthetic_benchmark: Benchmark, monkeypatch: pytest.MonkeyPatch) -> None:
    first = make_policy("knr/outputs/umap", synthetic_benchmark, 0)
    monkeypatch.setattr(maps, "embed", None)
    again = make_policy("knr/outputs/umap", replace(synthetic_benchmark), 1)
    assert again.suggest() is not None
    assert first.suggest() is not None
    assert again.suggest().embedding_version == first.suggest().embedding_version
    with pytest.raises(TypeError, match="not callable"):
        make_policy("knr/outputs/umap:layout_seed=1", synthetic_benchmark, 0)


def test_a_damaged_file_of_an_embedding_is_computed_again(
    synthetic_benchmark: Benchmark, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AQUASURF_CACHE", str(tmp_path))
    first = make_policy("knr/spectrum/umap", replace(synthetic_benchmark), 0).suggest()
    (file,) = tmp_path.glob("embedding-*.npz")
    file.write_bytes(file.read_bytes()[:-9])
    with pytest.warns(UserWarning, match="is damaged"):
        assert make_policy("knr/spectrum/umap", replace(synthetic_benchmark), 0).suggest() == first


@pytest.mark.parametrize(
    "name",
    [
        "aquasurf",
        "random",
        "svr/outputs/umap",
        "knr/both/metric:k=5:balance=0.3",
        "gp/both/umap:acquisition=ucb:pending=believer",
        "gp/spectrum/metric:acquisition=ei:targets=ranks",
        "gp/both/metric:balance=learned:diverged=ignore",
        "knr+gp+svr/both/umap+metric",
        "knr/both/metric:spectra=20",
        "knr/both/umap:spectra=20",
        "gp/both/metric:spectra=30:on_demand=2",
    ],
)
@pytest.mark.slow
def test_a_search_is_the_same_each_time(synthetic_benchmark: Benchmark, name: str) -> None:
    first, again, other = (
        simulate(make_policy(name, synthetic_benchmark, 3), synthetic_benchmark, 15, seed=s, workers=2)
        for s in (3, 3, 4)
    )
    assert first.order.tolist() == again.order.tolist()
    assert first.observed.tolist() != other.observed.tolist()


def test_settings_reach_what_they_are_of(synthetic_benchmark: Benchmark) -> None:
    """Each changes what is suggested, on the same results."""
    plain = "gp/both/metric"
    changes = ["balance=0.9", "balance=learned", "weighting=uniform", "fisher=empirical", "spectra=20", "targets=ranks"]
    found = {}
    for name in (
        plain,
        "knr/both/metric",
        "knr/both/metric:k=9",
        "svr/both/metric",
        *(f"{plain}:{c}" for c in changes),
    ):
        policy = make_policy(name, synthetic_benchmark, 0)
        for candidate, score in enumerate(synthetic_benchmark.scores[:25]):
            policy.observe(candidate, None if np.isnan(score) else score)
        suggestion = policy.suggest()
        assert suggestion is not None
        found[name] = suggestion.predicted_score
    assert len(set(found.values())) == len(found)


def test_some_spectra_are_the_same_for_all_algorithms(synthetic_benchmark: Benchmark) -> None:
    """What is known is drawn by the seed, in the metric space as on the map."""
    on_map = make_policy("knr/spectrum/umap:spectra=20", synthetic_benchmark, 3)
    in_metric = make_policy("knr/spectrum/metric:spectra=20", synthetic_benchmark, 3)
    placed = [np.flatnonzero(policy._predictor.placed) for policy in (on_map, in_metric)]  # type: ignore[attr-defined]
    assert placed[0].tolist() == placed[1].tolist()
    assert 15 < len(placed[0]) <= 20
    other = make_policy("knr/spectrum/metric:spectra=20", synthetic_benchmark, 4)._predictor.placed  # type: ignore[attr-defined]
    assert np.flatnonzero(other).tolist() != placed[1].tolist()


def test_layouts_follow_the_seed(synthetic_benchmark: Benchmark) -> None:
    settings = ReplaySettings(features="outputs", layouts=2)
    versions = [surrogate_policy(settings, synthetic_benchmark, seed).suggest().embedding_version for seed in (0, 1, 2)]  # type: ignore[union-attr]
    assert versions[0] == versions[2] != versions[1]


def test_without_a_word_spectra_are_of_the_kind_that_the_benchmark_has(synthetic_benchmark: Benchmark) -> None:
    """A file of Act-Bench has empirical ones only."""
    empirical = replace(synthetic_benchmark, spectra={"empirical": synthetic_benchmark.spectra["empirical"]})
    for name, said in (
        ("knr/both/metric", "knr/both/metric:fisher=empirical"),
        ("metric", "gp/both/metric:acquisition=ucb:targets=ranks:pending=believer:fisher=empirical"),
    ):
        searched = (
            simulate(make_policy(n, b, 1), b, 12, seed=1) for n, b in ((name, empirical), (said, synthetic_benchmark))
        )
        assert len({trace.order.tobytes() for trace in searched}) == 1
    with pytest.raises(BenchmarkError, match="'synthetic' has no sampled spectra; set fisher=empirical"):
        make_policy("knr/both/metric:fisher=sampled", empirical, 1)
    with pytest.raises(
        BenchmarkError, match="'synthetic' has no sampled spectra; it has none: search by features 'outputs'"
    ):
        make_policy("metric", replace(synthetic_benchmark, spectra={}), 1)


@pytest.mark.parametrize(
    "name", ["aquasurf", "metric", "evolution", "gp/both/metric:balance=learned", "knr+svr/both/metric"]
)
def test_no_algorithm_knows_what_it_was_not_told(synthetic_benchmark: Benchmark, name: str) -> None:
    """With other figures for all trainings but those that it saw, a search does the same."""
    seen = simulate(make_policy(name, synthetic_benchmark, 2), synthetic_benchmark, 12, seed=2, workers=3)
    told = np.zeros(synthetic_benchmark.seed_scores.shape, dtype=bool)
    told[[*seen.order, *synthetic_benchmark.baselines], 2] = True
    rng = np.random.default_rng(0)
    made_up = rng.random(told.shape)
    other = replace(
        synthetic_benchmark,
        seed_scores=np.where(told, synthetic_benchmark.seed_scores, made_up),
        test_scores=made_up,
        seconds=np.where(told, synthetic_benchmark.seconds, 9 + made_up),
        other_metrics={"train_loss": made_up},
    )
    assert simulate(make_policy(name, other, 2), other, 12, seed=2, workers=3).order.tolist() == seen.order.tolist()
