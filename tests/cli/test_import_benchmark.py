"""A benchmark of our own format imported: every training is one, spectra are as a search has them, nothing is lost."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest

from aquasurf_ray.activations import fingerprint
from aquasurf_ray.analysis import write_benchmark
from aquasurf_ray.analysis.benchmarks.from_store import benchmark_from_run
from aquasurf_ray.cli.main import main
from aquasurf_ray.store import Store


@pytest.fixture
def here(tmp_path, monkeypatch, synthetic_benchmark):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("AQUASURF_STORE", raising=False)
    write_benchmark(replace(synthetic_benchmark, provenance={"seeds": [4, 7, 9]}), tmp_path / "synthetic.parquet")
    return tmp_path


def run(capsys, *arguments):
    code = main(list(arguments))
    return code, *capsys.readouterr()


def test_it_comes_back_as_the_benchmark_that_it_was(here, synthetic_benchmark, capsys):
    code, out, err = run(capsys, "import", "synthetic.parquet", "--task", "digits")
    assert (code, err) == (0, "")
    n_spectra = sum(spectrum is not None for spectrum in synthetic_benchmark.spectra["sampled"])
    assert [" ".join(line.split()) for line in out.splitlines()][:3] == [
        "synthetic.parquet is now run 'synthetic' of task digits: 180 entries",
        f"functions 60 distinct functions, {np.isnan(synthetic_benchmark.seed_scores).sum()} entries diverged",
        f"spectra {n_spectra} empirical, {n_spectra} sampled",
    ]
    with Store.open("sqlite:///aquasurf.db") as store:
        found = benchmark_from_run(store, "synthetic")
        frame = store.evaluations(run="synthetic")
    # Both names of a function lead to it; the store keeps the shortest.
    order = [found.find(name) for name in synthetic_benchmark.functions]
    assert sorted(order) == list(range(60))
    np.testing.assert_array_equal(found.seed_scores[order], synthetic_benchmark.seed_scores)
    np.testing.assert_array_equal(found.test_scores[order], synthetic_benchmark.test_scores)
    np.testing.assert_array_equal(found.seconds[order], synthetic_benchmark.seconds)
    assert found.provenance["seeds"] == [4, 7, 9]
    assert [found.functions[i] for i in order] == list(synthetic_benchmark.functions)
    done = frame[frame["status"] == "done"]
    assert (done["val_accuracy"] == done["score"]).all()
    losses = done.pivot(index="fingerprint", columns="seed", values="train_loss")
    row = synthetic_benchmark.functions.index("relu(x)")
    assert losses.loc[fingerprint("relu(x)")].tolist() == synthetic_benchmark.other_metrics["train_loss"][row].tolist()
    for kind, spectra in synthetic_benchmark.spectra.items():
        for i, spectrum in zip(order, spectra, strict=True):
            its = found.spectra[kind][i]
            assert (its is None) == (spectrum is None)
            if spectrum is not None:
                assert its.layout[:2] == spectrum.layout[:2]
                # the file has bins of its own number, see analysis.benchmarks.packing
                assert abs(its.quantiles.mean() - spectrum.quantiles.mean()) < 0.01


def test_other_commands_know_it_and_it_is_exported_with_medians(here, synthetic_benchmark, capsys):
    run(capsys, "import", "synthetic.parquet", "--task", "digits", "--name", "mine")
    assert "imported before as run 'mine'" in run(capsys, "import", "synthetic.parquet", "--task", "digits")[1]
    shown = run(capsys, "show", "relu(x)")[1]
    assert "imported" in shown
    assert run(capsys, "export", "mine", "--format", "act-bench", "-o", "out.json")[0] == 0
    exported = json.loads((here / "out.json").read_text())
    assert set(exported) == set(synthetic_benchmark.functions)
    i = synthetic_benchmark.functions.index("relu(x)")
    assert exported["relu(x)"]["Validation Accuracy"] == np.median(synthetic_benchmark.seed_scores[i])
    assert len(exported["relu(x)"]["Fisher log eigenvalue CDF"]) > 0


def test_what_is_no_such_benchmark_changes_nothing(here, synthetic_benchmark, capsys):
    pyarrow.parquet.write_table(pyarrow.table({"a": [1]}), "plain.parquet")
    (here / "cut.parquet").write_bytes((here / "synthetic.parquet").read_bytes()[:5000])
    write_benchmark(replace(synthetic_benchmark, metric="rmse", higher_is_better=False), here / "rmse.parquet")
    bad = replace(synthetic_benchmark, functions=("unheard_of(x)", *synthetic_benchmark.functions[1:]))
    write_benchmark(bad, here / "unknown.parquet")
    for file, says in (
        ("plain.parquet", "is Parquet, but not a benchmark"),
        ("cut.parquet", "is damaged"),
        ("rmse.parquet", "'rmse.parquet' is judged by rmse, the task by accuracy"),
        ("unknown.parquet", "function 'unheard_of(x)': unknown operator 'unheard_of' at 1"),
        ("act-bench-digit", "'act-bench-digit' does not exist"),
    ):
        code, out, err = run(capsys, "import", file, "--task", "digits")
        assert (code, out, len(err.splitlines())) == (2, "", 1)
        assert says in err
    assert not (here / "aquasurf.db").exists()
