"""A search says how long it will take before its first training ends, from work that it does in any case."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
import torch
from recorder import Recorder
from run_context import add_functions, events_of, open_context, trained
from scripted_worker import ScriptedWorker, price_of
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from aquasurf_ray.driver import search
from aquasurf_ray.driver.cluster.slot import CostsJob
from aquasurf_ray.driver.events import EvaluationEnded, Note
from aquasurf_ray.driver.run.claims import Budget
from aquasurf_ray.driver.run.forecast import Forecast, RunForecast, training_seconds
from aquasurf_ray.duration_text import duration_text
from aquasurf_ray.measured_cost import ReadingTime
from aquasurf_ray.store import CostRecord, SpectrumRecord, Store
from aquasurf_ray.tasks import Recipe, Splits, Task, load_task
from aquasurf_ray.tasks.loaders import n_examples
from aquasurf_ray.workers.messages import CostReply, TrainingJob


def test_a_training_takes_its_steps_and_a_third_of_a_step_for_each_validation():
    task = load_task("digits")
    task = replace(task, recipe=replace(task.recipe, epochs=10, batch_size=100))
    sizes = {"train": 1_000, "validation": 300, "test": 600}
    # ten epochs of 10 steps and of 3 validation batches, and 6 test batches, which have no backward pass
    assert training_seconds(task, sizes, 2.0, 100) == pytest.approx(10 * 10 * 2 + 10 * 3 * 2 / 3 + 6 * 2 / 3)
    assert training_seconds(task, sizes, 0.5, 25) == pytest.approx(training_seconds(task, sizes, 2.0, 100))


def test_a_forecast_of_hours_is_a_sentence():
    text = Forecast(2.5, 90.0).text(200, 48, 2, spectrum_batch_size=128)
    assert text == (
        "forecast: a spectrum takes about 2.5 s, a training takes about 1 min 30 s; 200 spectra and 48 trainings with "
        "2 workers take about 40 min 10 s"
    )
    assert Forecast(None, 0.25).text(0, 12, 1, spectrum_batch_size=128) == (
        "forecast: a training takes about 0.25 s; 12 trainings with 1 worker take about 3 s"
    )
    assert Forecast(0.01, 0.5, 0.25).text(200, 48, 2, n_costs=48, spectrum_batch_size=128) == (
        "forecast: a spectrum takes about 0.01 s, a training takes about 0.5 s, measuring a cost takes about 0.25 s; "
        "200 spectra, 48 trainings and 48 costs with 2 workers take about 19 s"
    )


SMALLER = "Task(spectrum_batch_size=32) instead of 128 makes them faster, and --candidates fewer"
FEWER = "fewer --candidates or more --workers shorten it"
SHORTER = "a recipe of fewer epochs, more --workers or fewer --evaluations shorten it"


@pytest.mark.parametrize(
    ("forecast", "batch_size", "advice"),
    [
        (Forecast(1200.0, 60.0), 128, f"; 1 d 9 h of it are spectra: {SMALLER}"),
        (Forecast(1200.0, 60.0), 16, f"; 1 d 9 h of it are spectra: {FEWER}"),
        (Forecast(180.0, 60.0), 128, f"; 5 h of it are spectra: {SMALLER}"),
        (Forecast(180.0, 3000.0), 128, f"; 5 h of it are spectra: {SMALLER}"),
        (Forecast(1.0, 9000.0), 128, f"; 2 d 12 h of it are trainings: {SHORTER}"),
        (
            Forecast(180.0, 9000.0),
            128,
            f"; 5 h of it are spectra: {SMALLER}; 2 d 12 h of it are trainings: {SHORTER}",
        ),
        (Forecast(10.0, 60.0, 900.0), 128, "; 2 d 2 h of it are costs: fewer --candidates, more --workers or no --max"),
    ],
)
def test_a_forecast_of_days_or_of_spectra_of_minutes_says_what_to_change(forecast, batch_size, advice):
    text = forecast.text(200, 48, 2, n_costs=400, spectrum_batch_size=batch_size)
    assert advice in text
    assert forecast.text(200, 48, 2, n_costs=400) == text[: text.index("; ", text.index("with 2 workers"))]


@pytest.mark.parametrize("forecast", [Forecast(50.0, 600.0), Forecast(None, 3000.0, 50.0)])
def test_a_forecast_of_hours_says_nothing_of_it(forecast):
    text = forecast.text(200, 48, 2, n_costs=48, spectrum_batch_size=128)
    assert text.rpartition(" with ")[2].startswith("2 workers take about ")
    assert "of it are" not in text


DATA = TensorDataset(torch.zeros(2_000, 3), torch.arange(2_000) % 3)
SIZES = dict.fromkeys(("train", "validation", "test"), 2_000)


def task_on(train):
    def network(activation):
        return nn.Sequential(nn.Linear(3, 4), activation(), nn.Linear(4, 3))

    recipe = Recipe(epochs=3, batch_size=128, learning_rate=1e-3)
    return Task("mine", network, lambda: Splits(train, DATA, DATA), recipe)


@pytest.fixture
def context(tmp_path):
    """A search of ten functions without spectra, in the hands of a worker that a test ends the work of."""
    with Store.open(f"sqlite:///{tmp_path}/a.db", create=True) as store:
        yield open_context(store, "one", add_functions(store, 10))


def noted(context, forecast, job, reply):
    """The only forecast that there is once a worker has done a job."""
    (slot,) = context.pool.slots
    context.pool.submit(slot, job, 1.0)
    forecast.settle([context.pool.end(slot, reply=reply)])
    (note,) = events_of(context, Note)
    return note.text


@pytest.mark.parametrize(
    ("train", "n_in_step"),
    [
        (DATA, 128),
        (TensorDataset(torch.zeros(100, 3), torch.arange(100) % 3), 100),
        (DataLoader(DATA, batch_size=512), 512),
        (DataLoader(DATA, batch_sampler=[list(range(i, i + 40)) for i in range(0, 2_000, 40)]), 40),
    ],
    ids=["recipe", "few", "loader", "batch sampler"],
)
def test_the_steps_of_a_run_are_those_of_its_batches(train, n_in_step, context):
    """Costs are measured on a batch of the loader, where there is one."""
    task = task_on(train)
    forecast = RunForecast(context, task, Budget((), 10), spectra=False)
    function = context.history.candidates[0].id
    context.history.add_costs([CostRecord("cpu", 5.0, 5.0, 100, 100, function_id=function)])
    text = noted(context, forecast, CostsJob(("f0(x)",)), [])
    sizes = {name: n_examples(split) for name, split in task.splits().named().items()}
    assert f"a training takes about {duration_text(training_seconds(task, sizes, 5.0, n_in_step))}, " in text


def test_a_training_takes_the_time_in_which_its_network_waits(context):
    forecast = RunForecast(context, task_on(DATA), Budget((), 10), spectra=False)
    context.history.add_costs([CostRecord("cpu", 0.5, 0.5, 100, 100, function_id=context.history.candidates[0].id)])
    reply = CostReply("f0(x)", "done", None, None, 1.0, ReadingTime(), step_seconds=50.0)
    text = noted(context, forecast, CostsJob(("f0(x)",)), [reply])
    assert f"a training takes about {duration_text(training_seconds(task_on(DATA), SIZES, 50.0, 128))}, " in text


@pytest.mark.parametrize(
    ("reading", "seconds"),
    [
        (ReadingTime(2.0, 1_000.0), "1 h 13 min"),
        (ReadingTime(2.0, 1_000.0, overlaps=True), "56 min 29 s"),
        (ReadingTime(2.0, 10_000.0, overlaps=True), "2 h 47 min"),
    ],
    ids=["in turns", "at once", "reading takes longer"],
)
def test_a_training_takes_the_time_of_reading_too(reading, seconds, context):
    forecast = RunForecast(context, task_on(DATA), Budget((), 10), spectra=False)
    context.history.add_costs([CostRecord("cpu", 50.0, 5.0, 100, 100, function_id=context.history.candidates[0].id)])
    reply = CostReply("f0(x)", "done", None, None, 1.0, reading)
    text = noted(context, forecast, CostsJob(("f0(x)",)), [reply])
    assert f"a training takes about {seconds}, " in text


def test_a_run_waits_for_the_time_of_reading_though_it_finds_costs_in_the_store(context):
    forecast = RunForecast(context, task_on(DATA), Budget((), 10), spectra=False)
    context.history.add_costs([CostRecord("cpu", 50.0, 5.0, 100, 100, function_id=context.history.candidates[0].id)])
    forecast.settle([])
    assert events_of(context, Note) == []
    text = noted(context, forecast, TrainingJob("f0(x)", "f0", 0), trained(0.5))
    assert text == "forecast: a training takes about 1 s; 10 trainings with 1 worker take about 10 s"


def test_a_forecast_counts_what_a_run_has_done_already(context):
    """The check and the progress have the same counts."""
    forecast = RunForecast(context, task_on(DATA), Budget((), 10), spectra=True)
    history = context.history
    first = history.candidates[0].id
    history.spectra[first] = SpectrumRecord(first, "sampled", 0, "done", seconds=1.0)
    history.add_costs([CostRecord("cpu", 5.0, 5.0, 100, 100, function_id=first)])
    text = noted(context, forecast, CostsJob(("f0(x)",)), [])
    assert "10 spectra, 10 trainings and 10 costs with 1 worker take about" in text


def test_a_forecast_of_one_has_no_plural():
    text = Forecast(1.0, 1.0, 1.0).text(1, 1, 1, n_costs=1)
    assert "; 1 spectrum, 1 training and 1 cost with 1 worker take" in text


def test_a_resumed_run_forecasts_what_is_left_of_it_and_advises_nothing_that_cannot_change(context):
    history = context.history
    for state in list(history.evaluations.values())[:4]:
        history.evaluations.put(replace(state, status="done", score=0.5))
    done = [SpectrumRecord(f.id, "sampled", 0, "done", seconds=50_000.0) for f in history.candidates[:7]]
    history.spectra.update({record.function_id: record for record in done})
    forecast = RunForecast(context, task_on(DATA), Budget((), 10), spectra=True)
    assert not forecast.take_first_spectrum()
    assert noted(context, forecast, TrainingJob("f4(x)", "f4", 0), trained(0.5)) == (
        "forecast: a spectrum takes about 13 h 53 min, a training takes about 1 s; 3 spectra and 6 trainings with "
        "1 worker take about 1 d 18 h"
    )


def test_a_run_that_finds_all_spectra_in_the_store_has_a_forecast(context):
    context.history.spectra.update(
        {f.id: SpectrumRecord(f.id, "sampled", 0, "done", seconds=1.0) for f in context.history.candidates}
    )
    forecast = RunForecast(context, task_on(DATA), Budget((), 10), spectra=True)
    assert noted(context, forecast, TrainingJob("f0(x)", "f0", 0), trained(0.5)) == (
        "forecast: a training takes about 1 s; 10 trainings with 1 worker take about 10 s"
    )


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
        r"a spectrum takes about 0\.01 s, .* spectra, 12 trainings and 12 costs with 1 worker take about", text
    )
    step = price_of(seen.events[first_result].function) / 100
    assert f"measuring a cost takes about {2 * step * (max(0.05 / step, 3) + 1):.2g} s" in text
    task, first = load_task("digits"), seen.events[first_result].function
    sizes = {name: len(split) for name, split in task.splits().named().items()}
    steps = (
        task.recipe.epochs * (sizes["train"] + sizes["validation"] / 3) + sizes["test"] / 3
    ) / task.recipe.batch_size
    assert f"a training takes about {steps * price_of(first) / 100:.2g} s" in text
