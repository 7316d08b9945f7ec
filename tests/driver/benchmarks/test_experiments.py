"""Experiments over Ray: what several of them have in common is simulated once."""

from __future__ import annotations

import re

import pytest
import recompute
from evidence_page import tables_of
from synthetic_benchmark import make_benchmark

from aquasurf_ray.analysis import write_benchmark
from aquasurf_ray.analysis.replay.comparison import compare
from aquasurf_ray.analysis.replay.experiments import Experiment, Variant
from aquasurf_ray.driver.benchmarks import experiments as evidence
from aquasurf_ray.driver.benchmarks.replay import ReplayOrder, replay


@pytest.mark.slow
def test_what_experiments_share_is_simulated_once(ray_here, monkeypatch):
    synthetic_benchmark, orders = make_benchmark(40), []

    def counted(benchmark, order, **options):
        orders.append(order)
        return replay(benchmark, order, **options)

    monkeypatch.setattr(evidence, "replay", counted)
    random, random_2, evolution = Variant("random"), Variant("random", 2), Variant("evolution")
    experiments = {
        "rivals": Experiment("Which?", (random, evolution)),
        "parallel": Experiment("How many?", (random, random_2)),
    }
    order = ReplayOrder(("random",), 5, 6, seed=3, candidates=20)
    found = dict(evidence.run_experiments(synthetic_benchmark, experiments, order))
    assert [(o.policies, o.workers, o.seed) for o in orders] == [
        (("random", "evolution"), 1, 3),
        (("random",), 2, 3),
    ]
    assert list(found["parallel"].measures) == ["random", "random, 2 workers"]
    at_once = compare(replay(synthetic_benchmark, orders[0]), synthetic_benchmark, "random")
    assert found["rivals"].tests == at_once.tests


@pytest.mark.slow
def test_fewer_runs_are_the_first_ones_and_more_are_added(ray_here, monkeypatch):
    synthetic_benchmark, orders = make_benchmark(40), []

    def counted(benchmark, order, **options):
        orders.append((order.policies, order.seed, order.runs))
        return replay(benchmark, order, **options)

    monkeypatch.setattr(evidence, "replay", counted)
    random, evolution = Variant("random"), Variant("evolution")
    names = ("some", "more", "fewer")
    experiments = {name: Experiment("Which?", (random, evolution)) for name in names}
    experiments["some"] = Experiment("Which?", (random,))
    order = ReplayOrder(("random",), 9, 6, seed=3, candidates=20)
    found = dict(
        evidence.run_experiments(synthetic_benchmark, experiments, order, runs={"some": 3, "more": 5, "fewer": 2})
    )
    assert orders == [(("random",), 3, 3), (("evolution",), 3, 5), (("random",), 6, 2)]
    for name, runs in zip(names, (3, 5, 2), strict=True):
        policies = tuple(variant.policy for variant in experiments[name].variants)
        at_once = replay(synthetic_benchmark, ReplayOrder(policies, runs, 6, seed=3, candidates=20))
        for policy, measures in compare(at_once, synthetic_benchmark, "random").measures.items():
            assert (found[name].measures[policy].best_so_far == measures.best_so_far).all()


@pytest.mark.slow
def test_the_page_is_filled_by_one_command(ray_here, monkeypatch, tmp_path, capsys):
    page, benchmark = tmp_path / "page.md", tmp_path / "synthetic.parquet"
    other = tmp_path / "other.parquet"
    for path in (benchmark, other):
        write_benchmark(make_benchmark(60), path)
    page.write_text(
        "".join(
            f"# {order}\n\n<!-- table: {order} benchmark={benchmark} -->\n<!-- end of table -->\n\n"
            for order in ("targets runs=2", "targets runs=3 half=second", "winners runs=2", "grid runs=100")
        )
        + f"<!-- table: targets runs=1 benchmark={benchmark},{other} -->\n<!-- end of table -->\n"
    )
    options = [
        "recompute.py",
        str(page),
        "--evaluations",
        "4",
        "--only",
        "targets,winners",
    ]
    monkeypatch.setattr("sys.argv", options)
    monkeypatch.setattr(recompute, "KEPT", tmp_path / "kept")
    recompute.main()
    first = tables_of(page.read_text())
    second, winners, grid, both = (first[order] for order in list(first)[1:])
    assert both.count("| synthetic | svr/both") == both.count("| other | svr/both") == 2
    assert second.count("| gp/both/metric") == second.count("| svr/both/metric") == 2
    assert "3 runs, each among 13 of 26 functions." in second
    assert "| best of two seeds among the five | 0." in winners
    assert grid == ""
    assert [line.split(": ")[1] for line in capsys.readouterr().out.splitlines()] == [
        "targets, all",
        "targets, all",
        "targets, second",
        "winners, all",
        "targets, all",
    ]
    recompute.main()
    times = re.compile(r"(?<=\] )\| [\d.]+ (?=\|)")  # of suggestions, after the rank correlation
    again = tables_of(page.read_text())
    assert {o: times.sub("", text) for o, text in again.items()} == {o: times.sub("", t) for o, t in first.items()}


def test_interrupted_tables_are_resumed(synthetic_benchmark, monkeypatch, tmp_path):
    page, benchmark = tmp_path / "page.md", tmp_path / "synthetic.parquet"
    write_benchmark(synthetic_benchmark, benchmark)
    orders = ("winners runs=1", "winners runs=3 half=first")
    page.write_text("".join(f"<!-- table: {o} benchmark={benchmark} -->\n<!-- end of table -->\n\n" for o in orders))
    monkeypatch.setattr("sys.argv", ["recompute.py", str(page), "--evaluations", "4"])
    monkeypatch.setattr(recompute, "KEPT", tmp_path / "kept")
    computed = []

    def table(benchmark, runs, evaluations):
        if runs == 3 and not computed[1:]:
            computed.append("interrupted")
            raise KeyboardInterrupt
        computed.append(runs)
        return f"{runs} runs"

    monkeypatch.setattr(recompute, "winners_table", table)
    with pytest.raises(KeyboardInterrupt):
        recompute.main()
    recompute.main()
    assert computed == [1, "interrupted", 3]
    assert [text.strip() for text in tables_of(page.read_text()).values()] == ["1 runs", "3 runs"]
    assert not list((tmp_path / "kept").iterdir()), "a later command computes all tables"
