"""Results of a run in TensorBoard, MLflow and Weights & Biases, read back from their files; and trackers that fail."""

from __future__ import annotations

import json
import math
import struct
import threading
import time
import warnings
from dataclasses import replace
from types import SimpleNamespace

import pytest
from recorder import Recorder
from scripted_worker import EPOCHS, ScriptedWorker, curve_of, score_of

from aquasurf_ray.activations import BASELINES
from aquasurf_ray.driver import evaluate
from aquasurf_ray.driver.callbacks import trackers
from aquasurf_ray.driver.callbacks.trackers import Trackers
from aquasurf_ray.driver.errors import BadUse
from aquasurf_ray.driver.events import EvaluationEnded, Events
from aquasurf_ray.driver.settings import tracker_targets
from aquasurf_ray.driver.settings.reading import make_config
from aquasurf_ray.store import EpochRecord, EvaluationResult, TaskMetric

CURVE = (
    EpochRecord(1, val_loss=2.0, val_score=-0.4, seconds=1.0),
    EpochRecord(2, val_loss=math.nan, val_score=-0.5, seconds=1.5),
)
DONE = EvaluationResult("done", score=-0.5, val_loss=1.5, test_score=-0.45, seconds=3.0, epochs=CURVE)
RMSE = TaskMetric("rmse", higher_is_better=False)
NOW = 1_700_000_000.0
DIVERGED = EvaluationResult("diverged", reason="loss is nan", seconds=1.0)


def ended(number, function, result):
    """The event of the run's first, second, ... result."""
    return EvaluationEnded(
        evaluation=number, function=function, worker="worker-1", status=result.status, score=result.score,
        seconds=result.seconds, reason=result.reason, stopped_early=None, seed=0, number=number, best=-0.5,
        result=result,
    )  # fmt: skip


RESULTS = [ended(1, "relu(x)", DONE), ended(2, "cosh(cosh(x))", DIVERGED)]


def track(targets, run, results):
    """Shows the results, and returns the notes that the trackers made."""
    recorder = Recorder()
    events = Events([recorder])
    with Trackers(targets, run, RMSE, events) as trackers:
        for result in results:
            trackers.on_event(result)
    events.note("the end")  # delivers what the trackers' threads emitted
    return recorder.notes[:-1]


