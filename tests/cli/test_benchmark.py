"""`aquasurf benchmark`: a table, one JSON document, a picture, and what is refused before anything starts."""

from __future__ import annotations

import json

import pytest
from synthetic_benchmark import make_benchmark

from aquasurf_ray.analysis.benchmarks.parquet import write_benchmark
from aquasurf_ray.cli.main import main


@pytest.fixture(scope="module")
def made_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("benchmark") / "synthetic.parquet"
    write_benchmark(make_benchmark(40), path)
    return str(path)


def run(capsys, *arguments):
    code = main(list(arguments))
    captured = capsys.readouterr()
    return code, captured.out, captured.err


@pytest.mark.slow
def test_replay_prints_one_document_and_draws_a_picture(ray_here, capsys, made_file, tmp_path):
    picture = tmp_path / "curves.svg"
    options = ["--policy", "evolution", "--runs", "3", "--evaluations", "8", "--simulated-workers", "2", "--json"]
    code, out, err = run(capsys, "benchmark", "replay", made_file, *options, "-o", str(picture))
    assert (code, err) == (0, f"curves in {picture}\n")
    document = json.loads(out)
    assert list(document["policies"]) == ["random", "evolution"]
    wanted = {
        "benchmark": "synthetic",
        "functions": 40,
        "runs": 3,
        "evaluations": 8,
        "workers": 2,
        "candidates": 16,
        "reference": "random",
    }
    assert {key: document[key] for key in wanted} == wanted
    assert 1 <= document["policies"]["evolution"]["to_top_1"]["median"] <= 9
    assert set(document["policies"]["evolution"]["tests"]) == {"to_top_1", "to_top_01", "regret", "regret_of_choice"}
    assert "evolution" in picture.read_text()


@pytest.mark.slow
def test_replay_prints_a_table(ray_here, capsys, made_file):
    options = ["--policy", "evolution", "--reference", "evolution", "--runs", "2", "--evaluations", "5"]
    code, out, err = run(capsys, "benchmark", "replay", made_file, *options)
    assert (code, err) == (0, "")
    title, _, columns, random, evolution, *_ = out.splitlines()
    assert title == "synthetic: 40 functions, 2 searches of 5 evaluations among 16 drawn functions after the baselines"
    assert columns.split()[:4] == ["policy", "to", "top", "1%"]
    assert (random.split()[0], evolution.split()[0]) == ("random", "evolution")
    assert evolution.split()[-1] == "-"


@pytest.mark.slow
def test_evidence_prints_tables_and_keeps_them(ray_here, capsys, made_file, tmp_path):
    options = ["--experiment", "targets", "--runs", "2", "--evaluations", "3", "--half", "second"]
    path = tmp_path / "tables.md"
    code, out, err = run(capsys, "benchmark", "evidence", made_file, *options, "-o", str(path))
    assert (code, err) == (0, "")
    assert out.startswith("synthetic, second 24 functions, 2 searches of 3 evaluations among 8 drawn functions")
    assert out.count("\n| gp/both/metric") == out.count("\n| svr/both/metric") == 2
    assert path.read_text() in out
    code, out, err = run(capsys, "benchmark", "evidence", made_file, *options, "--json")
    assert (code, err) == (0, "")
    document = json.loads(out)
    assert list(document["experiments"]) == ["targets"]
    assert document["experiments"]["targets"]["reference"] == "gp/both/metric"


def test_evidence_of_nothing_known_or_into_nowhere_is_refused(capsys, made_file, tmp_path):
    for options, says in (
        (["--experiment", "layers"], "experiment must be one of rivals"),
        (["-o", str(tmp_path / "absent" / "tables.md")], "cannot be written: there is no folder"),
        (["-o", str(tmp_path)], "is a folder; name a file in it"),
    ):
        code, out, err = run(capsys, "benchmark", "evidence", made_file, *options)
        assert (code, out) == (2, "")
        assert says in err
        assert len(err.splitlines()) <= 2


def test_a_table_that_is_there_stays_when_its_benchmark_is_misspelled(capsys, tmp_path):
    path = tmp_path / "tables.md"
    path.write_text("of last night")
    assert run(capsys, "benchmark", "evidence", "act-bench-digit", "-o", str(path))[:2] == (2, "")
    assert path.read_text() == "of last night"


def test_a_picture_that_fails_at_the_end_takes_no_table_with_it(ray_here, capsys, monkeypatch, made_file, tmp_path):
    def full(path):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("aquasurf_ray.analysis.output_file.cached_files.whole_file", full)
    options = ["--policy", "evolution", "--runs", "2", "--evaluations", "2", "-o", str(tmp_path / "c.png")]
    code, out, err = run(capsys, "benchmark", "replay", made_file, *options)
    assert (code, err) == (2, f"aquasurf: '{tmp_path / 'c.png'}' cannot be written: No space left on device\n")
    assert "evolution" in out


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--regressor", "knr,knn"], "regressor must be one of knr, rfr, svr"),
        (["--features", "spectra"], "features must be one of both, spectrum, outputs, got 'spectra'"),
        (["--space", "plane"], "space must be one of umap, metric, got 'plane'"),
        (["--baseline", "rndom"], "baseline must be one of random, aquasurf, metric, evolution, tpe, "),
        (["--policy", "knr/both/umap:k"], "'k' in 'knr/both/umap:k' is not a setting"),
        (["--policy", "knn/both/umap"], "regressor must be one of knr"),
        (["--policy", "evolve"], "REGRESSOR/FEATURES/SPACE (such as knr/both/umap), got 'evolve'"),
        (["--reference", "tpe"], "reference must be one of random, knr/both/umap, got 'tpe'"),
        (["--runs", "0"], "runs: at least one is needed, got 0"),
        (["--evaluations", "33"], "a search on 'synthetic' can choose from 16 functions"),
        (["--observe", "mean"], "--observe must be one of draw, seed, median, got 'mean'"),
        (["-o", "curves.xls"], "picture 'curves.xls' must end in one of"),
        (["-o", "absent/curves.png"], "there is no folder 'absent'"),
    ],
)
def test_bad_use_is_reported_in_two_lines_at_most(monkeypatch, capsys, made_file, options, says):
    monkeypatch.setattr(
        "aquasurf_ray.driver.benchmarks.replay.connected", lambda address: pytest.fail("Ray would start")
    )
    code, out, err = run(capsys, "benchmark", "replay", made_file, *options)
    assert (code, out) == (2, "")
    assert says in err
    assert len(err.splitlines()) <= 2


@pytest.mark.parametrize("name", ["act-bench-absent", "absent.parquet"])
def test_a_benchmark_that_is_not_there_is_reported(capsys, name):
    code, out, err = run(capsys, "benchmark", "replay", name)
    assert (code, out) == (2, "")
    assert f"no benchmark '{name}'" in err
    assert len(err.splitlines()) == 1


def test_the_documented_interface_is_there():
    from typer.main import get_command

    from aquasurf_ray.cli.main import app

    commands = get_command(app).commands["benchmark"].commands
    wanted = {
        "replay": "--regressor --features --space --baseline --policy --runs --evaluations --simulated-workers --seed "
        "--observe --candidates --reference --address --json -o",
        "evidence": "--experiment --half --runs --evaluations --seed --observe --candidates --address --json -o",
    }
    for name, options in wanted.items():
        known = {flag for parameter in commands[name].params for flag in parameter.opts}
        assert set(options.split()) <= known
