"""The time of a suggestion: one map per candidate set and a fit of the results, compared with a map per suggestion.

Prints one JSON document. For 300, 1,000 and 5,000 candidates: seconds of one embedding (after a small warm-up, in which
numba compiles, reported separately), its processor seconds, seconds of its digest, and milliseconds from a new result
to the next suggestion for every regressor, with no and with eight candidates pending. For comparison, in the same run
and equally warmed up, the time of a suggestion when umap-learn lays out both features and their union again for each
one, as the authors' code does. Then the surrogate in the metric space: seconds until it is ready (the features'
medians), seconds of the first suggestion (the distances to all results so far), and milliseconds of the next ones
(median, worst, and the mean of processor time), each after the result of one more function, whose distances are new.
Last, batches of 256 suggestions as the process of suggestions makes them for many workers, each after the results of
the batch before: suggestions per second and per second of processor time, the distances of the suggested functions
included. Once with scores that depend on the features, the distance to the nearest of three functions with a fifth of
its deviation as noise; and once with scores that do not, where no candidate can be ruled out early.
The load average shows the machine's other load.

Outputs are those of real functions, drawn from the four-node space. Spectra are synthetic (real ones of 5,000 functions
take hours): nine layers of sorted quantiles that depend on the outputs, in the width of All-CNN-C's features.

    python benchmarks/suggestion.py [--candidates 300 1000 5000] [--results 300] [--peer-up-to 1000] [--output FILE]
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import statistics
import time
import warnings
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import numpy as np

from aquasurf_ray.activations import SearchSpace, outputs
from aquasurf_ray.surrogate.embedding import Embedding, EmbeddingConfig, embed, embedding_version
from aquasurf_ray.surrogate.metric_space import FeatureDistances
from aquasurf_ray.surrogate.policy import PredictorPolicy
from aquasurf_ray.surrogate.predictors import MapPredictor
from aquasurf_ray.surrogate.regressors import REGRESSORS, make_regressor
from aquasurf_ray.surrogate.settings import METRIC, policy_of

LAYERS, COLUMNS_PER_LAYER = 9, 512
N_PENDING = 8
REPEATS = 15
N_BATCHES = 4
LARGEST_BATCH = 256  # as in `driver.suggestions.ahead`


def main() -> None:
    """Measure every set of candidates."""
    arguments = _arguments()
    load = os.getloadavg()[0]
    all_outputs, all_spectra = _features(max(arguments.candidates))
    warm_up = _seconds(lambda: embed(all_outputs[:50], all_spectra[:50]))
    _umap_again(all_outputs[:50], all_spectra[:50])
    rows = [_measure(all_outputs[:n], all_spectra[:n], arguments) for n in arguments.candidates]
    versions = {name: metadata.version(name) for name in ("umap-learn", "numba", "numpy", "scipy", "scikit-learn")}
    document = {
        "benchmark": "suggestion",
        "python": platform.python_version(),
        "versions": versions,
        "cpus": os.cpu_count(),
        "load_average_at_start": round(load, 2),
        "load_average_at_end": round(os.getloadavg()[0], 2),
        "spectrum_columns": all_spectra.shape[1],
        "warm_up_seconds": round(warm_up, 2),
        "rows": rows,
        "peak_memory_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
    }
    text = json.dumps(document, indent=2)
    print(text)
    if arguments.output:
        arguments.output.write_text(text + "\n", encoding="utf-8")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Time of an embedding and of a suggestion.")
    parser.add_argument("--candidates", type=int, nargs="+", default=[300, 1000, 5000])
    parser.add_argument("--results", type=int, default=300, help="trained candidates, at most half of all")
    parser.add_argument(
        "--peer-up-to", type=int, default=1000, help="largest set on which umap-learn recomputes the map"
    )
    parser.add_argument("--output", type=Path, help="write the document to a file too")
    return parser.parse_args()


def _measure(features: np.ndarray, spectra: np.ndarray, arguments: argparse.Namespace) -> dict[str, object]:
    n = len(features)
    results = min(arguments.results, n // 2)
    started, processor = time.perf_counter(), time.process_time()
    embedding = embed(features, spectra)
    seconds, processor = time.perf_counter() - started, time.process_time() - processor
    suggest_ms = {name: _suggest_ms(embedding, name, results, 0) for name in REGRESSORS}
    row: dict[str, object] = {
        "candidates": n,
        "placed": int(embedding.placed.sum()),
        "results": results,
        "embed_seconds": round(seconds, 2),
        "embed_processor_seconds": round(processor, 2),
        "version_seconds": round(_seconds(lambda: embedding_version(features, spectra, EmbeddingConfig())), 3),
        "suggest_ms": suggest_ms,
        f"suggest_ms_with_{N_PENDING}_pending": {
            name: _suggest_ms(embedding, name, results, N_PENDING) for name in REGRESSORS
        },
        "metric": _metric(features, spectra, results, 0),
        f"metric_with_{N_PENDING}_pending": _metric(features, spectra, results, N_PENDING),
        "metric_batches": _batches(features, spectra, results, _scores_of),
        "metric_batches_of_random_scores": _batches(
            features, spectra, results, lambda distances, rng: rng.uniform(size=len(distances[0]))
        ),
    }
    if n <= arguments.peer_up_to:
        recompute = _seconds(lambda: _umap_again(features, spectra))
        row["recomputing_the_map_ms"] = round(recompute * 1e3)
        row["times_faster_knr"] = round(recompute * 1e3 / suggest_ms["knr"]["median"])
    return row


def _suggest_ms(embedding: Embedding, regressor: str, results: int, n_pending: int) -> dict[str, float]:
    """Return the milliseconds from one more result to the next suggestion: median and worst."""
    rng = np.random.default_rng(0)
    order = rng.permutation(np.flatnonzero(embedding.placed)).tolist()
    policy = PredictorPolicy(MapPredictor(embedding, lambda: make_regressor(regressor, 0)), seed=0)
    for candidate in order[:results]:
        policy.observe(candidate, float(rng.uniform()) if rng.random() > 0.1 else None)
    pending = order[results : results + n_pending]

    def step() -> None:
        policy.observe(order[0], float(rng.uniform()))
        policy.suggest(pending)

    step()
    milliseconds = [_seconds(step) * 1e3 for _ in range(REPEATS)]
    return {"median": round(statistics.median(milliseconds), 2), "worst": round(max(milliseconds), 2)}


def _metric(features: np.ndarray, spectra: np.ndarray, results: int, n_pending: int) -> dict[str, float]:
    started = time.perf_counter()
    distances = [FeatureDistances(features, "euclidean"), FeatureDistances(spectra, "manhattan")]
    prepared = time.perf_counter() - started
    policy = policy_of(METRIC, 0, features=lambda: distances)
    rng = np.random.default_rng(0)
    order = rng.permutation(np.flatnonzero(distances[0].known)).tolist()
    new, pending, known = order[:REPEATS], order[REPEATS : REPEATS + n_pending], order[-results:]
    for candidate in known:
        policy.observe(candidate, float(rng.uniform()) if rng.random() > 0.1 else None)
    first = _seconds(lambda: policy.suggest(pending))
    milliseconds, processor = [], time.process_time()
    for candidate in new:
        policy.observe(candidate, float(rng.uniform()))
        milliseconds.append(_seconds(lambda: policy.suggest(pending)) * 1e3)
    processor = (time.process_time() - processor) / len(new) * 1e3
    return {
        "prepare_seconds": round(prepared, 2),
        "first_seconds": round(first, 2),
        "median": round(statistics.median(milliseconds), 2),
        "worst": round(max(milliseconds), 2),
        "processor_mean": round(processor, 2),
    }


def _scores_of(distances: list[FeatureDistances], rng: np.random.Generator) -> np.ndarray:
    """Return scores [n] that depend on both features: a few functions are best, and others the worse the farther."""
    best = rng.permutation(np.flatnonzero(distances[0].known & distances[1].known))[:3].tolist()
    scores = -np.min([distances[0].of(i) + distances[1].of(i) for i in best], axis=0)
    return np.asarray(scores + 0.2 * scores.std() * rng.normal(size=len(scores)))


def _batches(
    features: np.ndarray,
    spectra: np.ndarray,
    results: int,
    scores_of: Callable[[list[FeatureDistances], np.random.Generator], np.ndarray],
) -> dict[str, float]:
    """Return suggestions per second, the best of `N_BATCHES`."""
    distances = [FeatureDistances(features, "euclidean"), FeatureDistances(spectra, "manhattan")]
    rng = np.random.default_rng(0)
    scores = scores_of(distances, rng).tolist()
    policy = policy_of(METRIC, 0, features=lambda: distances)
    batch = rng.permutation(np.flatnonzero(distances[0].known)).tolist()[:results]
    rates: dict[str, list[float]] = {"per_second": [], "per_processor_second": []}
    for _ in range(1 + N_BATCHES):  # the first one computes the distances to all results so far
        for candidate in batch:
            policy.observe(candidate, scores[candidate])
        started, processor = time.perf_counter(), time.process_time()
        batch = [suggestion.candidate for suggestion in policy.suggest_batch(LARGEST_BATCH)]
        rates["per_second"].append(LARGEST_BATCH / (time.perf_counter() - started))
        rates["per_processor_second"].append(LARGEST_BATCH / (time.process_time() - processor))
    return {name: round(max(found[1:])) for name, found in rates.items()}


def _umap_again(features: np.ndarray, spectra: np.ndarray) -> None:
    """Do what the authors' code does: fit both features, lay both out, join them, lay out the union."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import umap

        complete = np.isfinite(features).all(axis=1)
        held = np.clip(features[complete], -1e15, 1e15)
        umap.UMAP().fit(held) + umap.UMAP(n_neighbors=3, metric="manhattan").fit(spectra[complete])


