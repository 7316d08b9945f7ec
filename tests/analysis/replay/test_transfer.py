"""A replayed search has another benchmark's results from the start, and no more of them than its name says."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from aquasurf_ray.analysis.benchmarks.benchmark import Benchmark
from aquasurf_ray.analysis.benchmarks.parquet import load_benchmark, write_benchmark
from aquasurf_ray.analysis.errors import AnalysisError, BenchmarkError
from aquasurf_ray.analysis.replay import transfer
from aquasurf_ray.analysis.replay.algorithms import check_policy, make_policy
from aquasurf_ray.analysis.replay.experiments import DEFAULT
from aquasurf_ray.analysis.replay.prior_process import TransferredProcess
from aquasurf_ray.analysis.replay.simulation import simulate
from aquasurf_ray.surrogate.policy import normal_ranks


@pytest.fixture(scope="module")
def source(synthetic_benchmark: Benchmark, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Another task that knows the truth of all functions but the last ten, under other names where there are such."""
    few = synthetic_benchmark.subset(np.arange(len(synthetic_benchmark) - 10)[::-1])
    named = [next(iter(names), name) for name, names in zip(few.functions, few.aliases, strict=True)]
    path = tmp_path_factory.mktemp("source") / "other.parquet"
    write_benchmark(replace(few, name="other", task="other", functions=tuple(named), aliases=()), path)
    return path


def prior_of(name: str, synthetic_benchmark: Benchmark, seed: int = 0) -> np.ndarray:
    regress = make_policy(name, synthetic_benchmark, seed)._predictor._regress  # type: ignore[attr-defined]
    assert isinstance(regress, TransferredProcess)
    (prior,) = regress.priors
    return prior


def test_functions_have_their_ranks_in_the_source_whatever_they_are_called_there(
    synthetic_benchmark: Benchmark, source: Path
) -> None:
    scores = synthetic_benchmark.scores[:50]
    ranks = normal_ranks(np.where(np.isnan(scores), np.nanmin(scores), scores))
    prior = prior_of(f"transfer:{source}", synthetic_benchmark)
    assert prior[:50] == pytest.approx(ranks)
    assert np.isfinite(prior[50:]).all(), "and the others what those have that they resemble"
    negated = prior_of(f"transfer:{source}:scores=negated", synthetic_benchmark)
    assert negated[:50] == pytest.approx(-ranks)
    shuffled = [prior_of(f"transfer:{source}:scores=shuffled", synthetic_benchmark, seed) for seed in (0, 1, 5)]
    assert shuffled[0].tolist() == shuffled[2].tolist() != shuffled[1].tolist()
    assert sorted(shuffled[0][:50]) == pytest.approx(sorted(ranks))
    assert abs(np.corrcoef(shuffled[0][:50], ranks)[0, 1]) < 0.4


def test_a_searched_source_has_what_the_search_trained(synthetic_benchmark: Benchmark, source: Path) -> None:
    other = transfer.load_benchmark(source)
    trained = transfer._trained(other, transfer.TransferSettings("other", 12), "sampled", 3)
    assert set(trained) > set(other.baselines.tolist())
    assert len(trained) == 12 + len(other.baselines)
    trace = simulate(make_policy(DEFAULT, other, 3), other, 12, seed=3)
    assert set(trained) == {*trace.order.tolist(), *other.baselines.tolist()}
    assert len(set(prior_of(f"transfer:{source}:search=12", synthetic_benchmark, 3)[:50])) <= 50


