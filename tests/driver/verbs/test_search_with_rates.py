"""Searches that try functions at other learning rates, from end to end without Ray: workers answer at once, and a score
depends on the function, its own best rate, and the rate that it is trained at."""

from __future__ import annotations

import json
import math
import os
from dataclasses import replace
from pathlib import Path

import pytest
from light_driver import LightActor, LightPool, without_ray
from scripted_worker import ScriptedWorker, score_of

from aquasurf_ray.activations import BASELINES, outputs
from aquasurf_ray.cli.main import main
from aquasurf_ray.driver import confirm, resume, search
from aquasurf_ray.driver.errors import BadUse
from aquasurf_ray.driver.suggestions import growth
from aquasurf_ray.store import RunExists, Store
from aquasurf_ray.training_metrics import TrainingMetrics

RATES = (0.5, 1.0, 2.0)
CHANGES = {0.5: "learning_rate*0.5", 1.0: "", 2.0: "learning_rate*2"}
N = 40


def truth(function, change):
    """The score of a pair; None if it diverges. Functions with similar outputs have similar scores and best rates, most
    of which are twice the recipe's or more."""
    values = outputs(function)
    steep, rate = float(abs(values).mean()), {v: k for k, v in CHANGES.items()}.get(change, 1.0)
    if not steep * rate < 2.5:  # also where outputs are not finite
        return None
    best = min(1.5, max(-1.0, math.log2(1.6 / max(steep, 1e-3))))
    return 0.9 - 0.1 * abs(math.log2(rate) - best) - 0.1 * abs(float(values.mean()) - 0.3)


class RateWorker(ScriptedWorker):
    """Answers with the scores of `truth`."""

    def train(self, job):
        score, done = truth(job.function, job.recipe_change), super()._train(job)
        if score is None:
            blank = vars(TrainingMetrics())
            return replace(done, **blank, status="diverged", reason="training loss became nan", epochs=())
        equal = dict.fromkeys(("score", "train_score", "val_accuracy", "test_score", "test_accuracy"), score)
        return replace(done, **equal)


class RatePool(LightPool):
    """A pool of such workers, whose trainings take no time."""

    def __init__(self, settings, *more):
        super().__init__(settings, *more)
        self.training_seconds = 0.0
        for slot in self.slots:
            slot.actor = LightActor(settings)
            slot.actor.work = RateWorker(settings)


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AQUASURF_STORE", f"sqlite:///{tmp_path}/runs.db")
    without_ray(RatePool, monkeypatch.setattr)


def searched(name="one", **options):
    """A search of few candidates on their outputs."""
    chosen = {
        "candidates": N,
        "evaluations": 30,
        "features": "outputs",
        "workers": 1,
        "learning_rates": RATES,
        "seed": 1,
    }
    return search("digits", name=name, progress=False, **{**chosen, "learning_rates": RATES, **options})


def requests(name="one"):
    with Store.open(command_url(), create=False) as store:
        return store.snapshot(store.run(name).id).evaluations


def command_url():
    return os.environ["AQUASURF_STORE"]


def trained(name="one"):
    """Pairs in the order of the requests, with their scores."""
    return [(r.function, r.evaluation.recipe_change, r.evaluation.score) for r in requests(name)]


def candidates(name="one"):
    with Store.open(command_url(), create=False) as store:
        return [function.name for function in store.candidates(store.run(name).id)]


@pytest.mark.slow
def test_the_best_pair_is_found_and_functions_that_diverged_are_tried_at_another_rate(here):
    result = searched(evaluations=50)
    found = trained()
    assert len(found) == len(set(found)) == len(BASELINES) + 50
    assert [pair[:2] for pair in found[:8]] == [(name, "") for name in BASELINES]
    known = {(f, c): truth(f, c) for f in candidates() for c in CHANGES.values()}
    assert [score for *_, score in found] == [known[pair[:2]] for pair in found]
    best = max((pair for pair in known if known[pair] is not None), key=known.get)
    assert best[1], "the landscape's best pair is not one of the recipe's own rate"
    assert (result.best, result.best_change) == ((best[0], pytest.approx(known[best])), best[1])
    first = {f: score for f, c, score in found if not c}
    other = [(f, c, score) for f, c, score in found if c]
    assert all(f in first for f, *_ in other), "each was trained with the recipe as it is before"
    mended = [f for f, _, score in other if first[f] is None and score is not None]
    assert mended
    assert max(score for f, c, score in found if c and score) > max(score for score in first.values() if score)


@pytest.mark.slow
def test_the_sequence_is_that_of_the_seed_however_often_the_run_is_resumed(here, tmp_path, monkeypatch):
    searched()
    whole = trained()
    assert any(change for _, change, _ in whole)
    for name, store in (("again", "again.db"), ("parts", "parts.db")):
        monkeypatch.setenv("AQUASURF_STORE", f"sqlite:///{tmp_path}/{store}")
        searched(name, evaluations=30 if name == "again" else 7)
        for evaluations in () if name == "again" else (8, 19, 30):
            resume(name, progress=False, evaluations=evaluations)
        assert trained(name) == whole
    suggested = {r.evaluation.key: r.suggestion for r in requests("parts") if r.suggestion}
    assert any(n.recipe_change for s in suggested.values() for n in s.neighbors)


