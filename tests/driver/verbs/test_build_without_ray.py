"""Which run a build is, and what it is to train. Without Ray."""

from __future__ import annotations

import json

import pytest

from aquasurf_ray.activations import BASELINES
from aquasurf_ray.driver import build_benchmark
from aquasurf_ray.driver.errors import BadUse
from aquasurf_ray.driver.settings.surrogate_names import EARLIER_SURROGATE
from aquasurf_ray.store import Store

NAMES = ("tanh(tanh(x))", "erf(tanh(x))", "relu(x)")
N_FUNCTIONS = len(BASELINES) + 2  # relu is a baseline


@pytest.fixture
def space(here, tmp_path):
    """A file of a space, in the folder of the store."""
    (tmp_path / "space.yaml").write_text("name: own\nmodules: [math]\nnames:\n" + "".join(f"  - {n}\n" for n in NAMES))
    return "space.yaml"


def built(here, space, **options):
    return build_benchmark("digits", **{"space": space, "seeds": 2, "store": here, **options})


def test_every_function_is_a_candidate_once_and_trained_with_every_seed(here, cluster, space):
    name = built(here, space, seeds=3).name
    (spec,) = cluster.specs
    assert (spec.run.kind, spec.budget, spec.run.budget) == ("build", 3 * N_FUNCTIONS, 3 * N_FUNCTIONS)
    with Store.open(here) as store:
        run = store.run(name)
        assert sorted(function.name for function in store.candidates(run.id)) == sorted({*NAMES, *BASELINES})
        seeds = [entry.evaluation.seed for entry in store.snapshot(run.id).evaluations]
    assert sorted(seeds) == sorted([0, 1, 2] * N_FUNCTIONS)


def test_the_same_command_finds_its_build_and_a_changed_one_begins_another(here, cluster, space, tmp_path):
    first = built(here, space).name
    assert first.startswith("build-")
    assert built(here, space, workers=1, max_attempts=7).name == first, "conditions do not matter"
    assert len(cluster.joined) == 1, "and it was finished"
    others = {built(here, space, **change).name for change in ({"seeds": 1}, {"fisher": "sampled,empirical"})}
    (tmp_path / space).write_text("name: own\nnames:\n  - erf(erf(x))\n")
    others.add(built(here, space).name)
    assert len(others | {first}) == 4


def test_a_build_completes_every_training_and_asks_no_surrogate(here, cluster, space):
    built(here, space, name="plain", fisher=" empirical , sampled,empirical")
    built(here, space, name="gated", health_gate="on", fisher="sampled")
    plain, gated = (spec.config for spec in cluster.specs)
    assert (plain.health_gate, gated.health_gate) == ("off", "off")
    assert plain.surrogate == EARLIER_SURROGATE, "the name that builds of earlier versions have in their identity"
    assert cluster.specs[0].run.config["fishers"] == ["empirical", "sampled"], "each once, in the order given"


def test_workers_import_the_modules_of_the_space_too(here, cluster, space):
    built(here, space, modules=["json"])
    assert cluster.specs[0].config.modules == ("json", "math")


def test_the_file_of_a_finished_build_is_written_without_ray(here, cluster, space, tmp_path):
    built(here, space, seeds=1, name="b")
    built(here, space, seeds=1, name="b", output=tmp_path / "b.json")
    assert len(cluster.joined) == 1
    entries = json.loads((tmp_path / "b.json").read_text())
    assert set(entries) == {*NAMES, *BASELINES}
    with Store.open(here) as store:
        scores = {row.function: row.score for row in store.leaderboard(run_id=store.run("b").id)}
    assert scores.keys() == entries.keys()


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"seeds": 0}, "seeds: at least one is needed, got 0"),
        ({"fisher": "sampled,exact"}, "fisher must be sampled, empirical or sampled,empirical, got 'exact'"),
        ({"space": "no-space"}, "no-space"),
        ({"early_stop": "sometimes"}, "early-stop"),
    ],
)
def test_bad_use_starts_nothing(here, cluster, space, tmp_path, options, problem):
    with pytest.raises(BadUse) as raised:
        built(here, **{"space": space, **options})
    assert problem in str(raised.value)
    assert (cluster.joined, [path.name for path in tmp_path.iterdir()]) == ([], ["space.yaml"])


def test_a_file_that_cannot_be_written_is_reported_before_anything_is_trained(here, cluster, space, tmp_path):
    (tmp_path / "folder.json").mkdir()
    for output, problem in (
        ("b.txt", r"a benchmark is written to a file named .parquet or .json, got '.*b.txt'"),
        ("nowhere/b.json", "there is no folder"),
        ("folder.json", r"output: '.*folder\.json' is a folder; name a file in it"),
    ):
        with pytest.raises(BadUse, match=problem):
            built(here, space, output=tmp_path / output)
    assert (cluster.joined, (tmp_path / "runs.db").exists()) == ([], False)
