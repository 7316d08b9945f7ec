"""Each command that trains validates its settings once and joins Ray once, whatever it goes through. Without Ray."""

from __future__ import annotations

import pytest
from fake_cluster import FakeCluster

from aquasurf_ray.analysis.benchmarks.parquet import load_benchmark
from aquasurf_ray.cli.main import main
from aquasurf_ray.driver.settings.models import SearchConfig

SMALL = ["--candidates", "4", "--evaluations", "2", "--features", "outputs"]


@pytest.fixture
def cluster(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("AQUASURF_STORE", raising=False)
    (tmp_path / "space.yaml").write_text("name: own\nnames:\n  - tanh(tanh(x))\n")
    return FakeCluster().install(monkeypatch)


@pytest.fixture
def validated(monkeypatch):
    """The values of every configuration that is made from them."""
    original, values = SearchConfig.model_validate, []

    def counted(given):
        values.append(given)
        return original(given)

    monkeypatch.setattr(SearchConfig, "model_validate", counted)
    return values


@pytest.mark.parametrize(
    "command",
    [
        ["search", "digits", "--name", "two", "--confirm", "1", "--seeds", "1", *SMALL],
        ["resume", "one", "--evaluations", "3", "--confirm", "2"],
        ["evaluate", "swish(x)", "--task", "digits", "--seeds", "2"],
        ["confirm", "one", "--top", "1", "--seeds", "2"],
        ["transfer", "--from", "one", "--to", "digits", "--top", "1", "--seeds", "2"],
        ["benchmark", "build", "digits", "--space", "space.yaml", "--seeds", "1"],
    ],
    ids=lambda words: words[0],
)
def test_settings_are_validated_once_and_ray_is_joined_once(cluster, validated, capsys, command):
    assert main(["search", "digits", "--name", "one", *SMALL]) == 0
    assert (len(validated), len(cluster.joined)) == (1, 1)
    for _ in range(2):  # the second time there is nothing to train
        validated.clear()
        assert main(command) == 0, capsys.readouterr().err
        assert len(validated) == 1
    assert (len(cluster.joined), cluster.counted, cluster.left) == (2, 2, 2)


@pytest.mark.parametrize(
    ("command", "problem"),
    [
        (["search", "digits", "--evaluations", "0"], "evaluations must be at least 1, got 0"),
        (["search", "digitz"], "digitz"),
        (["resume", "one", "--max-attempts", "0"], "max-attempts must be at least 1, got 0"),
        (["evaluate", "swish(x)", "--task", "digits", "--health-gate", "of"], "health-gate must be 'on' or"),
        (["confirm", "one", "--workers", "0"], "workers must be at least 1, got 0"),
        (["confirm", "one", "--seeds", "0"], "seeds: at least one is needed, got 0"),
        (["transfer", "--from", "one", "--to", "digits", "--seeds", "0"], "seeds: at least one is needed, got 0"),
        (["import", "act-bench-digits", "--task", "digits", "--name", ""], "name must not be empty, got ''"),
    ],
    ids=lambda words: words[0] if isinstance(words, list) else "",
)
def test_a_wrong_setting_is_named_and_begins_nothing(cluster, capsys, command, problem):
    assert main(["search", "digits", "--name", "one", *SMALL]) == 0
    assert main(command) == 2
    assert problem in capsys.readouterr().err
    assert len(cluster.joined) == 1


def test_a_confirmation_has_the_time_budget_that_it_is_given_and_not_the_searchs(cluster):
    assert main(["search", "digits", "--name", "one", "--time-budget", "1h", *SMALL]) == 0
    assert main(["confirm", "one", "--top", "1"]) == 0
    assert main(["confirm", "one", "--top", "2", "--time-budget", "90s"]) == 0
    assert [spec.config.time_budget for spec in cluster.specs] == [3600, None, 90]
    assert [spec.config.seeds for spec in cluster.specs] == [5, 5, 5]


def test_a_regressor_that_is_given_stays_when_a_search_keeps_its_own_surrogate(cluster):
    """The search began when another surrogate was the default, which differs from the surrogate of today."""
    words = ["search", "digits", "--name", "old", *SMALL]
    assert main([*words, "--surrogate", "aquasurf", "--regressor", "rfr"]) == 0
    assert main(words) == 2, "the default regressor of its surrogate is another one"
    assert main([*words, "--regressor", "rfr"]) == 0
    (spec,) = cluster.specs
    assert (spec.config.surrogate, spec.config.regressor) == ("aquasurf", "rfr")


def test_several_benchmarks_are_built_by_one_command(cluster, tmp_path, capsys):
    (tmp_path / "files").mkdir()
    command = ["benchmark", "build", "digits", "friedman", "--space", "space.yaml", "--seeds", "1", "-o", "files"]
    assert main(command) == 0, capsys.readouterr().err
    built = {file.name: load_benchmark(file) for file in sorted((tmp_path / "files").iterdir())}
    assert list(built) == ["act-bench-digits.parquet", "act-bench-friedman.parquet"]
    assert [benchmark.task for benchmark in built.values()] == ["digits", "friedman"]
    assert {benchmark.name for benchmark in built.values()} == {file.removesuffix(".parquet") for file in built}
    lines = [line for line in capsys.readouterr().out.splitlines() if "this command took" in line]
    assert len(lines) == 2
