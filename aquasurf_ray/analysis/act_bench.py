"""Benchmarks in the format of Act-Bench: one JSON object, function names to figures.

Read entry by entry, so that a file of 130 MB needs little more than its arrays. Its figures are those of one training
or medians of several; either way they are one seed here. A spectrum is a cumulative histogram of the log-eigenvalues
from -100 to 100 for every layer, all concatenated; a new layer begins where the numbers fall, and the number of its
bins tells its number of weights to a hundred. Lists of another length than most have are no spectra. Their labels are
those of the data set, so that the Fisher information is the empirical one.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from aquasurf_ray.analysis.benchmark import Benchmark, Scores, Spectra
from aquasurf_ray.analysis.errors import BenchmarkError
from aquasurf_ray.analysis.packing import BINS
from surrogate.spectra import SpectrumFeature

_SCORE = "Validation Accuracy"
_FIGURES = {
    "train_score": "Train Accuracy",
    "train_loss": "Train Loss",
    "val_loss": "Validation Loss",
    "test_loss": "Test Loss",
}
_CHUNK = 2**20
_RANGE = (-100.0, 100.0)
_WEIGHTS_A_BIN = 100


def read_act_bench(path: Path) -> Benchmark:
    """The benchmark of an Act-Bench file; outputs are computed here.

    Raises:
        BenchmarkError: not JSON, cut short, or without what an entry needs; the text says where.
        ActivationError: a name that is no expression.
    """
    from aquasurf_ray.activations import outputs

    names, aliases, figures, cdfs = [], [], [], []
    with path.open(encoding="utf-8") as file:
        for name, entry in _entries(file, path):
            try:
                figures.append([float(entry[title]) for title in (_SCORE, "Test Accuracy", *_FIGURES.values())])
                seconds = float(entry.get("Runtime (s)", "nan"))
                aliases.append(tuple(other for other in entry["Equivalent Activation Functions"] if other != name))
                cdfs.append(np.array(entry["Fisher log eigenvalue CDF"], dtype=np.float32))
            except (KeyError, TypeError, ValueError) as error:
                raise BenchmarkError(f"'{path}': entry '{name:.100}' lacks or garbles {error}") from None
            names.append(name)
            figures[-1].append(seconds if np.isfinite(seconds) else 0.0)
    columns: list[Scores] = [np.array(column)[:, None] for column in zip(*figures, strict=True)]
    return Benchmark(
        name=path.stem,
        task=path.stem,
        metric="accuracy",
        functions=tuple(names),
        seed_scores=columns[0],
        test_scores=columns[1],
        seconds=columns[-1],
        outputs=np.stack([outputs(name) for name in names]) if names else np.empty((0, 0), dtype=np.float32),
        spectra={"empirical": _spectra(cdfs)} if any(len(cdf) for cdf in cdfs) else {},
        provenance={"format": "act-bench", "file": path.name},
        aliases=tuple(aliases),
        figures=dict(zip(_FIGURES, columns[2:-1], strict=True)),
    )


def _entries(file: IO[str], path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """The members of the file's one object, a part of it in memory at a time."""
    decoder, text, passed = json.JSONDecoder(), "", 0
    opened = False
    while True:
        text = text.lstrip(" \t\r\n,") if opened else text.lstrip()
        if not opened and text:
            if text[0] != "{":
                raise BenchmarkError(f"'{path}' is neither a benchmark of this program nor Act-Bench JSON")
            opened, text = True, text[1:]
            continue
        if opened and text.startswith("}"):
            return
        member = _member(decoder, text)
        if member is not None:
            name, entry, end = member
            text, passed = text[end:], passed + end
            yield name, entry
            continue
        more = file.read(_CHUNK)
        if not more:
            raise BenchmarkError(f"'{path}' is cut short or no JSON after about {passed} characters")
        text += more


def _member(decoder: json.JSONDecoder, text: str) -> tuple[str, dict[str, Any], int] | None:
    """The first name and value of the text and where they end; None if they are not whole."""
    try:
        name, end = decoder.raw_decode(text)
        colon = text.index(":", end)
        start = colon + 1 + len(text[colon + 1 :]) - len(text[colon + 1 :].lstrip())
        entry, end = decoder.raw_decode(text, start)
    except (ValueError, IndexError):
        return None
    return (name, entry, end) if isinstance(name, str) and isinstance(entry, dict) else None


def _spectra(cdfs: list[NDArray[np.float32]]) -> Spectra:
    layouts = [tuple(map(len, _layers(cdf))) for cdf in cdfs]
    (usual, _), *_ = Counter(layout for layout in layouts if layout).most_common()
    return tuple(_feature(_layers(cdf)) if layout == usual else None for cdf, layout in zip(cdfs, layouts, strict=True))


def _layers(cdf: NDArray[np.float32]) -> list[NDArray[np.float32]]:
    """The cumulative distributions of the layers; none where values are not finite."""
    if not len(cdf) or not np.isfinite(cdf).all():
        return []
    return np.split(cdf, np.flatnonzero(np.diff(cdf) < 0) + 1)


def _feature(layers: list[NDArray[np.float32]]) -> SpectrumFeature:
    ranks = (np.arange(BINS) + 0.5) / BINS
    quantiles = [
        np.interp(ranks, np.concatenate([[0.0], layer]), np.linspace(*_RANGE, len(layer) + 1)) for layer in layers
    ]
    names = tuple(f"layer_{i}" for i in range(len(layers)))
    return SpectrumFeature(names, tuple(_WEIGHTS_A_BIN * len(layer) for layer in layers), np.stack(quantiles))
