"""A small benchmark whose answers are made up: real functions and outputs, the rest drawn, so that tests need no store.

Scores follow the outputs, with noise a seed, so that there is something to learn; every ninth function diverges, one of
them with one seed only.
"""

from __future__ import annotations

from pathlib import Path
from statistics import NormalDist

import numpy as np

from aquasurf_ray.activations import BASELINES, SearchSpace, fingerprint, outputs, unique_functions
from aquasurf_ray.analysis.benchmark import Benchmark, Spectra
from surrogate.spectra import SpectrumFeature

LAYERS = ("conv", "dense"), (240, 4010)


def made_benchmark(n: int = 60, seeds: int = 3, bins: int = 32, seed: int = 0, cache: Path | None = None) -> Benchmark:
    """The baselines and other functions of the three-node space, n in all."""
    rng = np.random.default_rng(seed)
    table = unique_functions(SearchSpace.load("three-node"), cache_dir=cache)
    known = {fingerprint(name) for name in BASELINES}
    drawn = [i for i in table.sample(n, seed) if table.fingerprints[i] not in known][: n - len(BASELINES)]
    functions = (*BASELINES, *(table.names[i] for i in drawn))
    values = np.stack([outputs(name) for name in functions])
    truth = 0.9 - 0.1 * np.abs(np.nan_to_num(values).std(axis=1) - 1) - 0.2 * np.abs(np.nan_to_num(values).mean(axis=1))
    scores = truth[:, None] + rng.normal(scale=0.01, size=(n, seeds))
    scores[8::9] = np.nan
    scores[8, 1:] = truth[8]
    diverged = np.isnan(scores)
    return Benchmark(
        name="made",
        task="made-up",
        metric="accuracy",
        functions=functions,
        seed_scores=scores,
        test_scores=np.where(diverged, np.nan, scores - 0.02),
        seconds=rng.uniform(0.5, 2.0, size=(n, seeds)),
        outputs=values,
        spectra={kind: made_spectra(values, bins, rng) for kind in ("sampled", "empirical")},
        provenance={"made": "by a test", "seeds": list(range(seeds))},
        aliases=((),) * len(BASELINES) + tuple(tuple(table.aliases(i)[1:]) for i in drawn),
        figures={"train_loss": np.where(diverged, np.inf, rng.exponential(size=(n, seeds)))},
    )


def made_spectra(values: np.ndarray, bins: int, rng: np.random.Generator) -> Spectra:
    """Layers of normally distributed log-eigenvalues that follow the outputs; a constant function has none."""
    normal = np.array([NormalDist().inv_cdf((i + 0.5) / bins) for i in range(bins)])
    spectra: list[SpectrumFeature | None] = []
    for row in np.nan_to_num(values):
        spread = row.std()
        locations = np.log(spread + 0.01) + np.array([[0.0], [-2.0]]) + rng.normal(scale=0.1, size=(2, 1))
        spectra.append(SpectrumFeature(*LAYERS, locations + (1 + spread) * normal) if spread > 0 else None)
    return tuple(spectra)
