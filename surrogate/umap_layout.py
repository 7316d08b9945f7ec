"""UMAP of one or two features in two dimensions, assembled from umap-learn's own parts.

Format: a `Feature` has one row a candidate and marks the usable rows; graphs are sparse [n, n] with empty rows for the
others, so that a candidate with only one usable feature still takes part in the union.

For complete data the coordinates equal umap-learn's to the last bit: those of `UMAP.fit` for one feature, those of `+`
or `*` for two fits with transform_mode="graph" (with newer SciPy, a fit that is laid out loses weak edges on the way).
They differ in two cases. Where umap-learn's spectral initialisation changes from call to call (ARPACK restarts from
unseeded noise on degenerate graphs, and graphs of two features in more than four pieces draw from NumPy's global
state), the layout starts from seeded random positions, as umap-learn's does for a union in pieces. And neighbours are
exact at any size, while umap-learn approximates them from 4,096 candidates on.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse.csgraph import connected_components

from aquasurf_ray.surrogate.compilation import keep_umap_compiled
from aquasurf_ray.surrogate.neighbors import Metric, nearest_neighbors

Floats = NDArray[np.float32]
Mask = NDArray[np.bool_]
Combination = Literal["union", "intersection"]

_EPOCHS = 500  # umap-learn's number for up to 10,000 points
_MAX_PIECES = 4  # without data, umap-learn places these by a rule; for more it uses NumPy's global random state


@dataclass(frozen=True, eq=False)
class Feature:
    """One view of the candidates.

    Args:
        name: "outputs" or "spectrum".
        rows: float32 [n, d], finite where usable.
        usable: bool [n].
        metric: the metric between rows.
        n_neighbors: the size of a neighbourhood, the candidate itself included.
    """

    name: str
    rows: Floats
    usable: Mask
    metric: Metric
    n_neighbors: int

    def subset(self, mask: Mask) -> Feature:
        """Return the same view of some candidates."""
        if mask.all():
            return self
        return Feature(self.name, self.rows[mask], self.usable[mask], self.metric, self.n_neighbors)

    def shared(self) -> Feature:
        """Return the same view, but without its usable row if that is the only one among many and has no neighbour."""
        if self.usable.sum() != 1 or len(self.usable) == 1:
            return self
        return Feature(self.name, self.rows, np.zeros_like(self.usable), self.metric, self.n_neighbors)


def umap_layout(features: Sequence[Feature], combine: Combination, min_dist: float, seed: int) -> Floats:
    """Return the coordinates of n >= 4 candidates, float32 [n, 2]; NaN for a candidate without any neighbour.

    Args:
        features: one or two, each with at least two usable rows; every candidate usable in one of them.
        combine: how the fuzzy graphs of two features are joined.
        min_dist: UMAP's setting of this name, 0 to 1.
        seed: the random seed of the layout.
    """
    with _benign_warnings_silenced():
        keep_umap_compiled()
        graph = _combined_graph(features, combine)
        return _lay_out(graph, features[0] if len(features) == 1 else None, min_dist, seed)


def _combined_graph(features: Sequence[Feature], combine: Combination) -> Any:
    from umap.umap_ import general_simplicial_set_intersection, general_simplicial_set_union, reset_local_connectivity

    graphs = [_fuzzy_graph(feature) for feature in features]
    if len(graphs) == 1:
        return graphs[0]
    # What umap-learn's operators + and * do; 0.5 is its weight for two views that count equally.
    if combine == "union":
        combined = general_simplicial_set_union(*graphs)
    else:
        combined = general_simplicial_set_intersection(*graphs, 0.5)
    return reset_local_connectivity(combined, reset_local_metric=True)


def _fuzzy_graph(feature: Feature) -> Any:
    """Return UMAP's fuzzy simplicial set of the usable rows, [n, n] with empty rows for the others."""
    from umap.umap_ import fuzzy_simplicial_set

    rows = np.ascontiguousarray(feature.subset(feature.usable).rows)
    # umap-learn's rule for small sets is m - 1; at least 2, so that two points are neighbours
    k = feature.n_neighbors if len(rows) > feature.n_neighbors else max(2, len(rows) - 1)
    indices, distances = nearest_neighbors(rows, k, feature.metric)
    # Its random state is for approximate neighbours; the exact ones are given, so it is never drawn from.
    graph, _, _ = fuzzy_simplicial_set(
        rows, k, np.random.RandomState(0), feature.metric, knn_indices=indices, knn_dists=distances.astype(np.float32)
    )
    n = len(feature.usable)
    if len(rows) == n:
        return graph
    positions = np.flatnonzero(feature.usable)
    edges = graph.tocoo()
    return sparse.csr_matrix((edges.data, (positions[edges.row], positions[edges.col])), shape=(n, n))


