"""Search algorithms by name: what a name means, and that the seed's own configuration stays what it is."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from made_benchmark import made_benchmark

from aquasurf_ray.analysis import maps
from aquasurf_ray.analysis.benchmark import Benchmark
from aquasurf_ray.analysis.errors import AnalysisError, BenchmarkError
from aquasurf_ray.analysis.search_algorithms import SurrogateSettings, make_policy
from aquasurf_ray.analysis.simulation import simulate
from surrogate.embedding import EmbeddingConfig, embed
from surrogate.errors import SurrogateError
from surrogate.policy import SurrogatePolicy
from surrogate.spectra import feature_matrix


@pytest.fixture(scope="module")
def made() -> Benchmark:
    return made_benchmark()


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AQUASURF_CACHE", str(tmp_path_factory.getbasetemp() / "maps"))


def test_aquasurf_is_the_seeds_own_configuration(made: Benchmark) -> None:
    spectra = feature_matrix(made.spectra["sampled"], "inverse")
    config = EmbeddingConfig("both", n_neighbors_outputs=15, n_neighbors_spectrum=3, combine="union", seed=42)
    by_hand = SurrogatePolicy(embed(made.outputs, spectra, config), "knr", seed=7)
    policy = make_policy("aquasurf", made, 7)
    for candidate, score in enumerate(made.scores[:20]):
        for each in (by_hand, policy):
            each.observe(candidate, None if np.isnan(score) else score)
    assert policy.suggest_batch(20) == by_hand.suggest_batch(20)


def test_a_name_says_the_settings() -> None:
    assert SurrogateSettings.parse("knr/both/umap") == SurrogateSettings()
    found = SurrogateSettings.parse("rfr/spectrum/umap:weighting=size:n_neighbors_spectrum=9:min_dist=0.2")
    wanted = SurrogateSettings("rfr", "spectrum", "umap", weighting="size", n_neighbors_spectrum=9, min_dist=0.2)
    assert found == wanted


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        ("randm", AnalysisError, "unknown search algorithm 'randm'; give random, aquasurf"),
        ("knr/both/umap:neighbours=3", AnalysisError, "'neighbours=3' in .* is no setting; there are: weighting"),
        ("knr/both/umap:n_neighbors_spectrum=x", AnalysisError, "must be int"),
        ("knn/both/umap", SurrogateError, "unknown regressor 'knn'"),
        ("knr/spectra/umap", SurrogateError, "features is 'spectra'"),
        ("knr/both/plane", SurrogateError, "space is 'plane'"),
        ("knr/both/umap:fisher=exact", BenchmarkError, "no exact spectra; it has: empirical, sampled"),
    ],
)
def test_a_wrong_name_is_told(made: Benchmark, name: str, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        make_policy(name, made, 0)


def test_embeddings_are_made_once(made: Benchmark, monkeypatch: pytest.MonkeyPatch) -> None:
    first = make_policy("knr/outputs/umap", made, 0)
    monkeypatch.setattr(maps, "embed", None)
    again = make_policy("knr/outputs/umap", replace(made), 1)
    assert isinstance(first, SurrogatePolicy)
    assert isinstance(again, SurrogatePolicy)
    np.testing.assert_array_equal(again.embedding.coordinates, first.embedding.coordinates)
    with pytest.raises(TypeError, match="not callable"):
        make_policy("knr/outputs/umap:layout_seed=1", made, 0)


def test_a_damaged_file_of_an_embedding_is_made_anew(
    made: Benchmark, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AQUASURF_CACHE", str(tmp_path))
    first = make_policy("knr/spectrum/umap", replace(made), 0).suggest()
    (file,) = tmp_path.glob("embedding-*.npy")
    file.write_bytes(file.read_bytes()[:-9])
    with pytest.warns(UserWarning, match="is damaged"):
        assert make_policy("knr/spectrum/umap", replace(made), 0).suggest() == first


@pytest.mark.parametrize("name", ["aquasurf", "random", "svr/outputs/umap"])
def test_a_search_is_the_same_each_time(made: Benchmark, name: str) -> None:
    first, again, other = (simulate(make_policy(name, made, 3), made, 15, seed=s, workers=2) for s in (3, 3, 4))
    assert first.order.tolist() == again.order.tolist()
    assert first.observed.tolist() != other.observed.tolist()
