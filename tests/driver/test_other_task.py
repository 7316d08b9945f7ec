"""A search that has another task's results from the start: of what was there when it was made, and no more."""

from __future__ import annotations

import numpy as np
import pytest
from scripted_worker import ScriptedWorker

from aquasurf_ray.driver import evaluate, resume, search
from aquasurf_ray.driver.config import LATER, digest, make_config
from aquasurf_ray.driver.errors import BadUse
from aquasurf_ray.driver.other_task import other_task
from store import Store
from surrogate.policy import normal_ranks


@pytest.fixture
def here(tmp_path, monkeypatch, ray_here):
    monkeypatch.chdir(tmp_path)
    return f"sqlite:///{tmp_path}/runs.db"


def scripted(store, task="digits-mlp", **options):
    chosen = {"candidates": 30, "evaluations": 6, "cpus_per_worker": 0.4, "workers": 1, "store": store, **options}
    return search(task, worker=ScriptedWorker, **chosen)


def suggested(store, name):
    with Store.open(store, create=False) as opened:
        wishes = opened.snapshot(opened.run(name).id).evaluations
    return [(w.function, w.suggestion.predicted_score) for w in wishes if w.suggestion]


def test_a_search_sees_what_the_other_task_had_and_goes_on_with_that(here):
    scripted(here, "digits", name="source", evaluations=20)
    scripted(here, name="alone")
    scripted(here, name="told", transfer_from="digits")
    assert suggested(here, "told") != suggested(here, "alone")
    with Store.open(here, create=False) as store:
        run = store.run("told")
        config = make_config({"task": "digits-mlp", "transfer_from": "digits"})
        candidates = store.snapshot(run.id).candidates
        other = other_task(store, config, run)
        nothing = np.full((len(candidates), 1), np.nan, dtype=np.float32)
        prior = other.prior(candidates, np.zeros((len(candidates), 1000), dtype=np.float32), nothing)
        trained = store.task_scores(store.task(store.run("source").task_id).id)
    worst = min(s for scores in trained.values() for s in scores if s is not None)
    ranks = normal_ranks(np.array([worst if s[0] is None else s[0] for _, s in sorted(trained.items())]))
    expected = dict(zip(sorted(trained), ranks, strict=True))
    found = {f.id: p for f, p in zip(candidates, prior, strict=True) if f.id in expected}
    assert found == pytest.approx({number: expected[number] for number in found})
    assert len(found) > 20

    scripted(here, name="cut", transfer_from="digits", evaluations=2)
    scripted(here, "digits", name="later", evaluations=28)  # results that "cut" is not to see
    resume("cut", store=here, worker=ScriptedWorker, evaluations=6)
    assert suggested(here, "cut") == suggested(here, "told")
    with pytest.raises(BadUse, match="cannot change its transfer_from"):
        resume("cut", store=here, transfer_from="digits-mlp")


def test_what_cannot_be_looked_at_is_told_before_a_run_is_made(here):
    evaluate(["relu(x)"], "digits-mlp", name="one", store=here, workers=1, worker=ScriptedWorker, cpus_per_worker=0.4)
    for name, message in (
        ("digits", "no other task 'digits'; there are: none"),
        ("digits-mlp", "no other task 'digits-mlp'"),
    ):
        with pytest.raises(BadUse, match=message):
            scripted(here, transfer_from=name)
    with Store.open(here) as store:
        store.add_task("waiting", "1", "a" * 32, {})
        for version in "12":
            store.add_task("twice", version, version * 32, {})
    with pytest.raises(BadUse, match="task 'waiting' has no results in the store yet"):
        scripted(here, transfer_from="waiting")
    with pytest.raises(BadUse, match=f"2 tasks of the store are called 'twice'; give a digest: {'1' * 32}, {'2' * 32}"):
        scripted(here, transfer_from="twice")
    with pytest.raises(BadUse, match="task 'twice' has no results"):
        scripted(here, transfer_from="2" * 32)
    with Store.open(here, create=False) as store:
        assert [run.name for run in store.runs()] == ["one"]


def test_it_belongs_to_the_run_and_runs_of_earlier_versions_do_without():
    plain, other = (make_config({"task": "digits-mlp", **more}) for more in ({}, {"transfer_from": "digits"}))
    assert LATER["transfer_from"] is None
    assert "transfer_from" not in plain.identity()
    assert digest(plain.identity()) != digest(other.identity())
    for wrong in ({"surrogate": "aquasurf"}, {"regressor": "knr"}):
        with pytest.raises(
            BadUse, match="transfer-from: results of another task are for surrogate metric with regressor gp"
        ):
            make_config({"task": "digits", "transfer_from": "x", **wrong})
