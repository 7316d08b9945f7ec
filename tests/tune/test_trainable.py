"""Real Tuners on the digits, with what they leave: results in the store, checkpoints, TensorBoard's files."""

from __future__ import annotations

import math
import os
import time
import warnings
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
import ray
import scripted_worker
import torch
from pages import blocks
from ray import tune
from ray.tune.search import Repeater
from torch import nn

from aquasurf_ray.activations import Activation
from aquasurf_ray.driver.cluster.connection import connected
from aquasurf_ray.driver.cluster.pool import WorkerPool
from aquasurf_ray.driver.errors import BadUse
from aquasurf_ray.store import Store
from aquasurf_ray.tasks import TaskError, load_task
from aquasurf_ray.tune import ActivationSearch, session, train_activation, trainable
from aquasurf_ray.tune.checkpoints import ReportedCheckpoints
from aquasurf_ray.workers.training import train

pytestmark = [pytest.mark.timeout(900), pytest.mark.slow]  # a busy machine starts Ray slowly
EPOCHS = 3
OVERFLOWS = "cosh(cosh(x))"
SCRIPTED_WORKERS = str(Path(scripted_worker.__file__).parent)
POINTS = ["relu(x)", "swish(x)", "tanh(x)", OVERFLOWS]


@pytest.fixture(scope="module")
def ray_of_tune():
    """Ray in this process: the instance of other tests if there is one, which they still need afterwards."""
    is_others = ray.is_initialized()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", SCRIPTED_WORKERS, prepend=os.pathsep)
        with connected(None):
            yield
            if not is_others:
                ray.shutdown(wait_for_processes=True)


@pytest.fixture(scope="module")
def experiment(tmp_path_factory, ray_of_tune):
    """The page's experiment with four functions: the first with all epochs, then as ASHA wants it."""
    folder = tmp_path_factory.mktemp("experiment")
    script = blocks("docs/tune.md", "python")[0]
    points = [{"activation": function} for function in POINTS]
    few = f'trials={len(POINTS)}, points_to_evaluate={points}, candidates=8, fast_activations="off"'
    for long, short in {"EPOCHS = 8": f"EPOCHS = {EPOCHS}", "trials=40": few, "verbose=1": "verbose=0"}.items():
        assert script.count(long) == 1
        script = script.replace(long, short)
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Ray's own
        patch.chdir(folder)
        patch.delenv("AQUASURF_STORE", raising=False)
        script = script.replace("max_concurrent=2", "max_concurrent=1")  # so that one process trains all
        names = {"__name__": "__main__"}
        exec(script, names)
    return folder, f"sqlite:///{folder}/aquasurf.db", names["results"]


def test_trials_are_evaluations_of_a_finished_run(experiment):
    _, url, results = experiment
    assert not results.errors
    assert len(results) == len(POINTS)
    with Store.open(url) as store:
        run = store.run("tuned")
        status, found = store.status(run.id), store.snapshot(run.id).evaluations
        epochs = {w.function: store.curve(w.evaluation.id) for w in found}
        digest = store.task(run.task_id).digest
    assert (run.kind, run.status, status.n_candidates) == ("search", "finished", 16)
    stored = {w.function: w.evaluation for w in found}
    by_function = {result.config["activation"]: result.metrics for result in results}
    assert stored.keys() == by_function.keys()
    task = load_task("digits")
    assert digest == replace(task, recipe=replace(task.recipe, epochs=EPOCHS)).digest
    for function in POINTS[:3]:
        metrics, evaluation = by_function[function], stored[function]
        assert evaluation.score == metrics["score"] == metrics["val_accuracy"]
        assert [e.epoch for e in epochs[function]] == list(range(1, metrics["epoch"] + 1))
        assert epochs[function][-1].val_loss == metrics["val_loss"] == evaluation.val_loss
    whole = stored["relu(x)"]
    assert whole.stopped_early is None
    assert whole.test_accuracy == by_function["relu(x)"]["test_accuracy"]


@pytest.mark.slow
def test_a_trial_gives_what_a_training_without_tune_gives(experiment):
    _, _, results = experiment
    (metrics,) = (r.metrics for r in results if r.config["activation"] == "relu(x)")
    task = load_task("digits")
    alone = train(replace(task, recipe=replace(task.recipe, epochs=EPOCHS)), Activation("relu(x)"))
    assert metrics["score"] == alone.score
    assert metrics["test_loss"] == pytest.approx(alone.test_loss, rel=1e-5), "the trial has another number of threads"


