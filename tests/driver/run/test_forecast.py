"""A search says how long it will take before its first training ends, from work that it does in any case."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from recorder import Recorder
from scripted_worker import ScriptedWorker, price_of

from aquasurf_ray.driver import search
from aquasurf_ray.driver.events import EvaluationEnded, Note
from aquasurf_ray.driver.run.forecast import Forecast, training_seconds
from aquasurf_ray.tasks import load_task


def test_a_training_takes_its_steps_and_a_third_of_a_step_for_each_validation():
    task = load_task("digits")
    task = replace(task, recipe=replace(task.recipe, epochs=10, batch_size=100))
    sizes = {"train": 1_000, "validation": 300, "test": 600}
    # ten epochs of 10 steps and of 3 validation batches, and 6 test batches, which have no backward pass
    assert training_seconds(task, sizes, 2.0, 100) == pytest.approx(10 * 10 * 2 + 10 * 3 * 2 / 3 + 6 * 2 / 3)
    assert training_seconds(task, sizes, 0.5, 25) == pytest.approx(training_seconds(task, sizes, 2.0, 100))


def test_a_forecast_of_hours_is_a_sentence():
    text = Forecast(2.5, 90.0).text(200, 48, 2, 128)
    assert text == (
        "forecast: a spectrum takes about 2.5 s, a training takes about 1 min 30 s; 200 spectra and 48 trainings with "
        "2 workers take about 40 min 10 s"
    )
    assert Forecast(None, 0.25).text(0, 12, 1, 128) == (
        "forecast: a training takes about 0.25 s; 12 trainings with 1 worker take about 3 s"
    )
    assert Forecast(0.01, 0.5, 0.25).text(200, 48, 2, 128, n_costs=48) == (
        "forecast: a spectrum takes about 0.01 s, a training takes about 0.5 s, measuring a cost takes about 0.25 s; "
        "200 spectra, 48 trainings and 48 costs with 2 workers take about 19 s"
    )


@pytest.mark.parametrize(
    ("forecast", "advice"),
    [
        (
            Forecast(1200.0, 60.0),
            "Task(spectrum_batch_size=32) instead of 128 makes them faster, and --candidates fewer",
        ),
        (Forecast(1.0, 9000.0), "most of it are trainings: a recipe of fewer epochs, more --workers or fewer --eval"),
    ],
)
def test_a_forecast_of_days_says_what_to_change(forecast, advice):
    assert advice in forecast.text(200, 48, 2, 128)


@pytest.mark.usefixtures("ray_here")
def test_a_search_notes_its_forecast_once_and_before_the_first_result(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    seen = Recorder()
    options = {"candidates": 12, "evaluations": 4, "workers": 1, "cpus_per_worker": 0.2}
    search("digits", worker=ScriptedWorker, store=f"sqlite:///{tmp_path}/a.db", callbacks=[seen], **options)
    notes = [i for i, e in enumerate(seen.events) if isinstance(e, Note) and e.text.startswith("forecast: ")]
    first_result = next(i for i, e in enumerate(seen.events) if isinstance(e, EvaluationEnded))
    assert len(notes) == 1
    assert notes[0] < first_result
    text = seen.events[notes[0]].text
    assert re.search(
        r"a spectrum takes about 0\.01 s, .* spectra, 12 trainings and 11 costs with 1 worker take about", text
    )
    step = price_of(seen.events[first_result].function) / 100
    assert f"measuring a cost takes about {2 * step * (max(0.05 / step, 3) + 1):.2g} s" in text
    task, first = load_task("digits"), seen.events[first_result].function
    sizes = {name: len(split) for name, split in task.splits().named().items()}
    steps = (
        task.recipe.epochs * (sizes["train"] + sizes["validation"] / 3) + sizes["test"] / 3
    ) / task.recipe.batch_size
    assert f"a training takes about {steps * price_of(first) / 100:.2g} s" in text
