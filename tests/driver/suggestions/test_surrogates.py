"""The surrogate in the metric space searches as the one on a map does; every run keeps the one that it began with."""

from __future__ import annotations

import contextlib
import sqlite3
from collections import Counter

import numpy as np
import pytest
from scripted_worker import ScriptedWorker, price_of, score_of

from aquasurf_ray.driver import evaluate, resume, search
from aquasurf_ray.driver.errors import BadUse
from aquasurf_ray.driver.settings import models as configuration
from aquasurf_ray.driver.settings.reading import make_config
from aquasurf_ray.driver.settings.surrogate_names import REGRESSORS, SurrogateName
from aquasurf_ray.driver.suggestions import surrogates
from aquasurf_ray.driver.suggestions.surrogates import settings_of
from aquasurf_ray.store import Store
from aquasurf_ray.surrogate.metric_space import FeatureDistances
from aquasurf_ray.surrogate.settings import AQUASURF, METRIC, METRIC_REGRESSORS, SURROGATES, policy_of


@pytest.fixture
def here(tmp_path, monkeypatch, ray_here):
    monkeypatch.chdir(tmp_path)
    return f"sqlite:///{tmp_path}/runs.db"


@pytest.fixture
def no_embedder(monkeypatch):
    """Whoever makes one fails."""
    monkeypatch.setattr(surrogates, "Embedder", None)


def scripted(here, **options):
    chosen = {"candidates": 40, "evaluations": 14, "cpus_per_worker": 0.4, "workers": 1, "store": here, **options}
    return search("digits", worker=ScriptedWorker, **chosen)


def requests(here, name):
    with Store.open(here, create=False) as store:
        return store.snapshot(store.run(name).id).evaluations


def reasons(here, name):
    """What was suggested and why, without the store's numbers, which may differ between stores."""
    found = [(w.function, w.suggestion) for w in requests(here, name) if w.suggestion]
    return [
        (function, why.predicted_score, why.rank, why.embedding_version, [(n.distance, n.score) for n in why.neighbors])
        for function, why in found
    ]


@pytest.mark.slow
@pytest.mark.usefixtures("no_embedder")
def test_a_search_in_the_metric_space_is_the_same_whether_interrupted_or_not(here, tmp_path):
    result = scripted(here, name="long", surrogate="metric")
    assert (result.evaluations, result.exhausted) == (22, False)
    assert Counter(w.origin for w in requests(here, "long")) == {"baseline": 8, "suggestion": 14}
    whole = reasons(here, "long")
    assert len({function for function, *_ in whole}) == 14
    assert all(predicted is not None and len(near) == 3 for _, predicted, _, _, near in whole)
    versions = [version for *_, version, _ in whole]
    assert len(set(versions[:8])) == 1 == len(set(versions[8:])), "of 32 candidates, then of all"
    assert versions[0] != versions[-1]

    other = f"sqlite:///{tmp_path}/other.db"
    scripted(other, name="short", surrogate="metric", evaluations=5)
    resume("short", store=other, worker=ScriptedWorker, evaluations=14)
    assert reasons(other, "short") == whole
    assert scripted(other, name="short").evaluations == 22, "resumes without being given its surrogate again"
    with pytest.raises(BadUse, match="cannot change its surrogate"):
        resume("short", store=other, surrogate="aquasurf")


@pytest.mark.usefixtures("no_embedder")
@pytest.mark.slow
def test_prices_and_pending_trainings_count_in_the_metric_space(here):
    scripted(here, name="cheap", surrogate="metric", regressor="knr", max_cost=0.9, workers=2, evaluations=10)
    suggested = [w.function for w in requests(here, "cheap") if w.origin == "suggestion"]
    assert len(set(suggested)) == 10
    assert max(map(price_of, suggested)) <= 0.9


@pytest.mark.slow
def test_a_run_of_a_version_with_one_surrogate_continues_with_it(here, tmp_path, monkeypatch):
    scripted(here, name="old", surrogate="aquasurf", evaluations=2)
    with contextlib.closing(sqlite3.connect(tmp_path / "runs.db")) as database, database:  # as that version stored it
        database.execute("UPDATE runs SET config = json_remove(config, '$.surrogate')")
    asked = {"worker": ScriptedWorker, "workers": 1, "store": here}
    trained = evaluate(["relu(x)"], "digits", **asked).name
    monkeypatch.setattr(configuration, "DEFAULT_SURROGATE", "metric")
    assert evaluate(["relu(x)"], "digits", **asked).name == trained, "where nothing is suggested, it has no say"
    assert make_config({"task": "digits"}).surrogate == "metric"
    with pytest.raises(BadUse, match="cannot change its surrogate"):
        resume("old", store=here, surrogate="metric")
    assert resume("old", store=here, worker=ScriptedWorker, evaluations=4).evaluations == 12
    assert scripted(here, name="old", evaluations=4).evaluations == 12
    with Store.open(here, create=False) as store:
        assert all(store.embedding(version) is not None for *_, version, _ in reasons(here, "old"))
        assert [run.name for run in store.runs()] == ["old", trained]
    best = max(requests(here, "old"), key=lambda w: w.evaluation.score)
    assert best.evaluation.score == score_of(best.function)


def test_a_configuration_says_the_settings():
    plain = make_config({"task": "digits", "surrogate": "aquasurf"})
    assert settings_of(plain) == AQUASURF
    assert settings_of(make_config({"task": "digits", "surrogate": "metric"})) == METRIC
    others = {"surrogate": "metric", "regressor": "svr", "features": "spectrum", "layer_weighting": "size"}
    found = settings_of(make_config({"task": "digits", **others}))
    assert (found.space, found.targets, found.acquisition, found.pending) == ("metric", "ranks", "mean", "liar")
    assert (found.regressor, found.features, found.weighting) == ("svr", "spectrum", "size")
    assert set(REGRESSORS) == set(SURROGATES) == set(SurrogateName.__args__)
    assert {name: settings.regressor for name, settings in SURROGATES.items()} == REGRESSORS


@pytest.mark.parametrize("regressor", METRIC_REGRESSORS)
@pytest.mark.parametrize("features", ["both", "outputs", "spectrum"])
def test_every_regressor_that_a_run_can_choose_suggests(regressor, features):
    settings = settings_of(make_config({"task": "digits", "regressor": regressor, "features": features}))
    rows = np.random.default_rng(0).normal(size=(40, 5)).astype(np.float32)
    made = {"outputs": FeatureDistances(rows, "euclidean"), "spectrum": FeatureDistances(rows**3, "manhattan")}
    policy = policy_of(settings, 0, features=lambda: [made[features]] if features in made else [*made.values()])
    for candidate in range(8):
        policy.observe(candidate, float(rows[candidate, 0]))
    assert {suggestion.candidate for suggestion in policy.suggest_batch(3)}.isdisjoint(range(8))
