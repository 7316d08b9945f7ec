"""Where one function serves all places of a network, a function for each role is refused in one line with a remedy."""

from __future__ import annotations

from dataclasses import replace

import pytest
from light_driver import InstantPool, without_ray
from role_task import BEST, NAME, fill_role_run, two_roles

from aquasurf_ray import Study
from aquasurf_ray.analysis.benchmarks.from_store import benchmark_from_run
from aquasurf_ray.analysis.errors import BenchmarkError
from aquasurf_ray.analysis.report import KINDS
from aquasurf_ray.analysis.studies.findings import read_findings
from aquasurf_ray.cli.main import main
from aquasurf_ray.driver import build_benchmark, search
from aquasurf_ray.driver.candidates import one_function_baselines
from aquasurf_ray.driver.errors import BadUse
from aquasurf_ray.driver.own_activation import with_reference
from aquasurf_ray.store import Store
from aquasurf_ray.tune import ActivationSearch

BOTH = "early=relu(x);late=swish(x)"
ONE = r"has one function for all places of a network, got early=.*; give one function, or use aquasurf search or"


@pytest.fixture
def url(tmp_path):
    return f"sqlite:///{tmp_path}/s.db"


def with_a_baseline_of_roles():
    return replace(two_roles(), baselines=(BOTH,))


def test_tune_refuses_points_of_roles_before_the_experiment_begins(url):
    with pytest.raises(BadUse, match=f"a Tune trial {ONE}"):
        ActivationSearch(two_roles(), store=url, points_to_evaluate=[{"activation": BOTH}])
    given = ActivationSearch(two_roles(), store=url)
    with pytest.raises(BadUse, match=f"a Tune trial {ONE}"):
        given.add_evaluated_point({"activation": BOTH}, 0.5)
    asked = ActivationSearch(with_a_baseline_of_roles(), store=url, name="tuned", candidates=8)
    with pytest.raises(BadUse, match=f"a Tune trial {ONE}"):
        asked.suggest("t1")


def test_a_network_with_roles_has_one_function_in_tune_and_in_a_study(url):
    tuned = ActivationSearch(two_roles(), store=url, name="tuned", candidates=8)
    assert "=" not in tuned.suggest("t1")["activation"]
    tuned.close()
    with Study("study", task=two_roles(), store=url, candidates=8, features="outputs") as study:
        assert "=" not in study.ask().function


def test_a_study_refuses_baselines_of_roles_and_the_run_of_a_search_for_roles(url, monkeypatch):
    with pytest.raises(BadUse, match=f"a Study {ONE}"):
        Study("s", task=with_a_baseline_of_roles(), store=url, features="outputs")
    without_ray(InstantPool, monkeypatch.setattr)
    options = {"store": url, "candidates": 8, "features": "outputs", "evaluations": 1}
    search(two_roles(), name="searched", progress=False, **options)
    with pytest.raises(
        BadUse, match="run 'searched' searches a function per role, a Study one function: aquasurf resume"
    ):
        Study("searched", task=two_roles(), **options)


def test_a_reference_of_roles_is_no_baseline_where_one_function_is_trained():
    task = with_reference(replace(two_roles(), reference=BOTH, baselines=("sin(x)",)))
    assert task.baselines == ("sin(x)", BOTH)
    assert one_function_baselines(task, "a Study") == ("sin(x)",)


def test_a_search_trains_the_reference_of_roles_first_and_reports_gains_over_it(url, monkeypatch):
    without_ray(InstantPool, monkeypatch.setattr)
    task = replace(two_roles(), reference=BOTH)
    search(task, name="over", store=url, candidates=8, evaluations=2, progress=False)
    with Store.open(url) as store:
        found = read_findings(store, "over", "", quick=True)
    assert found.reference.function == BOTH
    chart = KINDS["roles"](found)
    assert [panel.marks[0].name for panel in chart.panels] == ["reference: relu(x)", "reference: swish(x)"]


def test_a_build_refuses_baselines_of_roles_before_it_trains(url):
    with pytest.raises(BadUse, match=f"a benchmark {ONE}"):
        build_benchmark(with_a_baseline_of_roles(), store=url)


def test_no_benchmark_file_is_written_of_functions_per_role(url, tmp_path, capsys):
    with Store.open(url) as store:
        fill_role_run(store)
        with pytest.raises(
            BenchmarkError, match="a benchmark has one function for all places of a network, got early="
        ):
            benchmark_from_run(store, NAME)
    written = tmp_path / "f.json"
    assert main(["export", NAME, "--format", "act-bench", "-o", str(written), "--store", url]) == 2
    error = capsys.readouterr().err
    assert error.endswith(f"got {BEST}; export as csv or parquet\n")
    assert error.count("\n") == 1
    assert not written.exists()
    assert main(["export", NAME, "--format", "csv", "-o", str(tmp_path / "f.csv"), "--store", url]) == 0
    assert BEST in (tmp_path / "f.csv").read_text()