def test_a_good_source_is_followed_and_a_bad_one_is_not(synthetic_benchmark: Benchmark, source: Path) -> None:
    """The truth told makes the search find the best sooner; its opposite leaves it as it was."""
    found = {}
    for name in (DEFAULT, f"transfer:{source}", f"transfer:{source}:scores=negated"):
        traces = [
            simulate(make_policy(name, synthetic_benchmark, seed), synthetic_benchmark, 12, seed=seed)
            for seed in range(3)
        ]
        found[name] = np.mean([np.nanmean(trace.truth) for trace in traces])
    alone, told, misled = found.values()
    assert told > alone
    assert misled == pytest.approx(alone, abs=1e-6)


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        ("transfer:", AnalysisError, "must be transfer:BENCHMARK"),
        ("transfer:x:search=few", AnalysisError, "must be transfer:BENCHMARK, and search a number"),
        ("transfer:x:k=3", AnalysisError, "'k=3' in .* is not a setting; .*: search, scores, features, fisher"),
        ("transfer:x:scores=wrong", AnalysisError, "scores must be one of true, negated, shuffled, got 'wrong'"),
        ("transfer:x:fisher=exact", AnalysisError, "fisher must be one of sampled, empirical, got 'exact'"),
        ("transfer:act-bench-nothing", BenchmarkError, "no benchmark 'act-bench-nothing'"),
    ],
)
def test_a_wrong_name_is_named(synthetic_benchmark: Benchmark, name: str, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        make_policy(name, synthetic_benchmark, 0)
    if error is AnalysisError:
        with pytest.raises(error, match=message):
            check_policy(name)


def test_results_of_the_task_itself_are_no_source(synthetic_benchmark: Benchmark, source: Path) -> None:
    with pytest.raises(AnalysisError, match="has results of other itself; name another task's benchmark"):
        make_policy(f"transfer:{source}", replace(synthetic_benchmark, task="other"), 0)


def test_others_are_all_installed_benchmarks_of_other_tasks(
    synthetic_benchmark: Benchmark, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    negated = tmp_path / "negated.parquet"
    other = transfer.load_benchmark(source)
    write_benchmark(replace(other, name="negated", task="negated", seed_scores=-other.seed_scores), negated)
    own = tmp_path / "own.parquet"
    write_benchmark(synthetic_benchmark, own)
    installed = {path.stem: path for path in (source, negated, own)}
    monkeypatch.setattr(transfer, "installed_benchmarks", lambda: installed)
    monkeypatch.setattr(transfer, "load_benchmark", lambda name: load_benchmark(installed.get(name, name)))
    transfer._benchmark.cache_clear()
    regress = make_policy("transfer:others", synthetic_benchmark, 0)._predictor._regress  # type: ignore[attr-defined]
    expected = [prior_of(f"transfer:{path}", synthetic_benchmark) for path in (source, negated)]
    np.testing.assert_array_equal(regress.priors, expected)
    installed.clear()
    installed["own"] = own
    with pytest.raises(AnalysisError, match=r"no benchmark of another task than .* is installed"):
        make_policy("transfer:others:features=outputs", synthetic_benchmark, 0)


def searched(name: str, benchmark: Benchmark) -> list[int]:
    trace = simulate(make_policy(name, benchmark, 1), benchmark, 12, seed=1)
    return [int(candidate) for candidate in trace.order]


def test_spectra_of_the_only_kind_that_a_benchmark_has_are_used(synthetic_benchmark: Benchmark, source: Path) -> None:
    """A file of Act-Bench has empirical spectra only; the same search with both kinds needs to be told so."""
    name = f"transfer:{source}:search=8"
    empirical = replace(synthetic_benchmark, spectra={"empirical": synthetic_benchmark.spectra["empirical"]})
    found = searched(name, empirical)
    assert found == searched(f"{name}:fisher=empirical", synthetic_benchmark)
    assert found != searched(name, synthetic_benchmark), "both kinds: sampled ones are used"
    with pytest.raises(BenchmarkError, match="'synthetic' has no sampled spectra; set fisher=empirical"):
        make_policy(f"{name}:fisher=sampled", empirical, 1)


def test_a_benchmark_without_spectra_is_searched_by_outputs(synthetic_benchmark: Benchmark, source: Path) -> None:
    name = f"transfer:{source}"
    bare = replace(synthetic_benchmark, spectra={})
    with pytest.raises(BenchmarkError, match="'synthetic' has no sampled spectra; it has none: search by features"):
        make_policy(name, bare, 1)
    assert searched(f"{name}:features=outputs", bare) == searched(f"{name}:features=outputs", synthetic_benchmark)
