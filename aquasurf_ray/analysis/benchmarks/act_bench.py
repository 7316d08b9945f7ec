"""Benchmarks in the format of Act-Bench: one JSON object that maps function names to metrics.

The store reads the file entry by entry, so that one of 130 MB needs little more memory than its arrays. Its metrics are
those of one training or medians of several; in both cases they count as one seed. A spectrum is a cumulative histogram
of the log-eigenvalues from -100 to 100 for every layer, all concatenated; a new layer begins where the numbers fall,
and its number of bins gives its number of weights to a hundred. Lists with another layout than most are not used as
spectra. The labels are those of the data set, so the Fisher information is the empirical one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from aquasurf_ray.analysis.benchmarks.benchmark import Benchmark, Scores, Spectra
from aquasurf_ray.analysis.benchmarks.packing import BINS
from aquasurf_ray.analysis.errors import BenchmarkError
from aquasurf_ray.store.records.imports import BenchmarkEntry
from aquasurf_ray.surrogate.spectra import SpectrumFeature

_OTHER_METRICS = ("train_score", "train_loss", "val_loss", "test_loss")
_RANGE = (-100.0, 100.0)
_WEIGHTS_A_BIN = 100


def read_act_bench(path: Path) -> Benchmark:
    """Return the benchmark of an Act-Bench file; outputs are computed here.

    Raises:
        BenchmarkError: the file has another format, or is broken; the text names the place.
    """
    from aquasurf_ray.store import BenchmarkFileError, read_benchmark

    entries, cdfs, values = list[BenchmarkEntry](), list[NDArray[np.float32]](), list[NDArray[np.float32]]()
    try:
        for entry in read_benchmark(path):
            values.append(_outputs(entry))
            cdfs.append(np.asarray(entry.cdf_values(), dtype=np.float32))
            # The packed CDF is dropped here, so that only one form of each spectrum is in memory.
            entries.append(replace(entry, cdf=b""))
    except BenchmarkFileError as error:
        raise BenchmarkError(str(error)) from None
    if not entries:
        raise BenchmarkError(f"'{path}' has no entries; name another file")
    names = tuple(entry.name for entry in entries)
    scores, seconds = (_column(getattr(entry.result, name) for entry in entries) for name in ("score", "seconds"))
    return Benchmark(
        name=path.stem,
        task=path.stem,
        metric="accuracy",
        functions=names,
        seed_scores=scores,
        test_scores=_column(entry.result.test_score for entry in entries),
        # A result without a duration costs no time in a replay; without a result, NaN marks a training never run.
        seconds=np.where(np.isfinite(seconds) | np.isnan(scores), seconds, 0.0),
        outputs=np.stack(values),
        spectra={"empirical": _spectra(cdfs)} if any(len(cdf) for cdf in cdfs) else {},
        provenance={"format": "act-bench", "file": path.name},
        aliases=tuple(tuple(other for other in entry.aliases if other != entry.name) for entry in entries),
        other_metrics={name: _column(getattr(entry.result, name) for entry in entries) for name in _OTHER_METRICS},
    )


def _outputs(entry: BenchmarkEntry) -> NDArray[np.float32]:
    from aquasurf_ray.activations import ActivationError, outputs

    try:
        return outputs(entry.name)
    except ActivationError as error:
        raise BenchmarkError(f"{entry.place}: {error}") from None


def _column(values: Iterable[float | None]) -> Scores:
    """Return the values of one seed, [n, 1]; NaN for missing ones."""
    return np.array([np.nan if value is None else value for value in values], dtype=np.float64)[:, None]


def _spectra(cdfs: list[NDArray[np.float32]]) -> Spectra:
    layouts = [tuple(map(len, _layers(cdf))) for cdf in cdfs]
    # Most functions have all layers of the network, so their layout is its own.
    (usual, _), *_ = Counter(layout for layout in layouts if layout).most_common()
    return tuple(_feature(_layers(cdf)) if layout == usual else None for cdf, layout in zip(cdfs, layouts, strict=True))


def _layers(cdf: NDArray[np.float32]) -> list[NDArray[np.float32]]:
    """Return the cumulative distributions of the layers; none if values are not finite."""
    if not len(cdf) or not np.isfinite(cdf).all():
        return []
    return np.split(cdf, np.flatnonzero(np.diff(cdf) < 0) + 1)


def _feature(layers: list[NDArray[np.float32]]) -> SpectrumFeature:
    ranks = (np.arange(BINS) + 0.5) / BINS
    quantiles = [
        # The CDF inverted: log-eigenvalues at given ranks, linear within a bin of the histogram.
        np.interp(ranks, np.concatenate([[0.0], layer]), np.linspace(*_RANGE, len(layer) + 1))
        for layer in layers
    ]
    names = tuple(f"layer_{i}" for i in range(len(layers)))
    return SpectrumFeature(names, tuple(_WEIGHTS_A_BIN * len(layer) for layer in layers), np.stack(quantiles))