def test_a_space_that_grows_is_searched_at_several_rates_too(here, tmp_path, monkeypatch):
    monkeypatch.setattr(growth, "FEWEST_CHILDREN", 60)
    grows = {"space": "open", "candidates": 70, "growth": 2, "evaluations": 14}
    searched(**grows)
    whole, names = trained(), candidates()
    assert len({change for _, change, _ in whole}) == 3
    assert {function for function, *_ in whole} & set(names[len(BASELINES) + 70 :]), "a grown function is trained"
    monkeypatch.setenv("AQUASURF_STORE", f"sqlite:///{tmp_path}/parts.db")
    searched(**{**grows, "evaluations": 6})
    resume("one", progress=False, evaluations=14)
    assert (trained(), candidates()) == (whole, names)


@pytest.mark.slow
def test_another_run_of_the_task_takes_the_results_of_pairs_and_trains_nothing(here):
    searched()
    result = searched("two")
    assert (result.reused, trained("two")) == (38, trained())


def test_rates_make_a_run_another_one_and_one_rate_makes_it_none(here):
    searched("plain", learning_rates=(), evaluations=10)
    one = searched("one", learning_rates=(1,), evaluations=10)
    assert trained("one") == trained("plain")
    assert one.best_change == ""
    with pytest.raises(RunExists, match="learning_rates"):
        searched("plain", evaluations=10)
    with pytest.raises(BadUse, match="cannot change its learning_rates"):
        resume("plain", progress=False, learning_rates=RATES)


@pytest.mark.slow
def test_many_workers_train_each_pair_once_and_another_rate_only_after_the_first(here):
    searched(evaluations=60, workers=4)
    found = trained()
    assert len(found) == len({pair[:2] for pair in found}) == 68
    ends = {r.evaluation.key: r.evaluation for r in requests()}
    for (function, seed, change), evaluation in ends.items():
        if change:
            assert ends[function, seed, ""].finished_at <= evaluation.started_at


def test_a_search_ends_when_all_pairs_are_trained(here):
    result = searched(candidates=3, evaluations=100)
    assert result.exhausted
    assert {pair[:2] for pair in trained()} == {(f, c) for f in candidates() for c in CHANGES.values()}


def test_another_field_of_the_recipe_takes_the_place_of_the_rate(here, monkeypatch):
    monkeypatch.setitem(globals(), "truth", lambda function, change: score_of(f"{function} {change}"))
    searched(learning_rates=(), tune="weight_decay=0,1e-4,1e-2")
    changes = {change for _, change, _ in trained()}
    assert {"weight_decay=0.01", ""} < changes
    assert changes <= {"", "weight_decay=0", "weight_decay=0.0001", "weight_decay=0.01"}


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"surrogate": "aquasurf"}, "learning-rates: a search needs surrogate metric for it, got 'aquasurf'"),
        ({"learning_rates": (-1, 1)}, "learning-rates: learning_rate must be positive"),
        ({"learning_rates": (), "tune": "colour=1,2"}, "tune: 'colour' is not a numeric field"),
    ],
    ids=["map", "negative", "unknown"],
)
def test_what_cannot_be_tried_starts_nothing(here, tmp_path, options, problem):
    with pytest.raises(BadUse, match=problem):
        searched(**options)
    assert list(tmp_path.iterdir()) == []


def test_everything_that_shows_a_run_shows_the_best_ones_rate(here, capsys):
    searched(evaluations=50)
    best, change = max((score, (f, c)) for f, c, score in trained() if score is not None)[1]
    capsys.readouterr()
    assert main(["top", "one", "-n", "100", "--format", "json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert (rows[0]["function"], rows[0]["recipe_change"]) == (best, change)
    assert {row["function"] for row in rows if row["baseline"]} <= set(BASELINES)
    others = [row["baseline"] for row in rows if row["function"] in BASELINES and row["recipe_change"]]
    assert others, "the search tried a baseline at another rate"
    assert all(others)
    assert main(["status", "one", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["best_function"], document["best_recipe_change"]) == (best, change)
    assert document["settings"]["learning_rates"] == list(RATES)
    assert main(["show", best]) == 0
    shown = capsys.readouterr().out
    assert f"seed 0, {change}: done" in shown
    assert main(["report", "one", "-o", "report.html"]) == 0
    assert f"<code>{best}</code>, trained with {change}," in Path("report.html").read_text()


@pytest.mark.slow
def test_winners_are_the_best_functions_at_any_rate_and_are_confirmed_at_their_best(here):
    searched(evaluations=50)
    result = confirm("one", top=2, seeds=1, rate_seeds=1, progress=False)
    found = trained()
    best = {}
    for function, _, score in found:
        if score is not None and function not in BASELINES:
            best[function] = max(score, best.get(function, 0.0))
    with Store.open(command_url(), create=False) as store:
        run = store.run(result.name)
        names = {function.name for function in store.candidates(run.id)}
    assert run.config["recipe_changes"] == list(CHANGES.values())
    assert names - set(BASELINES) == set(sorted(best, key=best.get)[-2:])
    other = confirm("one", top=2, seeds=1, rate_seeds=1, progress=False, tune="weight_decay=0,1e-2")
    assert other.name != result.name
