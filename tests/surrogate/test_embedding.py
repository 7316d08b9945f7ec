"""The embedding: umap-learn's own result where that is defined, and a documented one everywhere else."""

from __future__ import annotations

import subprocess
import sys
import warnings
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from sklearn.manifold import trustworthiness

from aquasurf_ray.activations import SearchSpace, outputs
from aquasurf_ray.surrogate.embedding import Embedding, EmbeddingConfig, embed, embedding_version
from aquasurf_ray.surrogate.errors import SurrogateError

CONFIG = EmbeddingConfig()


@pytest.fixture
def umap() -> Iterator[Any]:
    """The peer, whose warnings are not ours."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import umap

        yield umap


def candidates(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Outputs and spectra that depend on the same three hidden numbers, so that their graphs overlap."""
    rng = np.random.default_rng(seed)
    hidden = rng.normal(size=(n, 3))
    spectra = np.sort(np.abs(hidden @ rng.normal(size=(3, 60))), axis=1)
    return np.tanh(hidden @ rng.normal(size=(3, 100))).astype(np.float32), spectra.astype(np.float32)


def missing(rows: np.ndarray, which: slice) -> np.ndarray:
    rows = rows.copy()
    rows[which] = np.nan
    return rows


@pytest.mark.parametrize("combine", ["union", "intersection"])
@pytest.mark.parametrize("n", [10, 250])
def test_two_features_equal_umaps_own_operator(umap: Any, combine: str, n: int) -> None:
    a, b = candidates(n)
    first = umap.UMAP(n_neighbors=15, metric="euclidean", min_dist=0.1, transform_mode="graph").fit(a)
    second = umap.UMAP(n_neighbors=3, metric="manhattan", min_dist=0.1, transform_mode="graph").fit(b)
    theirs = first + second if combine == "union" else first * second
    np.testing.assert_array_equal(embed(a, b, replace(CONFIG, combine=combine)).coordinates, theirs.embedding_)


@pytest.mark.parametrize(
    ("features", "n_neighbors", "metric"), [("outputs", 15, "euclidean"), ("spectrum", 3, "manhattan")]
)
def test_one_feature_equals_umaps_fit(umap: Any, features: str, n_neighbors: int, metric: str) -> None:
    """The spectrum graph is in many pieces here, which umap-learn lays out by their centroids."""
    a, b = candidates(250)
    theirs = umap.UMAP(n_neighbors=n_neighbors, metric=metric, random_state=7).fit(a if features == "outputs" else b)
    mine = embed(a, b, EmbeddingConfig(features=features, seed=7))
    np.testing.assert_array_equal(mine.coordinates, theirs.embedding_)


def test_near_functions_are_near_on_the_map() -> None:
    names = list(SearchSpace.named("three-node").names())[::16]
    values = np.stack([outputs(name) for name in names]).astype(np.float32)
    tame = values[(np.isfinite(values).all(axis=1)) & (np.abs(values).max(axis=1) < 100)]
    embedding = embed(tame, np.full((len(tame), 1), np.nan))
    assert trustworthiness(tame, embedding.coordinates, n_neighbors=5) > 0.9


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 6, 16])
@pytest.mark.parametrize("features", ["both", "outputs", "spectrum"])
def test_few_candidates_are_placed_apart(n: int, features: str) -> None:
    embedding = embed(*candidates(n), EmbeddingConfig(features=features))
    assert embedding.placed.all()
    assert embedding.coordinates.dtype == np.float32
    assert len(np.unique(embedding.coordinates, axis=0)) == n


def test_three_candidates_keep_the_order_of_their_distances() -> None:
    rows = np.array([[0.0], [1.0], [5.0]], dtype=np.float32)
    x = embed(rows, rows).coordinates.astype(np.float64)
    gaps = [np.linalg.norm(x[i] - x[j]) for i, j in ((0, 1), (1, 2), (0, 2))]
    np.testing.assert_allclose(np.array(gaps) / gaps[2], [0.2, 0.8, 1.0], rtol=1e-5)


def test_without_spectra_the_map_is_that_of_outputs() -> None:
    a, b = candidates(60)
    nothing = missing(b, slice(None))
    only_outputs = embed(a, nothing, replace(CONFIG, features="outputs"))
    np.testing.assert_array_equal(embed(a, nothing).coordinates, only_outputs.coordinates)


def test_candidates_are_placed_by_the_features_they_have() -> None:
    a, b = candidates(90)
    a, b = missing(a, slice(0, 20)), missing(b, slice(10, 40))
    a[40, 3] = np.nan  # undefined somewhere: still placed, by its spectrum
    b[41, 3] = np.inf
    embedding = embed(a, b)
    assert np.flatnonzero(~embedding.placed).tolist() == list(range(10, 20))
    assert np.isnan(embedding.coordinates[~embedding.placed]).all()
    assert np.isfinite(embedding.coordinates[embedding.placed]).all()
    only_spectra = embed(a, b, replace(CONFIG, features="spectrum"))
    assert np.flatnonzero(~only_spectra.placed).tolist() == [*range(10, 40), 41]


def test_a_candidate_without_outputs_lies_beside_its_twin_in_spectrum() -> None:
    a, b = candidates(120)
    b[0] = b[60] * np.float32(1.0001)
    x = embed(missing(a, slice(0, 1)), b).coordinates
    assert np.argsort(np.linalg.norm(x - x[0], axis=1)).tolist().index(60) <= 3


def test_a_lone_spectrum_is_no_neighbourhood() -> None:
    a, b = candidates(30)
    a, b = missing(a, slice(0, 5)), missing(b, slice(1, None))
    assert np.flatnonzero(~embed(a, b).placed).tolist() == [0, 1, 2, 3, 4]