def test_a_function_that_diverges_is_a_result_and_no_error(experiment):
    _, url, results = experiment
    (result,) = (r for r in results if r.config["activation"] == OVERFLOWS)
    assert result.error is None
    assert result.metrics["status"] == "diverged"
    assert math.isnan(result.metrics["score"])
    with Store.open(url) as store:
        (request,) = (w for w in store.snapshot(store.run("tuned").id).evaluations if w.function == OVERFLOWS)
    assert request.evaluation.status == "diverged"
    assert request.evaluation.reason == result.metrics["reason"]


@pytest.mark.slow
def test_the_best_trial_leaves_the_trained_network_in_its_checkpoint(experiment):
    _, _, results = experiment
    best = results.get_best_result()
    task = load_task("digits")
    function = best.config["activation"]
    task = replace(task, recipe=replace(task.recipe, epochs=EPOCHS))
    reader = ReportedCheckpoints("", task, Activation(function).name, 0, best.checkpoint, lambda _: None)
    epoch, state = reader.load_latest(torch.device("cpu"))
    network = task.network(lambda: Activation(function))
    network.load_state_dict(state["network"])
    network.eval()
    validation = [task.splits().validation[i] for i in range(len(task.splits().validation))]
    inputs, labels = (torch.stack(list(map(torch.as_tensor, part))) for part in zip(*validation, strict=True))
    right = (network(inputs).argmax(1) == labels).float().mean().item()
    assert epoch == EPOCHS
    assert right == pytest.approx(best.metrics["val_accuracy"])


