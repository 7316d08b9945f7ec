"""What verbs decide before the first training: which run, whether it is finished, when Ray is needed. Without Ray."""

from __future__ import annotations

import signal

import pytest
from recorder import Recorder

from aquasurf_ray.activations import BASELINES
from aquasurf_ray.driver import build_benchmark, confirm, evaluate, resume, search
from aquasurf_ray.driver.cluster.capacity import Workers
from aquasurf_ray.driver.errors import BadUse, Interrupted
from aquasurf_ray.driver.settings.models import SearchConfig
from aquasurf_ray.driver.verbs import command
from aquasurf_ray.store import RunExists, Store

SMALL = {"candidates": 4, "evaluations": 2, "features": "outputs"}


def runs(here):
    with Store.open(here, create=False) as store:
        return {run.name: run for run in store.runs()}


def test_a_new_search_joins_ray_once_and_creates_database_and_run_after_that(here, cluster, tmp_path):
    result = search("digits", store=here, address="auto", storage=str(tmp_path), **SMALL)
    assert (result.name, cluster.joined, cluster.counted, cluster.left) == ("digits-1", ["auto"], 1, 1)
    (spec,) = cluster.specs
    assert (spec.budget, spec.import_task, spec.run.kind, spec.task.name) == (2, True, "search", "digits")
    with Store.open(here) as store:
        assert [function.name for function in store.candidates(spec.run.id)][:8] == list(BASELINES)
        assert len(store.candidates(spec.run.id)) == 12


def test_workers_that_do_not_fit_leave_no_database(here, cluster, tmp_path):
    cluster.fits = False
    with pytest.raises(BadUse, match="too many"):
        search("digits", store=here, **SMALL)
    assert (cluster.specs, cluster.left) == ([], 1)
    assert list(tmp_path.iterdir()) == []


def test_a_finished_run_says_so_without_ray_until_its_budget_is_raised(here, cluster):
    search("digits", name="one", store=here, **SMALL)
    recorder = Recorder()
    again = search("digits", name="one", store=here, callbacks=[recorder], **SMALL)
    resumed = resume("one", store=here, callbacks=[recorder])
    assert len(cluster.joined) == 1
    assert again.evaluations == resumed.evaluations == 12
    assert recorder.notes == ["run 'one' is finished: 12 evaluations"] * 2
    assert resume("one", store=here, evaluations=4).budget == 4
    assert len(cluster.joined) == 2


def test_a_name_that_another_configuration_has_is_refused_before_ray_starts(here, cluster):
    search("digits", name="one", store=here, **SMALL)
    with pytest.raises(RunExists, match=r"run 'one' exists with another configuration \(seed 0 -> 1\)"):
        search("digits", name="one", store=here, seed=1, **SMALL)
    with pytest.raises(RunExists, match="is of kind 'search', not 'evaluate'"):
        evaluate(["relu(x)"], "digits", name="one", store=here)
    with pytest.raises(BadUse, match="cannot change its seed, features; start another run"):
        resume("one", store=here, seed=1, features="both", workers=3)
    assert len(cluster.joined) == 1


def test_a_build_has_every_function_of_its_space_with_every_seed(here, cluster, tmp_path):
    (tmp_path / "space.yaml").write_text("name: own\nnames:\n  - tanh(tanh(x))\n  - relu(x)\n")
    build_benchmark("digits", space="space.yaml", seeds=2, store=here)
    assert cluster.specs[0].budget == 2 * (len(BASELINES) + 1), "relu is a baseline"
    assert cluster.specs[0].config.health_gate == "off"


def test_the_best_are_confirmed_in_the_same_ray_as_the_search(here, cluster):
    result = search("digits", name="one", confirm=2, seeds=3, store=here, early_stop="median", **SMALL)
    assert (len(cluster.joined), cluster.counted) == (1, 1)
    _, spec = cluster.specs
    assert result.confirmation == spec.run.name == next(name for name in runs(here) if name.startswith("one-confirm-"))
    assert spec.budget == 3 * (len(BASELINES) + 2)
    assert (spec.config.early_stop, spec.config.health_gate, spec.run.config["first_seed"]) == ("off", "off", 1)
    with Store.open(here) as store:
        confirmed = {function.name for function in store.candidates(spec.run.id)}
        best = [row.function for row in store.leaderboard(run_id=store.run("one").id) if row.seed == 0][:2]
    assert confirmed == {*BASELINES, *best}, "the last candidates have the highest scores"
    assert confirm("one", top=2, seeds=3, store=here).name == spec.run.name
    assert len(cluster.joined) == 1, "it is finished"


def test_the_confirmation_has_the_time_that_the_search_has_left(here, cluster):
    search("digits", name="one", confirm=1, seeds=1, store=here, time_budget=60, **SMALL)
    assert [spec.config.time_budget for spec in cluster.specs] == [60, 60], "the search took no time"


def test_a_signal_while_ray_starts_begins_nothing(here, cluster, tmp_path, monkeypatch):
    def interrupted(config, stopped):
        signal.raise_signal(signal.SIGTERM)
        return Workers(1, 1.0, 0.0)

    monkeypatch.setattr(command, "workers_after_waiting", interrupted)
    with pytest.raises(Interrupted, match="stopped by SIGTERM while Ray started; nothing was begun"):
        search("digits", store=here, **SMALL)
    assert list(tmp_path.iterdir()) == []


def test_a_search_with_a_confirmation_validates_its_settings_counts_workers_and_joins_ray_once(
    here, cluster, monkeypatch
):
    validated = []
    monkeypatch.setattr(SearchConfig, "model_validate", counting(SearchConfig.model_validate, validated))
    for _ in range(2):  # the second time the run is found, and finished
        search("digits", store=here, name="one", confirm=1, seeds=1, **SMALL)
    assert (len(validated), cluster.counted, len(cluster.joined)) == (2, 1, 1)


def counting(function, calls):
    def counted(*arguments, **options):
        calls.append(arguments)
        return function(*arguments, **options)

    return counted
