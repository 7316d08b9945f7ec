"""The search as Tune drives it, without Tune: suggestions, results in the store, interruption, settings beside the
function. The scores are made: minus the distance of a function's outputs to those of one that is best."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import cloudpickle
import numpy as np
import pytest
from pages import blocks
from ray import tune
from ray.tune.search import Repeater
from ray.tune.search.repeater import TRIAL_INDEX
from ray.tune.search.search_generator import SearchGenerator

from aquasurf_ray.activations import BASELINES, outputs
from aquasurf_ray.driver import propose
from aquasurf_ray.driver.errors import BadUse
from aquasurf_ray.store import RunExists, Store
from aquasurf_ray.tasks import load_task
from aquasurf_ray.tune import ActivationSearch

BEST = "mul(x,erf(x))"
CANDIDATES = 24


def merit(function):
    with np.errstate(all="ignore"):
        distance = np.abs(np.nan_to_num(outputs(function)) - outputs(BEST)).clip(0, 5).mean()
    return float(-distance)


@pytest.fixture
def url(tmp_path):
    return f"sqlite:///{tmp_path}/tune.db"


@pytest.fixture
def make(url):
    """Makes searches whose runs are given back at the end."""
    made = []

    def search(**options):
        options = {"task": "digits", "store": url, "name": "one", "candidates": CANDIDATES, **options}
        made.append(ActivationSearch(**options))
        return made[-1]

    yield search
    for search in made:
        search.close()


def trained(search, numbers):
    """The functions of so many trials, one after the other, each with its score."""
    found = []
    for number in numbers:
        config = search.suggest(f"t{number}")
        found.append(config["activation"])
        search.on_trial_complete(f"t{number}", {"score": merit(config["activation"]), "training_iteration": 1})
    return found


def evaluations(url, name="one"):
    with Store.open(url) as store:
        return store.snapshot(store.run(name).id).evaluations


def test_the_run_has_the_reference_and_the_baselines_of_the_task(make, url):
    task = replace(load_task("digits"), reference="gelu(x)")
    search = make(task=task, trials=len(BASELINES) + 1)
    assert trained(search, range(len(BASELINES) + 1))[-1] == "gelu(x)"
    with Store.open(url) as store:
        config = store.run("one").config
    assert (config["reference"], config["task_baselines"]) == ("gelu(x)", ["gelu(x)"])


class Recorder:
    def __init__(self):
        self.got = []

    def on_event(self, event):
        self.got.append(event)


def test_callbacks_get_the_trials(make):
    recorder = Recorder()
    search = make(callbacks=[recorder])
    (first,) = trained(search, [0])
    config = search.suggest("t1")
    search.on_trial_complete("t1", error=True)
    started, ended, again, failed = recorder.got
    assert (type(started).__name__, started.function, started.worker) == ("EvaluationStarted", first, "trial t0")
    assert (ended.function, ended.status, ended.number) == (first, "done", 1)
    assert ended.score == ended.best == pytest.approx(merit(first))
    assert (again.function, failed.function, failed.final) == (config["activation"], config["activation"], True)


def test_baselines_come_first_then_what_the_surrogate_predicts_best(make, url):
    found = trained(make(), range(14))
    assert found[: len(BASELINES)] == list(BASELINES)
    assert len(set(found)) == 14
    stored = evaluations(url)
    assert [w.function for w in stored] == found
    assert [w.origin for w in stored] == ["baseline"] * 8 + ["suggestion"] * 6
    assert [w.evaluation.score for w in stored] == pytest.approx([merit(f) for f in found])
    assert all(w.suggestion.predicted_score is not None for w in stored[8:])


@pytest.mark.slow
def test_the_surrogate_finds_better_functions_than_chance(make):
    search = make(candidates=150, first_candidates=150)
    found = trained(search, range(30))[8:]
    with Store.open(search._config.store) as store:
        all_merits = [merit(f.name) for f in store.candidates(store.run("one").id)]
    merits = [merit(f) for f in found]
    assert np.median(merits) > np.median(all_merits)
    assert max(merits) >= np.quantile(all_merits, 0.98)


@pytest.mark.slow
def test_a_search_resumes_after_an_interruption_as_if_there_had_been_none(make, url, tmp_path):
    """What Tuner.restore does: the object as it was made, and its state from the file."""
    whole = trained(make(name="whole", store=f"sqlite:///{tmp_path}/whole.db"), range(16))
    search = make()
    as_made = cloudpickle.dumps(search)
    first = trained(search, range(11))
    search.suggest("open")
    search.save(str(tmp_path / "state"))
    del search  # its lease is held until the other takes it over
    restored = cloudpickle.loads(as_made)
    restored.restore(str(tmp_path / "state"))
    assert [w.evaluation.status for w in evaluations(url)].count("running") == 1
    restored.on_trial_complete("open", {"score": merit(whole[11]), "training_iteration": 1})
    assert [*first, whole[11], *trained(restored, range(12, 16))] == whole
    assert all(w.evaluation.status == "done" for w in evaluations(url))
    restored.close()


def test_the_state_is_plain_json_and_one_that_cannot_be_read_is_an_error(make, tmp_path):
    search = make()
    search.suggest("t0")
    search.on_trial_result("t0", {"score": 0.5, "epoch": 1, "val_loss": math.nan, "training_iteration": 1})
    path = tmp_path / "state"
    search.save(str(path))
    assert json.loads(path.read_text())["trials"]["t0"]["function"] == BASELINES[0]
    path.write_text("{")
    with pytest.raises(BadUse, match="cannot be read"):
        make().restore(str(path))
    path.write_text('{"version": 99}')
    with pytest.raises(BadUse, match="version 99"):
        make().restore(str(path))


def test_what_the_store_knows_of_the_task_is_not_trained_again_but_learnt_from(make, url):
    first = trained(make(), range(10))
    other = make(name="two", seed=1)
    again = trained(other, range(5))
    assert not set(again) & set(first)
    reused = [w.function for w in evaluations(url, "two") if w.reused]
    assert set(reused) >= set(BASELINES)


def test_a_trial_that_dies_stopped_early_or_diverged_is_recorded_as_that(make, url):
    search = make(points_to_evaluate=[{"activation": f} for f in BASELINES])
    for number in range(4):
        search.suggest(f"t{number}")
    report = {"score": 0.3, "epoch": 2, "epochs": 9, "status": "running", "training_iteration": 2, "val_loss": 1.5}
    search.on_trial_result("t0", {**report, "score": 0.2, "epoch": 1, "val_loss": 2.0})
    search.on_trial_complete("t0", report)
    search.on_trial_complete("t1", {"score": math.nan, "status": "diverged", "reason": "loss is nan", "epoch": 0})
    search.on_trial_complete("t2", error=True)
    search.on_trial_complete("t3")
    stopped, diverged, failed, queued = (w.evaluation for w in evaluations(url)[:4])
    assert (stopped.status, stopped.score, stopped.epochs) == ("done", 0.3, 2)
    assert stopped.stopped_early == "stopped by Tune after epoch 2 of 9"
    assert (diverged.status, diverged.score, diverged.reason) == ("diverged", None, "loss is nan")
    assert (failed.status, queued.status) == ("failed", "queued")
    assert search.suggest("t4")["activation"] == BASELINES[3], "what was given back is offered again"
    with Store.open(url) as store:
        assert [row.val_loss for row in store.curve(stopped.id)] == [2.0, 1.5]


def test_fixed_settings_belong_to_the_task_and_tuned_ones_make_another(make, url):
    task = load_task("digits")
    short = replace(task, recipe=replace(task.recipe, epochs=3, weight_decay=0.0))
    make(name="short", config={"epochs": 3, "weight_decay": 0.0}).suggest("t")
    make(name="plain").suggest("t")
    space = {"epochs": 3, "learning_rate": tune.loguniform(1e-3, 1.0)}
    make(name="tuned", config=space).suggest("t")
    make(name="loss", metric="val_loss", mode="min").suggest("t")
    with Store.open(url) as store:
        tasks = {name: store.task(store.run(name).task_id) for name in ("short", "plain", "tuned", "loss")}
    assert tasks["short"].digest == short.digest
    assert tasks["plain"].digest == task.digest
    assert len({t.digest for t in tasks.values()}) == 4
    assert "learning_rate" not in tasks["tuned"].spec["recipe"]
    assert "LogUniform (0.001, 1.0)" in tasks["tuned"].spec["tuned"]["learning_rate"]
    assert (tasks["loss"].metric.name, tasks["loss"].metric.higher_is_better) == ("val_loss", False)


def test_a_functions_draws_differ_are_repeatable_and_its_best_score_counts(make, url):
    space = {"learning_rate": tune.loguniform(1e-3, 1.0), "batch_size": tune.choice([32, 64])}
    search = make(config=space, draws=3)
    configs = [search.suggest(f"t{n}") for n in range(6)]
    assert [c["activation"] for c in configs] == [BASELINES[0]] * 3 + [BASELINES[1]] * 3
    assert [c["seed"] for c in configs] == [0, 1, 2] * 2
    rates = [c["learning_rate"] for c in configs]
    assert len(set(rates)) == 6
    assert all(1e-3 <= rate <= 1.0 for rate in rates)
    assert all(type(c["batch_size"]) is int for c in configs)
    for number, score in enumerate([0.2, 0.7, 0.4]):
        search.on_trial_complete(f"t{number}", {"score": score})
    history = search._session._history
    assert history.evaluations.score_of(history.candidates[0].id) == 0.7
    again = make(name="again", config=space, draws=3, store=url.replace("tune.db", "again.db"))
    assert [again.suggest(f"t{n}")["learning_rate"] for n in range(6)] == rates
    with Store.open(url) as store:
        started = [e for e in store.events(store.run("one").id) if e.kind == "started"]
    assert [e.data["settings"]["learning_rate"] for e in started] == rates


def test_points_to_evaluate_come_first_with_their_own_settings(make):
    points = [{"activation": "mul(x, sigmoid(x))", "learning_rate": 0.5}, {"activation": "cosh(x)"}]
    search = make(config={"learning_rate": tune.uniform(0.1, 0.2)}, points_to_evaluate=points)
    first, second = search.suggest("a"), search.suggest("b")
    assert (first["activation"], first["learning_rate"]) == ("swish(x)", 0.5), "one function"
    assert second["activation"] == "cosh(x)"
    assert 0.1 <= second["learning_rate"] <= 0.2
    assert search.suggest("c")["activation"] not in ("swish(x)", "cosh(x)")


def test_functions_that_people_enqueue_are_tried_next(make, url):
    search = make()
    search.suggest("a")
    propose("one", ["sinh(erf(x))"], store=url)
    search._session._other_runs._synced_at = -math.inf  # it looks once a second
    assert search.suggest("b")["activation"] == "sinh(erf(x))"


def test_no_more_trials_than_allowed_are_open_and_the_last_ends_the_run(make, url):
    search = make(max_concurrent=2, trials=3)
    assert search.suggest("a")
    assert search.suggest("b")
    assert search.suggest("c") is None
    search.on_trial_complete("a", {"score": 0.1})
    assert search.set_max_concurrency(1)
    assert search.suggest("c") is None
    search.on_trial_complete("b", {"score": 0.2})
    assert search.suggest("c")["activation"] == BASELINES[2]
    assert search.suggest("d") == search.FINISHED or search.suggest("d") is None
    search.on_trial_complete("c", {"score": 0.3})
    assert search.suggest("d") == search.FINISHED
    with Store.open(url) as store:
        assert store.run("one").status == "finished"


def test_a_search_ends_when_its_candidates_are_used_up(make, url):
    search = make(candidates=2)
    trained(search, range(10))
    assert search.suggest("last") == search.FINISHED
    with Store.open(url) as store:
        assert store.run("one").status == "finished"


def test_points_evaluated_elsewhere_are_results(make, url):
    search = make()
    search.add_evaluated_point({"activation": BASELINES[0]}, 0.9)
    search.add_evaluated_point({"activation": "erf(x)"}, 0.8, pruned=True)
    assert search.suggest("a")["activation"] == BASELINES[1]
    scores = {w.function: w.evaluation.score for w in evaluations(url)}
    assert scores[BASELINES[0]] == 0.9
    assert scores["erf(x)"] == 0.8


def test_a_custom_trainable_is_searched_without_a_task(make, url):
    search = make(
        task=None, trainable="my-net", config={"width": 64, "dropout": tune.uniform(0, 1)}, metric="loss", mode="min"
    )
    config = search.suggest("a")
    assert config.keys() == {"activation", "seed", "width", "dropout"}
    for iteration, loss in ((1, 2.0), (2, 1.25)):
        search.on_trial_result("a", {"loss": loss, "training_iteration": iteration})
    search.on_trial_complete("a", {"loss": 1.25, "training_iteration": 2, "time_total_s": 7.0})
    (request,) = evaluations(url)
    assert (request.evaluation.score, request.evaluation.epochs, request.evaluation.seconds) == (-1.25, 2, 7.0)
    with Store.open(url) as store:
        assert store.task(request.evaluation.task_id).metric.value(request.evaluation.score) == 1.25


def test_the_pages_other_searches_suggest_what_they_say(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("AQUASURF_STORE", raising=False)
    _, _, tuned, repeated, own = blocks("docs/tune.md", "python")
    wanted = [
        {"epochs", "learning_rate", "weight_decay", "activation", "seed"},
        {"epochs", "activation", "seed"},
        {"width", "activation", "seed"},
    ]
    for block, keys in zip((tuned, repeated, own), wanted, strict=True):
        names = {}
        exec(block, names)
        assert keys <= names["search"].suggest("a").keys()
        names["search"].close()


@pytest.mark.filterwarnings("ignore:Mean of empty slice:RuntimeWarning")  # NumPy's, in the Repeater
@pytest.mark.parametrize(
    ("reports", "status", "score", "reason"),
    [
        (({"score": 0.2}, {"score": 0.6}), "done", 0.4, None),
        (({"score": 0.2}, None), "done", 0.2, None),
        (({"score": 0.2}, {"score": -math.inf}), "diverged", None, "at least one repeat diverged"),
        (({"score": math.nan}, None), "failed", None, "no repeat of trial a reported a value of 'score'"),
    ],
)
def test_the_result_of_a_repeated_function_is_the_mean_over_its_repeats(make, url, reports, status, score, reason):
    repeater = Repeater(make(repeat=2), repeat=2)
    first, second = repeater.suggest("a"), repeater.suggest("b")
    assert {**first, TRIAL_INDEX: 1} == second
    for trial, report in zip("ab", reports, strict=True):
        assert evaluations(url)[0].evaluation.status == "running"
        result = None if report is None else {**report, "status": "done", "val_loss": 1.0, "training_iteration": 1}
        repeater.on_trial_complete(trial, result, error=report is None)
    (stored,) = (w.evaluation for w in evaluations(url))
    assert (stored.status, stored.val_loss) == (status, None)
    assert not stored.epochs
    assert stored.score == (None if score is None else pytest.approx(score))
    assert reason is None or reason in (stored.reason or stored.error)
    assert repeater.suggest("c")["activation"] == BASELINES[1]


def test_a_mean_over_repeats_is_no_result_of_the_task_itself(make, url):
    repeater = Repeater(make(repeat=2), repeat=2)
    for trial in "ab":
        repeater.suggest(trial)
    for trial in "ab":
        repeater.on_trial_complete(trial, {"score": 0.5})
    assert make(name="plain").suggest("t")["activation"] == BASELINES[0], "trained, not reused"
    assert make(name="three", repeat=3).suggest("t")["activation"] == BASELINES[0]
    same = make(name="same", repeat=2)
    assert same.suggest("t")["activation"] == BASELINES[1]
    with Store.open(url) as store:
        tasks = [store.task(store.run(name).task_id) for name in ("one", "plain", "three", "same")]
    assert tasks[0].digest == tasks[3].digest
    assert len({task.digest for task in tasks}) == 3
    assert tasks[0].spec == {**tasks[1].spec, "repeat": 2}


def test_a_repeater_that_the_search_does_not_know_of_works_with_a_warning(make, url, caplog):
    repeater = Repeater(make(), repeat=2)
    for trial in "ab":
        repeater.suggest(trial)
    for trial, score in zip("ab", (0.2, 0.6), strict=True):
        repeater.on_trial_complete(trial, {"score": score, "training_iteration": 1})
    (stored,) = (w.evaluation for w in evaluations(url))
    assert (stored.status, stored.score) == ("done", pytest.approx(0.4))
    assert "give ActivationSearch the same `repeat`" in caplog.text


def test_samples_of_tune_are_repeats_and_trials_of_the_search_are_functions(make, url):
    repeater = Repeater(make(repeat=2), repeat=2)
    assert repeater.set_search_properties("score", "max", {}, num_samples=4)
    functions = [repeater.suggest(trial)["activation"] for trial in "abcd"]
    assert functions == [BASELINES[0]] * 2 + [BASELINES[1]] * 2
    assert repeater.suggest("e") == repeater.FINISHED
    for trial in "abcd":
        repeater.on_trial_complete(trial, {"score": 0.5})
    with Store.open(url) as store:
        assert store.run("one").status == "finished"


def test_a_search_in_a_repeater_resumes_with_its_groups(make, url, tmp_path):
    """As Tune saves and restores: the wrappers' states in one file, the search's in another."""
    generator = SearchGenerator(Repeater(make(repeat=2), repeat=2))
    as_made = cloudpickle.dumps(generator)
    for trial in "ab":
        generator.searcher.suggest(trial)
    generator.on_trial_complete("a", {"score": 0.2, "training_iteration": 1})
    third = generator.searcher.suggest("c")
    generator.save_to_dir(str(tmp_path), "session")
    del generator
    restored = cloudpickle.loads(as_made)
    restored.restore_from_dir(str(tmp_path))
    restored.on_trial_complete("b", {"score": 0.6, "training_iteration": 1})
    assert restored.searcher.suggest("d") == {**third, TRIAL_INDEX: 1}
    found = [(w.evaluation.status, w.evaluation.score) for w in evaluations(url)]
    assert found == [("done", pytest.approx(0.4)), ("running", None)]
    restored.searcher.searcher.close()


def test_reports_of_single_trials_are_refused_by_a_search_for_a_repeater(make, url):
    search = make(repeat=2)
    search.suggest("a")
    with pytest.raises(BadUse, match=r"use Repeater\(search, repeat=2\)"):
        search.on_trial_result("a", {"score": 0.5, "training_iteration": 1})
    with pytest.raises(BadUse, match="inside Tune's Repeater"):
        search.on_trial_complete("a", {"score": 0.5, "training_iteration": 1})
    assert [w.evaluation.score for w in evaluations(url)] == [None]


def test_wrong_use_is_reported(make, url):
    with pytest.raises(BadUse, match="give either `task`"):
        make(trainable="both")
    with pytest.raises(BadUse, match="need spectra"):
        make(task=None, trainable="mine", features="both")
    with pytest.raises(BadUse, match="Tune draws fields of the recipe from its param_space"):
        make(learning_rates=(0.5, 1, 2))
    with pytest.raises(BadUse, match="'learning_rat' is not a recipe setting"):
        make(config={"learning_rat": 0.1}).suggest("t")
    with pytest.raises(BadUse, match="epochs must be at least 1"):
        make(config={"epochs": 0}).suggest("t")
    with pytest.raises(BadUse, match="a domain such as"):
        make(config={"epochs": {"grid_search": [1, 2]}}).suggest("t")
    with pytest.raises(BadUse, match="no metric"):
        make(task=None, trainable="mine").suggest("t")
    with pytest.raises(BadUse, match="param_space has 'epochs'"):
        make().set_search_properties("score", "max", {"epochs": 3})
    assert not Store.exists(url) or not evaluations(url)


def test_a_run_of_another_configuration_is_not_gone_on_with(make):
    make().suggest("a")
    with pytest.raises(RunExists, match=r"exists with another configuration .*seed"):
        make(seed=5).suggest("a")
