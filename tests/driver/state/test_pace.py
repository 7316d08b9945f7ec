"""How long a run takes: by the trainings and spectra of its workers, and never by the time in which nothing trained."""

from __future__ import annotations

from dataclasses import replace

import pytest
from run_context import FakePool, add_functions, open_context, trained

from aquasurf_ray.driver.cluster.slot import CostsJob, SpectraJob, Work
from aquasurf_ray.driver.events import RunPace
from aquasurf_ray.driver.state.pace import PaceOfWorkers
from aquasurf_ray.store import SpectrumRecord, Store
from aquasurf_ray.workers.messages import CostReply, Drained, SpectrumReply, TrainingJob


class Workers:
    """The workers of a run of twelve functions, on a clock of the test."""

    def __init__(self, store, n=1, **settings):
        self.context = open_context(store, "one", add_functions(store, 12), pool=FakePool(*["here"] * n), **settings)
        self.pace = PaceOfWorkers(self.context)
        self.store = store

    def wait(self, seconds):
        self.context.clock.now += seconds

    def begin(self, job, worker=0, claim=None):
        slot = self.context.pool.slots[worker]
        slot.state, slot.work = "busy", Work(job, self.context.clock(), None, claim)

    def end(self, worker=0, reply=None, fault=None):
        slot = self.context.pool.slots[worker]
        self.pace.settle([self.context.pool.end(slot, reply=reply, fault=fault)])

    def claim(self, number):
        function = self.context.history.candidates[number]
        return self.store.claim(self.context.lease, function.id, 0, "proposal")

    def train(self, number, took, worker=0, **result):
        self.begin(TrainingJob(f"f{number}(x)", f"f{number}", 0), worker, self.claim(number))
        self.wait(took)
        self.end(worker, replace(trained(0.5), **{"seconds": took, **result}))

    def now(self, n_trainings, n_spectra=0, n_costs=0, forecast=None):
        return self.pace.now(n_trainings, n_spectra, n_costs, forecast)


@pytest.fixture
def store(tmp_path):
    with Store.open(f"sqlite:///{tmp_path}/s.db") as opened:
        yield opened


def spectra(*seconds):
    return [SpectrumReply("f(x)", "done", None, b"", each, "cpu") for each in seconds]


def test_the_time_before_the_first_training_is_in_no_estimate(store):
    """A session that started for two minutes said that a search of four minutes takes an hour and a half."""
    workers = Workers(store)
    workers.wait(113.0)
    assert workers.now(51) == RunPace()
    workers.train(0, 2.0)
    assert workers.now(50) == RunPace(2.0, per_hour=1800.0, seconds_left=100.0)
    workers.wait(1000.0)
    assert workers.now(50).seconds_left == 100.0, "time in which no worker trains is none of a training"


def test_before_a_training_has_ended_the_forecast_is_the_estimate_until_a_training_takes_longer(store):
    workers = Workers(store)
    assert workers.now(10, forecast=3.0).seconds_left == 30.0
    workers.begin(TrainingJob("f0(x)", "f0", 0), claim=workers.claim(0))
    workers.wait(2.0)
    assert workers.now(10, forecast=3.0).seconds_left == 28.0
    workers.wait(18.0)
    assert workers.now(10, forecast=3.0) == RunPace(20.0, per_hour=180.0, seconds_left=180.0)


def test_several_workers_train_at_once_and_the_last_round_takes_a_whole_training(store):
    workers = Workers(store, 4)
    workers.train(0, 10.0)
    assert workers.now(8) == RunPace(10.0, per_hour=1440.0, seconds_left=20.0)
    assert workers.now(9).seconds_left == 30.0
    for worker in range(4):
        workers.begin(TrainingJob(f"f{worker + 1}(x)", "f", 0), worker, workers.claim(worker + 1))
    workers.wait(4.0)
    assert workers.now(4).seconds_left == 6.0
    assert workers.now(5).seconds_left == 16.0


def test_workers_that_have_not_started_or_are_leaving_train_nothing(store):
    workers = Workers(store, 3)
    workers.train(0, 10.0)
    _, starting, leaving = workers.context.pool.slots
    starting.state, starting.info, leaving.leaving = "starting", None, True
    assert workers.now(2).seconds_left == 20.0


