"""A benchmark: medians, the best, halves, and files that come back as they were written."""

from __future__ import annotations

import json
import statistics
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet
import pytest
from feature_distances import row_distance
from synthetic_benchmark import make_benchmark

from aquasurf_ray import load_benchmark
from aquasurf_ray.activations import BASELINES
from aquasurf_ray.analysis.benchmarks.benchmark import Benchmark
from aquasurf_ray.analysis.benchmarks.parquet import write_benchmark
from aquasurf_ray.analysis.errors import BenchmarkError
from aquasurf_ray.analysis.replay.simulation import draw_candidates
from aquasurf_ray.surrogate.distances import LayerWeighting
from aquasurf_ray.surrogate.spectra import SpectrumFeature

NAN = float("nan")


def with_scores(rows: list[list[float]], seconds: list[list[float]] | None = None) -> Benchmark:
    scores = np.array(rows)
    whole = make_benchmark(n=len(rows))
    took = np.ones_like(scores) if seconds is None else np.array(seconds)
    return replace(whole, seed_scores=scores, test_scores=scores, seconds=took, other_metrics={})


def test_the_median_has_diverged_seeds_at_the_worse_end() -> None:
    rows = [
        [0.1, 0.3, 0.2],
        [0.9, NAN, 0.5],
        [NAN, NAN, 0.7],
        [NAN, NAN, NAN],
        *[[0.0, 0.0, 0.0]] * 6,
    ]
    assert with_scores(rows).scores[:4] == pytest.approx([0.2, 0.5, NAN, NAN], nan_ok=True)


def test_a_training_that_is_not_there_does_not_count() -> None:
    rows = [[0.1, 0.4, NAN], [0.1, NAN, NAN], [NAN, NAN, NAN], *[[0.0, 0.0, 0.0]] * 6]
    seconds = [[1.0, 1.0, NAN], [1.0, NAN, NAN], [NAN, NAN, NAN], *[[1.0, 1.0, 1.0]] * 6]
    found = with_scores(rows, seconds)
    assert found.scores[:3] == pytest.approx([0.25, 0.1, NAN], nan_ok=True)
    assert found.table.status[:3].tolist() == ["done", "done", "missing"]


def test_scores_are_the_medians_of_the_standard_library(synthetic_benchmark: Benchmark) -> None:
    low = np.where(np.isnan(synthetic_benchmark.seed_scores), -np.inf, synthetic_benchmark.seed_scores)
    expected = [statistics.median(row) for row in low.tolist()]
    assert np.nan_to_num(synthetic_benchmark.scores, nan=-np.inf) == pytest.approx(expected)


def test_the_top_counts_all_functions_and_takes_ties_in() -> None:
    rows = [[s] for s in (0.5, 0.9, 0.7, 0.9, 0.7, 0.1, NAN, 0.2, 0.3, 0.4)]
    found = with_scores(rows)
    assert sorted(found.top(0.1)) == [1, 3]
    assert sorted(found.top(0.2)) == [1, 3]
    assert sorted(found.top(0.21)) == [1, 2, 3, 4]
    assert len(found.top(1.0)) == 9, "nothing that diverged is among the best"
    with pytest.raises(BenchmarkError, match="fraction is 0"):
        found.top(0)


def test_baselines_are_found_by_what_they_compute(synthetic_benchmark: Benchmark) -> None:
    assert [synthetic_benchmark.functions[i] for i in synthetic_benchmark.baselines] == list(BASELINES)
    renamed = replace(synthetic_benchmark, functions=("max(elu(x),elu(x))", *synthetic_benchmark.functions[1:]))
    assert renamed.baselines.tolist() == synthetic_benchmark.baselines.tolist()
    some = synthetic_benchmark.subset(range(3, 20))
    assert [some.functions[i] for i in some.baselines] == list(BASELINES[3:])


def test_functions_are_found_by_any_name(synthetic_benchmark: Benchmark) -> None:
    i = next(i for i, names in enumerate(synthetic_benchmark.aliases) if names)
    assert (
        synthetic_benchmark.find(synthetic_benchmark.aliases[i][0])
        == synthetic_benchmark.find(synthetic_benchmark.functions[i])
        == i
    )
    assert synthetic_benchmark.find("add(relu(x),zero(zero(x)))") == synthetic_benchmark.find("relu(x)")
    assert synthetic_benchmark.find("sinh(sinh(x))") is None


