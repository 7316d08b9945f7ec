"""The worker as a plain class, without Ray: what it answers, what it records as a fault and what it raises."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from torch import nn

from aquasurf_ray.activations import Activation, fingerprint, register_unary, unregister
from aquasurf_ray.surrogate.spectra import SpectrumFeature
from aquasurf_ray.tasks import TaskError, load_task
from aquasurf_ray.tasks.objective import regression as regression_objective
from aquasurf_ray.workers import actor
from aquasurf_ray.workers.actor import Worker, WorkerError
from aquasurf_ray.workers.engine.fast_form import fast_form
from aquasurf_ray.workers.engine.form import FormRequest
from aquasurf_ray.workers.engine.health import HealthLimits
from aquasurf_ray.workers.engine.stopping import StopRule
from aquasurf_ray.workers.messages import Drained, ImportPath, TrainingJob, WorkerSettings
from aquasurf_ray.workers.spectrum import NoLayers, SpectrumInputError


def small_network(activation):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 16), activation(), nn.Linear(16, 10))


@pytest.fixture(scope="module")
def task():
    digits = load_task("digits")
    return replace(digits, network=small_network, recipe=replace(digits.recipe, epochs=2), spectrum_batch_size=32)


@pytest.fixture
def worker(task, tmp_path):
    return Worker(WorkerSettings(task, storage=str(tmp_path), checkpoint_interval=0.0))


def job(function="tanh(x)"):
    return TrainingJob(function, fingerprint(function), 0)


def missing_key(x):
    return {}["no such key"]


def exhausting_memory(x):
    raise torch.OutOfMemoryError("tried to allocate 80 GiB")


@pytest.fixture
def own_operators():
    for function in (missing_key, exhausting_memory):
        register_unary(function.__name__, function)
    yield
    for function in (missing_key, exhausting_memory):
        unregister(function.__name__)


def test_ready_tells_where_the_worker_is(worker):
    info = worker.ready()
    assert info.pid == os.getpid()
    assert info.device == "cpu"


def test_ready_names_data_that_are_missing(task):
    def absent():
        raise FileNotFoundError("no folder 'photos'")

    with pytest.raises(TaskError, match="data of task 'digits' cannot be loaded: FileNotFoundError"):
        Worker(WorkerSettings(replace(task, data=absent))).ready()


def test_ready_tells_of_a_network_that_does_not_take_the_data(task):
    def wrong_width(activation):
        return nn.Sequential(nn.Flatten(), nn.Linear(63, 16), activation(), nn.Linear(16, 10))

    with pytest.raises(TaskError, match="network of task 'digits' fails on the task's own examples: RuntimeError"):
        Worker(WorkerSettings(replace(task, network=wrong_width))).ready()


@pytest.mark.skipif(torch.cuda.is_available(), reason="this PyTorch sees a GPU")
def test_a_gpu_that_pytorch_does_not_see_is_said_at_once(task):
    with pytest.raises(WorkerError, match=r"PyTorch sees none: install .* or use --gpus-per-worker 0"):
        Worker(WorkerSettings(task, gpu=True))


def test_spectra_come_in_order_with_the_functions_faults_among_them(worker, own_operators):
    names = ["tanh(x)", "exp(exp(exp(exp(x))))", "missing_key(x)", "zero(x)", "relu(x)"]
    replies = worker.spectra(names)
    assert replies[0].coverage == "spectra cover 2 of 2 matrices, 100% of 1,210 weights"
    assert [r.function for r in replies] == names
    assert [r.status for r in replies] == ["done", "diverged", "diverged", "diverged", "done"]
    assert SpectrumFeature.from_bytes(replies[0].feature).names == ("1", "3")
    assert replies[0].feature != replies[4].feature
    assert replies[0].reason is None
    assert all(r.feature is None for r in replies[1:4])
    assert "is not finite: the network overflows" in replies[1].reason
    assert replies[2].reason == "KeyError: 'no such key'"
    assert "constant 0" in replies[3].reason


def test_a_spectrum_does_not_depend_on_what_was_asked_before(worker, task):
    alone = Worker(WorkerSettings(task)).spectra(["relu(x)"])[0]
    after = worker.spectra(["tanh(x)", "relu(x)"])[1]
    assert after.feature == alone.feature


def without_output(activation):
    class Silent(nn.Module):
        def __init__(self):
            super().__init__()
            self.network = small_network(activation)

        def forward(self, x):
            self.network(x)

    return Silent()


def regression(activation):
    return nn.Sequential(small_network(activation), nn.Flatten(0))


def without_layers(activation):
    return nn.Sequential(activation(), nn.Flatten())


@pytest.mark.parametrize(
    ("network", "error", "text"),
    [
        (without_output, SpectrumInputError, "must return a tensor, or a tuple, .*, got NoneType"),
        (regression, SpectrumInputError, "must return real logits"),
        (without_layers, NoLayers, "no trained matrix"),
    ],
)
def test_a_network_that_has_no_spectrum_is_not_the_functions_fault(task, network, error, text):
    with pytest.raises(error, match=text):
        Worker(WorkerSettings(replace(task, network=network))).spectra(["relu(x)"])


def test_costs_come_in_order_relative_to_relu_and_with_the_functions_faults(worker, own_operators):
    names = ["relu(x)", "missing_key(x)", "mul(sigmoid(x),elu(x))"]
    relu, fault, composed = worker.costs(names)
    assert [r.function for r in (relu, fault, composed)] == names
    assert (relu.cost.time_ratio, relu.cost.memory_ratio) == (1, 1), "relu is the unit"
    assert (fault.status, fault.cost, fault.reason) == ("diverged", None, "KeyError: 'no such key'")
    assert composed.status == "done"
    assert composed.cost.step_seconds > 0
    assert relu.step_seconds > 0
    assert (fault.step_seconds, composed.step_seconds > 0) == (None, True)
    assert composed.cost.device == "cpu"


def test_a_training_ends_where_the_jobs_rule_says(worker):
    whole = worker.train(job())
    rule = StopRule(((1, whole.epochs[0].val_score + 0.01),), "of a test")
    result = worker.train(replace(job("relu(tanh(x))"), stop_rule=rule))
    assert (whole.stopped_early, len(whole.epochs)) == (None, 2)
    assert (result.status, len(result.epochs)) == ("done", 1)
    assert "of a test" in result.stopped_early
    assert result.test_score is not None


def test_the_gate_is_there_only_where_the_job_wants_it(worker, monkeypatch):
    asked = []
    monkeypatch.setattr(actor, "train", lambda *_, **options: asked.append(options["gate"]))
    worker.train(job())
    worker.train(replace(job(), gate=True))
    assert asked == [None, HealthLimits()]


def test_forms_are_chosen_by_measurement_unless_that_is_switched_off(task, monkeypatch):
    asked = []
    monkeypatch.setattr(actor, "train", lambda *_, **options: asked.append(options["choose_form"]))
    for fast in (True, False):
        Worker(WorkerSettings(task, fast_activations=fast)).train(job())
    assert asked == [fast_form, None]


@pytest.mark.parametrize(
    ("deterministic", "kept", "name"), [(True, None, "recomputed"), (False, "compiled", "compiled")]
)
def test_a_deterministic_training_has_the_eager_bits_and_a_resumed_one_its_own_form(deterministic, kept, name):
    request = FormRequest(
        activation=Activation("tanh(x)"),
        device=torch.device("cpu"),
        n_elements=10**9,
        expected_calls=10**9,
        dtype=torch.float32,
        deterministic=deterministic,
        kept=kept,
    )
    form = fast_form(request)
    assert form.name == name
    assert form.factory().name == "tanh(x)"


def test_the_data_folder_is_set_before_the_task_is_made(tmp_path, monkeypatch):
    monkeypatch.setenv("AQUASURF_DATA", "elsewhere")
    (tmp_path / "actor_test_task.py").write_text(
        "import os\nfrom aquasurf_ray.tasks import TaskError\n"
        "def make():\n    raise TaskError('looked in ' + os.environ['AQUASURF_DATA'])\n"
    )
    for folder, found in ((None, "elsewhere"), (str(tmp_path), str(tmp_path))):
        with pytest.raises(TaskError, match=f"looked in {found}"):
            Worker(WorkerSettings("actor_test_task:make", import_from=ImportPath([str(tmp_path)]), data_folder=folder))


@pytest.mark.parametrize("settings", [{"task": "not_here:make"}, {"task": "digits", "modules": ("not_here",)}])
def test_a_module_that_the_node_lacks_is_an_error_of_one_sentence_with_the_remedy(tmp_path, settings):
    said = (
        rf"^No module named 'not_here' on node \S+, in none of the driver's folders {tmp_path}; start the command in a "
        "folder that all nodes can read, set PYTHONPATH or install the package on them, or ship the folder with "
        "'aquasurf submit --working-dir'$"
    )
    with pytest.raises(WorkerError, match=said):
        Worker(WorkerSettings(**settings, import_from=ImportPath([str(tmp_path)])))


def test_a_task_given_as_an_object_is_found_on_the_import_path_that_comes_with_it(tmp_path):
    """As Ray passes it to a process that has another import path than the driver."""
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "settings_test_task.py").write_text("class Network:\n    pass\n")
    made = (
        "import pickle, sys; sys.path.insert(0, 'lib'); import settings_test_task; "
        "from aquasurf_ray.driver.run.worker_settings import worker_settings; "
        "from aquasurf_ray.driver.settings.models import SearchConfig; "
        "pickle.dump(worker_settings(SearchConfig(task='own'), settings_test_task.Network()), open('settings', 'wb'))"
    )
    read = (
        "import pickle; found = pickle.load(open('../settings', 'rb')); "
        "print(type(found.task).__module__, found.import_from[0])"
    )
    (tmp_path / "elsewhere").mkdir()
    for code, folder in ((made, tmp_path), (read, tmp_path / "elsewhere")):
        done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["settings_test_task", str(tmp_path / "lib")]


def test_a_spectrum_is_of_the_tasks_own_likelihood(task):
    squares = replace(task, objective=regression_objective())
    (gaussian,), (categorical,) = (Worker(WorkerSettings(t)).spectra(["tanh(x)"]) for t in (squares, task))
    assert gaussian.status == "done"
    assert gaussian.feature != categorical.feature


def test_memory_exhaustion_is_raised_for_another_try(worker, own_operators):
    with pytest.raises(torch.OutOfMemoryError):
        worker.spectra(["exhausting_memory(x)"])
    with pytest.raises(torch.OutOfMemoryError):
        worker.train(job("exhausting_memory(x)"))


def test_training_gives_a_result_and_its_progress(worker):
    assert worker.progress() is None
    result = worker.train(job())
    assert result.status == "done"
    assert worker.progress() == result.epochs[-1]


def test_checkpoints_stay_until_they_are_forgotten(worker, task, tmp_path):
    worker.train(job())
    folder = tmp_path / task.digest / f"{job().fingerprint}-0"
    assert [f.name for f in folder.iterdir()] == ["epoch-00001.ckpt"]
    worker.forget(job())
    assert not folder.exists()
    worker.forget(job())


def test_a_worker_without_storage_writes_nothing(task, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    worker = Worker(WorkerSettings(task))
    assert worker.train(job()).status == "done"
    worker.forget(job())
    assert list(tmp_path.iterdir()) == []


def test_the_data_are_loaded_once_for_work_and_identity(task, tmp_path):
    loaded = []
    counting = replace(task, data=lambda: loaded.append(1) or task.data())
    worker = Worker(WorkerSettings(counting, storage=str(tmp_path)))
    worker.ready()
    worker.spectra(["relu(x)"])
    worker.train(job())
    worker.forget(job())
    assert loaded == [1]


def test_a_drained_training_stops_with_a_checkpoint_and_resumes_from_there(task, tmp_path):
    long = replace(task, recipe=replace(task.recipe, epochs=6))
    whole = Worker(WorkerSettings(long)).train(job())
    settings = WorkerSettings(long, storage=str(tmp_path), checkpoint_interval=3600.0)
    first, second = Worker(settings), Worker(settings)
    trained = [watch(worker) for worker in (first, second)]
    first.on_third = first.drain
    assert first.train(job()) == Drained(3)
    assert first.train(job("relu(x)")) == Drained(0), "nothing new is begun"
    result = second.train(job())
    assert trained == [[1, 2, 3], [4, 5, 6]], "each epoch once"
    figures = [[(e.epoch, e.train_loss, e.val_score) for e in r.epochs] for r in (result, whole)]
    assert figures[0] == figures[1]


@pytest.mark.parametrize("pauses", [True, False])
def test_a_paused_training_keeps_a_checkpoint_and_resumes_with_the_result_of_one_that_was_not_paused(
    task, tmp_path, pauses
):
    long = replace(task, recipe=replace(task.recipe, epochs=4))
    whole = Worker(WorkerSettings(long)).train(job())
    settings = WorkerSettings(long, storage=str(tmp_path), checkpoint_interval=3600.0)
    first, second = Worker(settings), Worker(settings)
    trained = [watch(worker) for worker in (first, second)]
    stopped = first.train(replace(job(), stop_rule=StopRule(((2, 2.0),), pauses=pauses)))
    assert "score" in stopped.stopped_early
    result = second.train(job())
    assert trained == [[1, 2], [3, 4] if pauses else [1, 2, 3, 4]]
    figures = [[(e.epoch, e.train_loss, e.val_score) for e in r.epochs] for r in (result, whole)]
    assert figures[0] == figures[1]
    assert (result.test_loss, result.stopped_early) == (whole.test_loss, None)


def watch(worker):
    """The epochs that a worker trains from now on; what it does after the third can be set."""
    epochs, remember = [], worker._remember

    def note(epoch):
        remember(epoch)
        epochs.append(epoch.epoch)
        if epoch.epoch == 3:
            getattr(worker, "on_third", int)()

    worker._remember = note
    return epochs


def test_a_drained_training_without_a_place_for_checkpoints_or_in_its_last_epoch_ends_as_usual(task, tmp_path):
    for storage in (None, str(tmp_path)):
        worker = Worker(WorkerSettings(replace(task, recipe=replace(task.recipe, epochs=3)), storage=storage))
        watch(worker)
        worker.on_third = worker.drain
        if storage is None:
            worker._remember = lambda epoch, worker=worker: worker.drain()
        assert len(worker.train(job()).epochs) == 3


def test_warnings_of_a_users_own_module_are_not_reported_as_ours():
    collected = actor.Warnings()
    try:
        logging.getLogger("workers").warning("of a user's workers.py")
        logging.getLogger("aquasurf_ray.workers.actor").warning("of ours")
    finally:
        logging.getLogger("aquasurf_ray").removeHandler(collected)
    assert collected.take() == ["aquasurf_ray.workers.actor: of ours"]


def test_a_training_with_a_change_of_the_recipe_is_one_of_the_changed_task(task, tmp_path):
    halved = replace(task, recipe=replace(task.recipe, learning_rate=task.recipe.learning_rate / 2))
    expected = Worker(WorkerSettings(halved)).train(job())
    worker = Worker(WorkerSettings(task, storage=str(tmp_path), checkpoint_interval=0.0))
    whole = worker.train(job())
    changed = replace(job(), recipe_change="learning_rate*0.5")
    found = worker.train(changed)
    assert [e.learning_rate for e in found.epochs] == [e.learning_rate for e in expected.epochs]
    assert [e.learning_rate for e in whole.epochs] == [2 * e.learning_rate for e in found.epochs]
    assert (found.score, found.train_loss) == (expected.score, expected.train_loss)
    # Two trainings of one function and seed have checkpoints of their own, and one is forgotten without the other.
    assert len(list(tmp_path.glob("*/*"))) == 2
    worker.forget(changed)
    (kept,) = tmp_path.glob("*/*")
    assert kept.name == f"{job().fingerprint}-0"
