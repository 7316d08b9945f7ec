"""A benchmark out of a store: what counts, what is joined, and what is refused."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from aquasurf_ray.activations import SearchSpace, fingerprint, outputs
from aquasurf_ray.analysis.benchmarks.from_store import benchmark_from_run
from aquasurf_ray.analysis.errors import BenchmarkError
from aquasurf_ray.store import (
    EpochRecord,
    EvaluationResult,
    FunctionRow,
    Lease,
    NewRun,
    SpectrumRecord,
    Store,
    this_process,
)
from aquasurf_ray.surrogate.spectra import SpectrumFeature

NAMES = ("mul(relu(x),tanh(x))", "relu(x)", "elu(x)")
FEATURE = SpectrumFeature(("dense",), (300,), np.linspace(-3.0, 4.0, 16)[None])


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(f"sqlite:///{tmp_path}/store.db") as opened:
        yield opened


class Run:
    """A run of the store, filled by hand."""

    def __init__(self, store: Store, name: str, task: str = "digits") -> None:
        self.store = store
        self.task_id = store.add_task(task, "1", f"digest of {task}", {})
        rows = [FunctionRow(fingerprint(n), n, n.count("("), (f"max({n},{n})",)) for n in NAMES]
        self.ids = dict(zip(NAMES, store.add_functions(rows), strict=True))
        new = NewRun(name, "evaluate", self.task_id, {}, name, 0, None, None, "0.1.0")
        run = store.create_run(new, list(self.ids.values()))
        self.lease: Lease = store.acquire_lease(run.id, this_process())

    def trained(self, name: str, seed: int, result: EvaluationResult) -> None:
        claim = self.store.claim(self.lease, self.ids[name], seed, origin="proposal")
        if claim.state == "claimed":
            self.store.record_result(self.lease, claim.evaluation_id, result)


def done(score: float, seconds: float = 2.0, **metrics: object) -> EvaluationResult:
    return EvaluationResult("done", score=score, test_score=score - 0.1, val_loss=1.5, seconds=seconds, **metrics)  # type: ignore[arg-type]


def test_trainings_of_runs_become_a_benchmark(store: Store) -> None:
    first, second = Run(store, "first"), Run(store, "second")
    for seed, score in enumerate((0.5, 0.7)):
        first.trained("relu(x)", seed, done(score, device="cpu"))
    first.trained(NAMES[0], 0, EvaluationResult("diverged", reason="loss is nan", seconds=0.25))
    second.trained("relu(x)", 1, done(0.9))
    second.trained("elu(x)", 2, done(0.8))
    spectrum = SpectrumRecord(first.ids["relu(x)"], "empirical", 0, "done", FEATURE.to_bytes())
    store.record_spectra(first.lease, [spectrum, SpectrumRecord(first.ids["elu(x)"], "empirical", 0, "diverged")])
    found = benchmark_from_run(store, ["first", "second"], name="toy", provenance={"command": "by hand"})
    assert (found.name, found.task, found.metric) == ("toy", "digits", "accuracy")
    assert found.functions == ("elu(x)", "relu(x)", NAMES[0])
    nan = np.nan
    np.testing.assert_array_equal(found.seed_scores, [[nan, nan, 0.8], [0.5, 0.7, nan], [nan, nan, nan]])
    np.testing.assert_array_equal(found.seconds, [[nan, nan, 2], [2, 2, nan], [0.25, nan, nan]])
    np.testing.assert_allclose(found.test_scores[1], [0.4, 0.6, nan])
    assert found.other_metrics["val_loss"][1, 0] == 1.5
    assert found.table.status.tolist() == ["done", "done", "diverged"]
    assert found.scores[1] == pytest.approx(0.6)
    np.testing.assert_array_equal(found.outputs[1], outputs("relu(x)"))
    assert set(found.spectra) == {"empirical"}
    elu, relu, _ = found.spectra["empirical"]
    assert elu is None
    assert relu is not None
    assert relu.quantiles == pytest.approx(FEATURE.quantiles, abs=1e-3)
    assert found.aliases[1] == ("max(relu(x),relu(x))",)
    assert found.provenance["seeds"] == [0, 1, 2]
    assert found.provenance["devices"] == ["cpu"]
    assert found.provenance["command"] == "by hand"


def test_a_training_that_was_stopped_early_is_none(store: Store) -> None:
    run = Run(store, "first")
    run.trained("relu(x)", 0, done(0.5, stopped_early="below the median"))
    run.trained("elu(x)", 0, done(0.8))
    assert benchmark_from_run(store, "first").functions == ("elu(x)",)


def test_a_space_gives_all_names(store: Store, tmp_path: Path) -> None:
    run = Run(store, "first")
    run.trained("relu(x)", 0, done(0.5))
    space = SearchSpace.define("small", ["binary(unary(x),unary(x))"], unary=["relu", "zero"], binary=["add", "min"])
    url = f"sqlite:///{tmp_path}/store.db"
    (aliases,) = benchmark_from_run(url, ["first"], space=space).aliases
    expected = {"max(relu(x),relu(x))", "min(relu(x),relu(x))", "add(relu(x),zero(x))", "add(zero(x),relu(x))"}
    assert set(aliases) == expected


def test_learning_curves_come_with_their_seeds(store: Store) -> None:
    run = Run(store, "first")
    three = tuple(EpochRecord(i, val_score=i / 10) for i in (1, 2, 3))
    run.trained("relu(x)", 0, done(0.3, epochs=three))
    run.trained("elu(x)", 1, done(0.2, epochs=three[:1]))
    broken = (EpochRecord(1, val_score=0.1), EpochRecord(2, val_score=float("nan")))
    run.trained("elu(x)", 0, EvaluationResult("diverged", reason="loss is nan", epochs=broken))
    curves = benchmark_from_run(store, "first").curves
    nan = np.nan
    expected = [[[0.1, nan, nan], [0.1, nan, nan]], [[0.1, 0.2, 0.3], [nan, nan, nan]]]
    np.testing.assert_array_equal(curves, expected)


def test_without_epochs_there_are_no_curves(store: Store) -> None:
    run = Run(store, "first")
    run.trained("relu(x)", 0, done(0.3))
    assert benchmark_from_run(store, "first").curves is None


def test_what_is_no_benchmark_is_refused(store: Store) -> None:
    run, other = Run(store, "first"), Run(store, "other", task="letters")
    with pytest.raises(BenchmarkError, match="run 'first' has no finished training yet"):
        benchmark_from_run(store, "first")
    for each in (run, other):
        each.trained("relu(x)", 0, done(0.5))
    with pytest.raises(BenchmarkError, match="the runs are of 2: digits, letters"):
        benchmark_from_run(store, ["first", "other"])