def scalars(folder):
    """(step, value) by tag, as TensorBoard itself reads its files."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its own, at import
        loader = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    events = loader.EventAccumulator(str(folder))
    events.Reload()
    found = {tag: events.Scalars(tag) for tag in events.Tags()["scalars"]}
    times = {tag: [e.wall_time for e in each] for tag, each in found.items()}
    return {tag: [(e.step, round(e.value, 6)) for e in each] for tag, each in found.items()}, times


@pytest.fixture
def at_now(monkeypatch):
    """Results come at `NOW`; the clocks of the trackers' own libraries are another time's."""
    monkeypatch.setattr(trackers, "time", SimpleNamespace(time=lambda: NOW, monotonic=time.monotonic))


@pytest.mark.usefixtures("at_now")
def test_tensorboard_shows_the_metric_by_number_and_the_learning_curves(tmp_path):
    not_recorded = replace(ended(1, "elu(x)", DONE), number=None)
    assert track([f"tensorboard:{tmp_path}"], "my run", [not_recorded, *RESULTS]) == []
    run, times = scalars(tmp_path / "my_run")
    assert run["val_rmse"] == [(1, 0.5)]
    assert run["best_val_rmse"] == [(1, 0.5), (2, 0.5)]
    assert run["test_rmse"] == [(1, 0.45)]
    assert times["val_rmse"] == [NOW]
    (curve,) = (folder for folder in (tmp_path / "my_run").iterdir() if folder.is_dir())
    assert curve.name == "00001-relu(x)-0"
    points, times = scalars(curve)
    assert points["epoch/val_rmse"] == [(1, 0.4), (2, 0.5)]
    assert points["epoch/val_loss"] == [(1, 2.0)], "NaN is left out"
    assert times["epoch/val_rmse"] == [NOW - 2.0, NOW - 0.5]


@pytest.mark.filterwarnings("ignore:codecs.open:DeprecationWarning")  # MLflow's own, on Python 3.14
@pytest.mark.usefixtures("at_now")
def test_mlflow_has_an_experiment_with_a_run_for_each_result(tmp_path, monkeypatch):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its own, at import
        mlflow = pytest.importorskip("mlflow.tracking", reason="needs mlflow-skinny")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    uri = f"file://{tmp_path}/mlruns"
    for result in RESULTS:  # as two sessions of one run
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            assert track([f"mlflow:{uri}"], "one", [result]) == []
    client = mlflow.MlflowClient(uri)
    found = client.search_runs([client.get_experiment_by_name("one").experiment_id])
    runs = {run.data.params["function"]: run for run in found}
    assert runs.keys() == {"relu(x)", "cosh(cosh(x))"}
    assert runs["relu(x)"].data.metrics["test_rmse"] == 0.45
    assert (runs["relu(x)"].info.start_time, runs["relu(x)"].info.end_time) == (1000 * (NOW - 3), 1000 * NOW)
    assert runs["relu(x)"].info.status == "FINISHED"
    assert runs["cosh(cosh(x))"].info.status == "FAILED"
    assert runs["cosh(cosh(x))"].data.tags["reason"] == "loss is nan"
    history = client.get_metric_history(runs["relu(x)"].info.run_id, "epoch_val_rmse")
    assert [(point.step, point.value) for point in history] == [(1, 0.4), (2, 0.5)]


def wandb_records(path):
    """The records of an offline run of Weights & Biases: after a header of 7 bytes, blocks of 32 KiB with fragments of
    records, each behind a checksum (4 bytes), a length (2) and a kind (1: whole, 2: first, 3: middle, 4: last)."""
    messages = pytest.importorskip("wandb.proto.wandb_internal_pb2", reason="needs wandb")
    data, at, part = path.read_bytes(), 7, b""
    while at + 7 <= len(data):
        if 32768 - at % 32768 < 7:  # the rest of a block is too short for a fragment
            at += 32768 - at % 32768
            continue
        length, kind = struct.unpack("<HB", data[at + 4 : at + 7])
        part += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):
            yield messages.Record.FromString(part)
            part = b""


@pytest.mark.slow
def test_wandb_has_a_run_with_each_result_and_its_learning_curve(tmp_path, monkeypatch):
    pytest.importorskip("wandb", reason="needs wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    assert track(["wandb:functions"], "my run", RESULTS) == []
    (file,) = tmp_path.glob("wandb/offline-run-*/run-*.wandb")
    records = list(wandb_records(file))
    (run,) = (record.run for record in records if record.HasField("run"))
    assert (run.project, run.run_group) == ("functions", "my run")
    rows = [
        {item.key or ".".join(item.nested_key): json.loads(item.value_json) for item in record.history.item}
        for record in records
        if record.HasField("history")
    ]
    first, second = (row for row in rows if "function" in row)
    assert (first["function"], first["number"]) == ("relu(x)", 1)
    assert (first["val_rmse"], first["test_rmse"], first["best_val_rmse"]) == (0.5, 0.45, 0.5)
    assert (second["function"], second["status"], second["reason"]) == ("cosh(cosh(x))", "diverged", "loss is nan")
    assert "val_rmse" not in second
    (table,) = tmp_path.glob("wandb/offline-run-*/files/media/table/learning_curves*.json")
    curves = json.loads(table.read_text())
    points = [dict(zip(curves["columns"], row, strict=True)) for row in curves["data"]]
    assert [(p["function"], p["epoch"], p["val_rmse"]) for p in points] == [
        ("relu(x)", 1, 0.4),
        ("relu(x)", 2, 0.5),
    ]
    assert [p["val_loss"] for p in points] == [2.0, None], "NaN is left out"


def test_a_tracker_that_fails_is_noted_once_and_stops_nothing(monkeypatch):
    class Broken:
        def __init__(self, where, run):
            pass

        def result(self, tracked):
            raise ConnectionError("no route to host")

        def close(self):
            raise RuntimeError("again")

    monkeypatch.setitem(trackers.TRACKERS, "mlflow", Broken)
    (note,) = track(["mlflow:http://nowhere"], "one", RESULTS)
    assert "mlflow does not get all results, the run continues" in note
    assert "no route to host" in note


def test_a_tracker_that_hangs_keeps_nobody(monkeypatch):
    released = threading.Event()

    class Hanging:
        def __init__(self, where, run):
            released.wait()

        def close(self):
            pass

    monkeypatch.setitem(trackers.TRACKERS, "mlflow", Hanging)
    monkeypatch.setattr(trackers, "LONGEST_WAIT", 0.1)
    notes = track(["mlflow:http://slow"], "one", RESULTS[:1])
    released.set()
    assert len(notes) == 1
    assert "is still busy" in notes[0]


def test_targets_are_checked_before_anything_starts(monkeypatch):
    for wrong in ("comet:here", "tensorboard", "mlflow:", "wandb:"):
        with pytest.raises(BadUse, match="log-to must be tensorboard:FOLDER, mlflow:URI or wandb:PROJECT, got"):
            make_config({"task": "digits", "log_to": [wrong]})
    monkeypatch.setitem(tracker_targets.MODULES, "mlflow", "no_such_package")
    with pytest.raises(BadUse, match="pip install mlflow-skinny"):
        make_config({"task": "digits", "log_to": ["mlflow:file:///x"]})
    config = make_config({"task": "digits", "log_to": ["tensorboard:there"]})
    assert "log_to" not in config.stored()
    assert config.identity() == make_config({"task": "digits"}).identity()


@pytest.mark.usefixtures("ray_here")
def test_a_run_tells_its_trackers_of_every_result(tmp_path):
    functions = BASELINES[:3]
    evaluate(
        functions,
        "digits",
        name="one",
        worker=ScriptedWorker,
        workers=1,
        store=f"sqlite:///{tmp_path}/a.db",
        storage=str(tmp_path / "storage"),
        log_to=[f"tensorboard:{tmp_path}/board"],
    )
    run, _ = scalars(tmp_path / "board" / "one")
    assert [step for step, _ in run["val_accuracy"]] == [1, 2, 3]
    scores = sorted(map(score_of, functions))
    assert sorted(value for _, value in run["val_accuracy"]) == pytest.approx(scores, abs=1e-6)
    assert run["best_val_accuracy"][-1][1] == pytest.approx(scores[-1], abs=1e-6)
    (curve,) = (path for path in (tmp_path / "board" / "one").iterdir() if path.name.endswith("-relu(x)-0"))
    shown = scalars(curve)[0]["epoch/val_accuracy"]
    assert [epoch for epoch, _ in shown] == list(range(1, EPOCHS + 1))
    assert [value for _, value in shown] == pytest.approx(curve_of("relu(x)"), abs=1e-6)