def test_halves_share_the_baselines_only(synthetic_benchmark: Benchmark) -> None:
    first, second = synthetic_benchmark.split(seed=3)
    assert set(first.functions) | set(second.functions) == set(synthetic_benchmark.functions)
    assert set(first.functions) & set(second.functions) == set(BASELINES)
    assert abs(len(first) - len(second)) <= 1
    assert (
        synthetic_benchmark.split(seed=3)[0].functions
        == first.functions
        != synthetic_benchmark.split(seed=4)[0].functions
    )
    at = synthetic_benchmark.find(second.functions[-1])
    assert second.scores[-1] == pytest.approx(synthetic_benchmark.scores[at], nan_ok=True)
    assert (second.outputs[-1] == synthetic_benchmark.outputs[at]).all()


def test_the_table_is_of_medians(synthetic_benchmark: Benchmark) -> None:
    table = synthetic_benchmark.table
    assert len(table) == len(synthetic_benchmark)
    assert table.val_score.tolist() == pytest.approx(synthetic_benchmark.scores.tolist(), nan_ok=True)
    assert (table.status == "diverged").sum() == np.isnan(synthetic_benchmark.scores).sum() > 0
    assert table.n_operators[:8].tolist() == [1] * 8
    assert table.val_score_1[0] == synthetic_benchmark.seed_scores[0, 1]
    assert table.seconds[5] == pytest.approx(np.median(synthetic_benchmark.seconds[5]))
    assert table.train_loss.notna().all()


def test_a_file_comes_back_as_it_was_written(synthetic_benchmark: Benchmark, tmp_path: Path) -> None:
    write_benchmark(synthetic_benchmark, tmp_path / "synthetic.parquet")
    found = load_benchmark(tmp_path / "synthetic.parquet")
    for part in ("name", "task", "metric", "functions", "aliases", "provenance", "higher_is_better"):
        assert getattr(found, part) == getattr(synthetic_benchmark, part)
    for part in ("seed_scores", "test_scores", "seconds"):
        np.testing.assert_array_equal(getattr(found, part), getattr(synthetic_benchmark, part))
    np.testing.assert_array_equal(found.other_metrics["train_loss"], synthetic_benchmark.other_metrics["train_loss"])
    np.testing.assert_allclose(found.outputs, synthetic_benchmark.outputs, atol=1e-4)
    for kind, spectra in synthetic_benchmark.spectra.items():
        assert [s is None for s in found.spectra[kind]] == [s is None for s in spectra]