def _features(n: int) -> tuple[np.ndarray, np.ndarray]:
    """Return outputs float32 [n, 1000] of functions from the four-node space, and synthetic spectra [n, columns]."""
    rng = np.random.default_rng(0)
    space = SearchSpace.named("four-node")
    names = [space.name_at(int(i)) for i in rng.choice(space.n_names, n, replace=False)]
    values = np.stack([outputs(name) for name in names]).astype(np.float32)
    return values, _synthetic_spectra(values, rng)


def _synthetic_spectra(values: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    tame = np.arcsinh(np.nan_to_num(np.clip(values, -1e6, 1e6)))
    summary = np.stack([tame.mean(axis=1), tame.std(axis=1), *np.quantile(tame, [0.1, 0.9], axis=1)], axis=1)
    grid = np.linspace(0.0, 1.0, COLUMNS_PER_LAYER)
    layers = []
    for _ in range(LAYERS):
        shift, width, bend = (summary @ rng.normal(size=(4, 3)) + 0.05 * rng.normal(size=(len(values), 3))).T
        layers.append(shift[:, None] + np.abs(width[:, None]) * grid + np.abs(bend[:, None]) * grid**8)
    return np.concatenate(layers, axis=1).astype(np.float32)


def _seconds(action: Callable[[], object]) -> float:
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