def test_no_features_at_all() -> None:
    a, b = candidates(10)
    assert not embed(missing(a, slice(None)), missing(b, slice(None))).placed.any()


def test_overflow_and_explosion_stay_on_the_map() -> None:
    a, b = candidates(80)
    a[:5], a[5:10], a[10:15] = np.inf, 3e38, -3e38
    embedding = embed(a, missing(b, slice(0, 15)))
    assert embedding.placed.all()


@pytest.mark.parametrize("features", ["both", "outputs", "spectrum"])
@pytest.mark.parametrize("case", ["copies", "pairs", "far clusters", "tight clusters", "complete graph"])
@pytest.mark.slow
def test_degenerate_graphs_are_placed_and_reproducible(case: str, features: str) -> None:
    """On these, umap-learn's spectral initialisation changes from call to call or draws from NumPy's global state."""
    a, b = candidates(60)
    n = np.arange(60)
    if case == "copies":
        a[:], b[:] = 1, 2
    elif case == "pairs":
        a, b = a[n // 2], b[n // 2]
    elif case == "far clusters":
        a, b = a + 1000 * (n // 5)[:, None], b + 1000 * (n // 5)[:, None]
    elif case == "tight clusters":
        a, b = a[n // 6] * np.float32(1e-3), b[n // 6] * np.float32(1e-3)
    else:
        a, b = np.eye(60), np.eye(60)
    config = EmbeddingConfig(features=features)
    before = np.random.get_state()
    first, second = (embed(a.astype(np.float32), b.astype(np.float32), config) for _ in range(2))
    after = np.random.get_state()
    assert first.placed.all()
    np.testing.assert_array_equal(first.coordinates, second.coordinates)
    assert before[2] == after[2]
    np.testing.assert_array_equal(before[1], after[1])


@pytest.mark.slow
def test_another_process_with_other_threads_gives_the_same_map() -> None:
    a, b = candidates(80)
    program = (
        "import sys, numpy as np; from aquasurf_ray.surrogate.embedding import embed;"
        "rows = np.frombuffer(sys.stdin.buffer.read(), np.float32).reshape(80, 160);"
        "sys.stdout.write(embed(rows[:, :100], rows[:, 100:]).coordinates.tobytes().hex())"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        input=np.hstack([a, b]).tobytes(),
        capture_output=True,
        check=True,
        env={"NUMBA_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "PYTHONPATH": ":".join(sys.path)},
    )
    assert done.stdout.decode() == embed(a, b).coordinates.tobytes().hex()


def test_seeds_give_different_maps() -> None:
    a, b = candidates(60)
    assert (embed(a, b, EmbeddingConfig(seed=1)).coordinates != embed(a, b, EmbeddingConfig(seed=2)).coordinates).any()


def test_the_version_is_the_content() -> None:
    a, b = candidates(30)
    version = embedding_version(a, b, CONFIG)
    assert version == embed(a, b).version == embedding_version(a.copy(order="F"), b.astype(np.float64), CONFIG)
    other = a.copy()
    other[3, 4] += np.float32(1e-6)
    changed = {
        embedding_version(other, b, CONFIG),
        embedding_version(a[::-1], b[::-1], CONFIG),
        embedding_version(a, missing(b, slice(0, 1)), CONFIG),
        embedding_version(a, missing(b, slice(1, 2)), CONFIG),
        embedding_version(a[:-1], b[:-1], CONFIG),
        *(embedding_version(a, b, replace(CONFIG, **setting)) for setting in (
            {"seed": 1}, {"features": "outputs"}, {"combine": "intersection"}, {"min_dist": 0.2},
            {"n_neighbors_outputs": 9}, {"n_neighbors_spectrum": 4},
        )),
    }  # fmt: skip
    assert version not in changed
    assert len(changed) == 11


def test_a_missing_row_has_one_version_whatever_its_bits() -> None:
    a, b = candidates(30)
    partly = b.copy()
    partly[0, 5] = np.nan
    assert embedding_version(a, partly, CONFIG) == embedding_version(a, missing(b, slice(0, 1)), CONFIG)


def test_importing_the_room_is_cheap() -> None:
    heavy = ("umap", "numba", "sklearn", "torch", "ray")
    modules = "aquasurf_ray.surrogate.embedding, aquasurf_ray.surrogate.policy"
    program = f"import sys, {modules}; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True, text=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"features": "all"}, "features is 'all'; choose one of both, spectrum, outputs"),
        ({"combine": "sum"}, "combine is 'sum'"),
        ({"n_neighbors_spectrum": 1}, "n_neighbors_spectrum is 1; it must be at least 2"),
        ({"min_dist": -0.1}, "min_dist is -0.1"),
        ({"seed": -1}, "seed is -1"),
    ],
)
def test_bad_settings_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(SurrogateError, match=message):
        EmbeddingConfig(**settings)


def test_bad_arrays_are_refused() -> None:
    a, b = candidates(5)
    with pytest.raises(SurrogateError, match="outputs has 5 rows but spectra 4"):
        embed(a, b[:4])
    with pytest.raises(SurrogateError, match=r"spectra has shape \(5, 0\)"):
        embed(a, b[:, :0])
    with pytest.raises(SurrogateError, match=r"outputs has shape \(100,\)"):
        embed(a[0], b)
    with pytest.raises(SurrogateError, match=r"coordinates have shape \(3, 2\); expected \(4, 2\)"):
        Embedding(np.zeros((3, 2), dtype=np.float32), "v", np.ones(4, dtype=bool))