def test_spectra_that_are_left_have_their_own_time(store):
    workers = Workers(store)
    workers.train(0, 10.0)
    assert workers.now(2, 6).seconds_left is None, "of a spectrum nothing is known"
    workers.begin(SpectraJob(("f1(x)", "f2(x)", "f3(x)")))
    workers.wait(6.0)
    workers.end(reply=spectra(5.0, 0.5, 0.5))
    assert workers.now(2, 6) == RunPace(10.0, 0.5, per_hour=360.0, seconds_left=23.0), "the first one imports modules"
    workers.begin(SpectraJob(("f4(x)", "f5(x)")))
    workers.wait(0.75)
    assert workers.now(2, 6).seconds_left == 22.25
    assert workers.now(2, 0).seconds_left == 20.0


def test_a_resumed_run_knows_the_spectra_of_the_store_and_costs_are_measured_too(store):
    workers = Workers(store)
    first = workers.context.history.candidates[0].id
    workers.context.history.spectra[first] = SpectrumRecord(first, "sampled", 0, "done", seconds=2.0)
    workers.pace = PaceOfWorkers(workers.context)
    assert workers.now(0, 4).seconds_left == 8.0
    workers.begin(CostsJob(("f0(x)",)))
    workers.end(reply=[CostReply("f0(x)", "done", None, None, 0.5)])
    assert workers.now(0, 4, 6).seconds_left == 11.0


def test_the_cost_that_is_measured_before_a_training_is_part_of_its_time(store):
    workers = Workers(store)
    for number, seconds in ((0, 30.0), (1, 1.0), (2, 1.0)):  # the first loads what the others find
        claim = workers.claim(number)
        workers.begin(CostsJob((f"f{number}(x)",)), claim=claim)
        workers.wait(seconds)
        workers.end(reply=[CostReply(f"f{number}(x)", "done", None, None, seconds)])
        workers.begin(TrainingJob(f"f{number}(x)", "f", 0), claim=claim)
        workers.wait(3.0)
        workers.end(reply=replace(trained(0.5), seconds=2.5))
    assert workers.now(6).training_seconds == pytest.approx((3.0 + 4.0 + 4.0) / 3)


def test_a_workers_first_training_counts_without_what_it_loads(store):
    workers = Workers(store)
    workers.train(0, 12.0, seconds=2.0)
    assert workers.now(10).training_seconds == 2.0
    workers.train(1, 3.0, seconds=2.0)
    assert workers.now(10).training_seconds == 2.5


def test_what_ends_early_has_its_share_but_is_no_measure_alone(store):
    workers = Workers(store)
    workers.train(0, 1.0, stopped_early="below the median")
    workers.train(1, 0.0, status="diverged")
    assert workers.now(10).seconds_left is None
    assert workers.now(10, forecast=8.0).training_seconds == 8.0
    workers.train(2, 8.0)
    assert workers.now(10).training_seconds == 3.0


def test_a_training_that_goes_on_from_a_checkpoint_is_no_measure(store):
    workers = Workers(store)
    state = next(iter(workers.context.history.evaluations.values()))
    workers.context.history.evaluations.put(replace(state, begun=True))
    workers.pace = PaceOfWorkers(workers.context)
    workers.train(0, 1.0)
    assert workers.now(10) == RunPace(), "an earlier session began it"
    for end in ({"fault": "the worker died"}, {"reply": Drained(3)}):
        workers.begin(TrainingJob("f1(x)", "f1", 0), claim=workers.claim(1))
        workers.end(**end)
    workers.train(1, 1.0)
    assert workers.now(10) == RunPace(), "its first attempt may have left a checkpoint"
    workers.train(2, 8.0, stopped_early="paused")
    workers.train(3, 10.0)
    workers.train(2, 2.0)
    assert workers.now(10).training_seconds == 9.0, "its first part counts, and its second is no training"


def test_a_last_training_that_takes_longer_than_the_others_leaves_nothing(store):
    workers = Workers(store)
    workers.train(0, 5.0)
    workers.begin(TrainingJob("f1(x)", "f1", 0), claim=workers.claim(1))
    workers.wait(7.0)
    assert workers.now(1).seconds_left == 0.0