@pytest.mark.usefixtures("ray_of_tune")
def test_a_finished_experiment_that_is_restored_trains_nothing(experiment, monkeypatch):
    """The page's second script."""
    folder, url, results = experiment
    monkeypatch.chdir(folder)
    names = {"__name__": "__main__"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Ray's own
        exec(blocks("docs/tune.md", "python")[1], names)
    assert {r.path: r.metrics["score"] for r in names["results"]} == pytest.approx(
        {r.path: r.metrics["score"] for r in results}, nan_ok=True
    )
    with Store.open(url) as store:
        events = store.events(store.run("tuned").id)
    assert sum(e.kind == "started" for e in events) == len(POINTS)


def test_tensorboard_shows_the_metrics_under_their_names(experiment):
    folder, _, results = experiment
    (whole,) = (r for r in results if r.config["activation"] == "relu(x)")
    scalars = read_scalars(whole.path)
    assert [step for step, _ in scalars["ray/tune/val_accuracy"]] == [1, 2, 3]
    assert scalars["ray/tune/score"][-1][1] == pytest.approx(whole.metrics["score"])
    assert "ray/tune/test_accuracy" in scalars
    assert list(Path(folder).rglob("events.out.tfevents.*"))


@pytest.mark.usefixtures("ray_of_tune")
@pytest.mark.slow
def test_a_repeater_trains_each_function_with_several_seeds_and_their_mean_is_stored(tmp_path):
    url = f"sqlite:///{tmp_path}/a.db"
    points = [{"activation": function} for function in ("relu(x)", OVERFLOWS)]
    options = {"candidates": 8, "points_to_evaluate": points, "fast_activations": "off"}
    search = ActivationSearch("digits", {"epochs": 2}, name="repeated", store=url, repeat=2, trials=2, **options)
    tuner = tune.Tuner(
        tune.with_resources(train_activation, {"cpu": 1}),
        tune_config=tune.TuneConfig(
            search_alg=Repeater(search, repeat=2), metric="score", mode="max", num_samples=-1, max_concurrent_trials=1
        ),
        run_config=tune.RunConfig(name="repeated", storage_path=str(tmp_path / "tune"), verbose=0),
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Ray's own
        results = tuner.fit()
    task = load_task("digits")
    task = replace(task, recipe=replace(task.recipe, epochs=2))
    alone = [train(task, Activation("relu(x)"), seed=seed) for seed in (0, 1)]
    trained, overflown = ([r for r in results if r.config["activation"] == p["activation"]] for p in points)
    losses = {r.config["__trial_index__"]: r.metrics["train_loss"] for r in trained}
    assert len(results) == 4
    assert losses == pytest.approx({0: alone[0].train_loss, 1: alone[1].train_loss}, rel=1e-5)
    assert losses[0] != pytest.approx(losses[1], rel=1e-3), "two seeds"
    assert [r.metrics["score"] for r in overflown] == [-math.inf] * 2
    with Store.open(url) as store:
        run = store.run("repeated")
        found = {w.function: w.evaluation for w in store.snapshot(run.id).evaluations}
    assert run.status == "finished"
    assert list(found) == ["relu(x)", OVERFLOWS]
    assert found["relu(x)"].score == pytest.approx((alone[0].score + alone[1].score) / 2)
    assert found[OVERFLOWS].status == "diverged"


def read_scalars(folder):
    """(step, value) by tag, as TensorBoard itself reads its files."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its own, at import
        loader = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    events = loader.EventAccumulator(str(folder))
    events.Reload()
    return {tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


@pytest.mark.usefixtures("ray_of_tune")
@pytest.mark.slow
def test_a_search_that_uses_spectra_has_them_computed_alongside_the_trials(tmp_path, monkeypatch):
    monkeypatch.setattr(session, "WorkerPool", partial(WorkerPool, worker=scripted_worker.ScriptedWorker))
    url = f"sqlite:///{tmp_path}/a.db"
    search = ActivationSearch(
        "digits", store=url, name="one", features="both", candidates=8, points_to_evaluate=[{"activation": "relu(x)"}]
    )
    search.suggest("a")
    search.on_trial_complete("a", {"score": 0.5})
    end = time.monotonic() + 200
    while (config := search.suggest("b")) is None:  # as Tune does
        assert time.monotonic() < end
    search.close()
    with Store.open(url) as store:
        status = store.status(store.run("one").id)
        request = store.snapshot(status.run.id).evaluations[-1]
    assert status.spectra_done + status.spectra_diverged == status.n_candidates == 16
    assert status.spectra_done > 8
    assert (request.function, request.origin) == (config["activation"], "suggestion")


@pytest.fixture
def kept(tmp_path):
    """Trains a function as a trial does; the checkpoint of each epoch is kept by its number."""

    def trained(given=None, **recipe):
        task = load_task("digits")
        task = replace(task, recipe=replace(task.recipe, **{"epochs": 4, **recipe}))
        found = {}

        def keep(checkpoint):
            found[len(found) + 1] = tune.Checkpoint(
                checkpoint.to_directory(tmp_path / f"{len(list(tmp_path.iterdir()))}")
            )

        checkpoints = ReportedCheckpoints(str(tmp_path / "written"), task, "relu(x)", 0, given, keep)
        result = train(task, Activation("relu(x)"), checkpoints=checkpoints, checkpoint_interval=0.0)
        return result, found

    return trained


@pytest.mark.slow
def test_a_trial_resumes_from_a_checkpoint_as_if_it_had_not_stopped(kept):
    whole, checkpoints = kept()
    assert list(checkpoints) == [1, 2, 3], "the last one goes with the last report"
    again, further = kept(checkpoints[2])
    assert list(further) == [1]
    assert [e.val_loss for e in again.epochs] == [e.val_loss for e in whole.epochs]


@pytest.mark.slow
def test_another_trials_checkpoint_is_taken_over_with_its_own_learning_rate_and_weight_decay(kept):
    """Population based training. The rates after the change are those of a training that had them from the start."""
    _, checkpoints = kept(learning_rate=0.1)
    changed, _ = kept(checkpoints[2], learning_rate=0.02, weight_decay=0.01)
    from_start, _ = kept(learning_rate=0.02, weight_decay=0.01)
    rates = [e.learning_rate for e in changed.epochs]
    assert rates[2:] == pytest.approx([e.learning_rate for e in from_start.epochs][2:], rel=1e-9)
    assert rates[1] == pytest.approx(5 * from_start.epochs[1].learning_rate)
    assert changed.epochs[2].train_loss < changed.epochs[1].train_loss, "it continues with the other's weights"


def test_settings_that_are_none_are_refused():
    with pytest.raises(BadUse, match="unknown key 'learning_rat'"):
        train_activation({"activation": "relu(x)", "task": "digits", "learning_rat": 0.1})
    with pytest.raises(BadUse, match="'task' is missing"):
        train_activation({"activation": "relu(x)"})


class Ignoring(nn.Module):
    """Makes the searched function, and calls another one."""

    def __init__(self, activation):
        super().__init__()
        self.activation, self.layers = activation(), nn.Sequential(nn.Flatten(), nn.Linear(64, 10))

    def forward(self, x):
        return self.layers(torch.relu(x))


def test_a_trial_of_a_network_that_ignores_its_activation_is_refused(monkeypatch):
    resources = SimpleNamespace(required_resources={"CPU": torch.get_num_threads()})
    context = SimpleNamespace(get_trial_resources=lambda: resources)
    of_a_trial = SimpleNamespace(get_context=lambda: context, get_checkpoint=lambda: None)
    monkeypatch.setattr(trainable, "tune", of_a_trial)
    task = replace(load_task("digits"), network=Ignoring)
    with pytest.raises(TaskError, match=r"must use the activations that it makes, .* its code calls relu "):
        train_activation({"activation": "swish(x)", "task": task})