def _lay_out(graph: Any, data: Feature | None, min_dist: float, seed: int) -> Floats:
    from umap.umap_ import find_ab_params, simplicial_set_embedding

    a, b = find_ab_params(1.0, min_dist)
    # Edges are all that moves a point, so the place of one without edges would mean nothing.
    isolated = np.asarray(graph.sum(axis=1)).ravel() == 0
    random_state = np.random.RandomState(seed)
    start = _spectral_start(graph, data, random_state)
    coordinates, _ = simplicial_set_embedding(
        data=None,
        graph=graph,
        n_components=2,
        initial_alpha=1.0,
        a=a,
        b=b,
        gamma=1.0,
        negative_sample_rate=5,
        n_epochs=_EPOCHS,
        init="random" if start is None else start,
        random_state=np.random.RandomState(seed) if start is None else random_state,
        metric="euclidean",
        metric_kwds={},
        densmap=False,
        densmap_kwds={},
        output_dens=False,
        parallel=False,  # the parallel layout is not deterministic
    )
    result: Floats = coordinates
    result[isolated] = np.nan
    return result


def _spectral_start(graph: Any, data: Feature | None, random_state: np.random.RandomState) -> Floats | None:
    """Return umap-learn's spectral start [n, 2], with noise from random_state; None for random positions."""
    from umap.umap_ import noisy_scale_coords

    pruned = _without_weak_edges(graph)
    if data is None and (_pieces(graph) > 1 or _pieces(pruned) > _MAX_PIECES):
        return None
    # Two computations from the same random state: where they differ, ARPACK restarted from noise of its own.
    rehearsal = np.random.RandomState()
    rehearsal.set_state(random_state.get_state())
    first, again = (_spectral_layout(pruned, data, state) for state in (rehearsal, random_state))
    if not (np.isfinite(first).all() and np.array_equal(first, again)):
        return None
    positions: Floats = noisy_scale_coords(again, random_state)
    return positions


def _spectral_layout(pruned: Any, data: Feature | None, random_state: np.random.RandomState) -> Floats:
    from umap.spectral import spectral_layout

    if data is None:
        positions = spectral_layout(None, pruned, 2, random_state)
    else:
        positions = spectral_layout(data.rows, pruned, 2, random_state, metric=data.metric)
    return np.asarray(positions)


def _without_weak_edges(graph: Any) -> Any:
    """Return the graph without the edges that the layout drops: those below 1/epochs of the strongest."""
    pruned = graph.tocoo(copy=True)
    pruned.sum_duplicates()
    pruned.data[pruned.data < pruned.data.max() / float(_EPOCHS)] = 0.0
    pruned.eliminate_zeros()
    return pruned


def _pieces(graph: Any) -> int:
    return int(connected_components(graph)[0])


@contextmanager
def _benign_warnings_silenced() -> Iterator[None]:
    """Silence umap-learn's warnings about cases handled here (no TensorFlow, random start, many components)."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Tensorflow not installed", category=ImportWarning)
        warnings.filterwarnings("ignore", message="Spectral initialisation failed", category=UserWarning)
        warnings.filterwarnings("ignore", message="Graph is not fully connected", category=UserWarning)
        yield