def test_a_name_is_of_what_is_installed_first_and_then_of_a_file(
    synthetic_benchmark: Benchmark, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_benchmark(synthetic_benchmark, "mine")
    write_benchmark(synthetic_benchmark, "act-bench-digits")
    assert load_benchmark("mine").name == load_benchmark("./act-bench-digits").name == "synthetic"
    assert load_benchmark("act-bench-digits").name == "act-bench-digits"


def test_a_distribution_adds_the_benchmarks_of_the_package_that_its_entry_point_names(
    synthetic_benchmark: Benchmark, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package, info = tmp_path / "my_benchmarks", tmp_path / "mine-1.0.dist-info"
    package.mkdir()
    info.mkdir()
    (package / "__init__.py").touch()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: mine\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[aquasurf_ray.benchmarks]\nmine = my_benchmarks\n")
    write_benchmark(synthetic_benchmark, package / "of-mine.parquet")
    monkeypatch.syspath_prepend(tmp_path)
    assert load_benchmark("of-mine").functions == synthetic_benchmark.functions
    with pytest.raises(BenchmarkError, match=r"neither a file nor an installed one; installed are: act-.*, of-mine"):
        load_benchmark("of-yours")
    write_benchmark(synthetic_benchmark, package / "act-bench-digits.parquet")
    with pytest.raises(BenchmarkError, match=r"two packages have a benchmark 'act-bench-digits': .*my_benchmarks"):
        load_benchmark("of-mine")
    (info / "entry_points.txt").write_text("[aquasurf_ray.benchmarks]\nmine = lost_benchmarks\n")
    with pytest.raises(BenchmarkError, match="benchmarks of the package 'lost_benchmarks' cannot be found: No module"):
        load_benchmark("of-mine")


def test_the_same_benchmark_gives_the_same_bytes(synthetic_benchmark: Benchmark, tmp_path: Path) -> None:
    for name in ("one", "two"):
        write_benchmark(synthetic_benchmark, tmp_path / f"{name}.parquet")
    write_benchmark(load_benchmark(tmp_path / "one.parquet"), tmp_path / "again.parquet")
    contents = [(tmp_path / f"{name}.parquet").read_bytes() for name in ("one", "two", "again")]
    assert contents[0] == contents[1] == contents[2]


@pytest.mark.parametrize("bins", [40, 512])
@pytest.mark.parametrize("weighting", ["inverse", "uniform", "size"])
def test_distances_from_a_file_are_within_one_percent(bins: int, weighting: LayerWeighting, tmp_path: Path) -> None:
    synthetic_benchmark = make_benchmark(bins=bins)
    write_benchmark(synthetic_benchmark, tmp_path / "synthetic.parquet")
    found = load_benchmark(tmp_path / "synthetic.parquet")
    pairs = [(i, j) for i in range(0, 60, 7) for j in range(i + 1, 60, 5)]
    n_compared = 0
    for i, j in pairs:
        exact, packed = (
            float(np.sqrt(np.mean((outputs[i].astype(np.float64) - outputs[j]) ** 2)))
            for outputs in (np.nan_to_num(synthetic_benchmark.outputs), np.nan_to_num(found.outputs))
        )
        assert packed == pytest.approx(exact, rel=0.01, abs=1e-4)
        a, b, x, y = (s[k] for s in (synthetic_benchmark.spectra["sampled"], found.spectra["sampled"]) for k in (i, j))
        if a is not None and b is not None and x is not None and y is not None:
            exact, packed = row_distance(a, b, weighting), row_distance(x, y, weighting)
            assert packed == pytest.approx(exact, rel=0.01)
            n_compared += 1
    assert n_compared > 50


def test_spectra_that_lack_layers_stay_so(synthetic_benchmark: Benchmark, tmp_path: Path) -> None:
    cut = SpectrumFeature(("dense",), (4010,), np.linspace(-3.0, 5.0, 32)[None])
    spectra = (cut, *synthetic_benchmark.spectra["sampled"][1:])
    write_benchmark(replace(synthetic_benchmark, spectra={"sampled": spectra}), tmp_path / "synthetic.parquet")
    found = load_benchmark(tmp_path / "synthetic.parquet").spectra["sampled"][0]
    assert found is not None
    assert found.layout == cut.layout
    assert found.quantiles == pytest.approx(cut.quantiles, abs=1 / 1024)


def test_learning_curves_come_back_and_go_with_their_functions(synthetic_benchmark: Benchmark, tmp_path: Path) -> None:
    n, seeds = synthetic_benchmark.seed_scores.shape
    curves = np.random.default_rng(0).random((n, seeds, 4))
    curves[0], curves[1, :, 2:] = np.nan, np.nan
    write_benchmark(replace(synthetic_benchmark, curves=curves), tmp_path / "curves.parquet")
    found = load_benchmark(tmp_path / "curves.parquet")
    np.testing.assert_array_equal(found.curves, curves)
    np.testing.assert_array_equal(found.subset([3, 1]).curves, curves[[3, 1]])
    lists = pyarrow.parquet.read_table(tmp_path / "curves.parquet")["val_curve_0"].to_pylist()
    assert [len(each) for each in lists[:3]] == [0, 2, 4], "a curve ends with its training"


def test_the_file_is_a_table_to_others(synthetic_benchmark: Benchmark, tmp_path: Path) -> None:
    write_benchmark(synthetic_benchmark, tmp_path / "synthetic.parquet")
    table = pd.read_parquet(tmp_path / "synthetic.parquet")
    assert table.function.tolist() == list(synthetic_benchmark.functions)
    assert table.val_score_2.tolist() == pytest.approx(synthetic_benchmark.seed_scores[:, 2].tolist(), nan_ok=True)


def test_a_file_that_is_no_benchmark_is_reported(tmp_path: Path) -> None:
    with pytest.raises(BenchmarkError, match="no benchmark 'act-bench-digts'"):
        load_benchmark("act-bench-digts")
    pd.DataFrame({"a": [1]}).to_parquet(tmp_path / "other.parquet")
    with pytest.raises(BenchmarkError, match="not a benchmark: its metadata"):
        load_benchmark(tmp_path / "other.parquet")
    (tmp_path / "cut.parquet").write_bytes((tmp_path / "other.parquet").read_bytes()[:-20])
    with pytest.raises(BenchmarkError, match="damaged"):
        load_benchmark(tmp_path / "cut.parquet")
    for metadata, says in (
        (b"{", "damaged: JSON"),
        (b"{}", "damaged: KeyError: 'version'"),
        (b'{"version": 2}', "reads version 1"),
    ):
        table = pyarrow.table({"a": [1]}).replace_schema_metadata({b"aquasurf_benchmark": metadata})
        pyarrow.parquet.write_table(table, tmp_path / "headless.parquet")
        with pytest.raises(BenchmarkError, match=says):
            load_benchmark(tmp_path / "headless.parquet")
    with pytest.raises(BenchmarkError, match="'/proc/self/mem' cannot be read: Input/output error"):
        load_benchmark("/proc/self/mem")
    (tmp_path / "text.json").write_text("hello")
    with pytest.raises(BenchmarkError, match="byte 0: expected a JSON object"):
        load_benchmark(tmp_path / "text.json")


@pytest.mark.parametrize(
    ("part", "value", "message"),
    [
        ("functions", ("relu(x)",) * 60, "distinct functions"),
        ("seconds", np.ones((60, 2)), "seconds have shape"),
        ("outputs", np.ones((59, 1000), dtype=np.float32), "outputs are of 59 functions"),
        ("curves", np.ones((60, 2, 4)), "curves have shape"),
        ("spectra", {"sampled": (None,)}, "sampled are of 1 functions"),
    ],
)
def test_parts_belong_together(synthetic_benchmark: Benchmark, part: str, value: object, message: str) -> None:
    with pytest.raises(BenchmarkError, match=message):
        replace(synthetic_benchmark, **{part: value})  # type: ignore[arg-type]


def act_bench_entry(cdf: list[float], accuracy: float = 0.5) -> dict[str, object]:
    figures = {
        f"{split} {what}": accuracy for split in ("Train", "Validation", "Test") for what in ("Accuracy", "Loss")
    }
    return figures | {
        "Equivalent Activation Functions": ["max(relu(x),relu(x))"],
        "Fisher log eigenvalue CDF": cdf,
        "Runtime (s)": 12.5,
    }


def test_act_bench_files_are_read(tmp_path: Path) -> None:
    first, second = np.linspace(0.0, 1.0, 41)[1:], np.repeat([0.0, 1.0], [30, 30])
    entries = {
        "relu(x)": act_bench_entry([*first, *second]),
        "min(square(x),selu(x))": act_bench_entry([*first[::-1], *second], 0.75) | {"Test Loss": float("nan")},
        "tanh(x)": act_bench_entry([*first, *second[:30], *np.ones(30)]),
        "elu(x)": act_bench_entry([]),
    }
    path = tmp_path / "act-bench-toy.json"
    path.write_text(json.dumps(entries, indent=1))
    found = load_benchmark(path)
    assert found.functions == tuple(entries)
    assert found.scores.tolist() == [0.5, 0.75, 0.5, 0.5]
    assert np.isnan(found.other_metrics["test_loss"][1, 0])
    assert found.aliases[0] == ("max(relu(x),relu(x))",)
    assert found.seconds[2, 0] == 12.5
    relu, wrong, tanh, empty = found.spectra["empirical"]
    assert wrong is None
    assert empty is None
    assert relu is not None
    assert tanh is not None
    assert relu.n_weights == (4000, 6000)
    assert relu.quantiles[0] == pytest.approx((np.arange(256) + 0.5) / 256 * 200 - 100)
    assert relu.quantiles[1].min() >= 0
    assert relu.quantiles[1].max() <= 200 / 60


def test_an_act_bench_file_that_is_cut_says_where(tmp_path: Path) -> None:
    text = json.dumps({"relu(x)": act_bench_entry([]), "elu(x)": act_bench_entry([])})
    (tmp_path / "cut.json").write_text(text[:-30])
    with pytest.raises(BenchmarkError, match=r"byte \d+: in entry 'elu\(x\)'"):
        load_benchmark(tmp_path / "cut.json")
    (tmp_path / "unknown.json").write_text(json.dumps({"relu(x)": act_bench_entry([]), "rleu(x)": {}}))
    with pytest.raises(BenchmarkError, match=r"byte \d+, entry 'rleu\(x\)': unknown operator 'rleu'"):
        load_benchmark(tmp_path / "unknown.json")
    (tmp_path / "empty.json").write_text("{}")
    with pytest.raises(BenchmarkError, match=r"empty\.json' has no entries"):
        load_benchmark(tmp_path / "empty.json")
    (tmp_path / "lacks.json").write_text('{"relu(x)": {}, "elu(x)": {"Validation Accuracy": 0.5}}')
    assert load_benchmark(tmp_path / "lacks.json").trained.tolist() == [[False], [True]]


def test_candidates_are_what_was_trained_but_the_baselines(synthetic_benchmark: Benchmark) -> None:
    assert synthetic_benchmark.candidates.tolist() == list(range(8, 60))
    seconds, scores = synthetic_benchmark.seconds.copy(), synthetic_benchmark.seed_scores.copy()
    seconds[[2, 20]] = scores[[2, 20]] = np.nan
    scores[30] = np.nan  # diverged
    part = replace(synthetic_benchmark, seconds=seconds, seed_scores=scores)
    assert part.candidates.tolist() == [i for i in range(8, 60) if i != 20]
    assert draw_candidates(part, 99, 0).tolist() == part.candidates.tolist()
