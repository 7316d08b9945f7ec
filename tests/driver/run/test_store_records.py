"""What workers and the surrogate answer is stored field by field."""

from __future__ import annotations

from dataclasses import asdict, fields, replace

from run_context import trained

from aquasurf_ray.driver.run.store_records import cost_record, evaluation_result, spectrum_record, suggestion_record
from aquasurf_ray.driver.settings.reading import make_config
from aquasurf_ray.driver.state.history import History
from aquasurf_ray.driver.suggestions.pairs import Pairs
from aquasurf_ray.measured_cost import MeasuredCost
from aquasurf_ray.store import CostRecord, FunctionRecord, Neighbor, SpectrumRecord, SuggestionRecord
from aquasurf_ray.surrogate.policy import Neighbor as Near
from aquasurf_ray.surrogate.policy import Suggestion
from aquasurf_ray.training_metrics import METRIC_NAMES
from aquasurf_ray.workers.messages import SpectrumReply
from aquasurf_ray.workers.result import Epoch


def test_a_result_has_every_metric_and_the_learning_curve_of_the_training():
    values = {name: number / 10 for number, name in enumerate(METRIC_NAMES) if name not in ("score", "stopped_early")}
    epoch = Epoch(1, 2.0, 0.3, None, 1.5, 0.4, None, 0.01, 6.0)
    training = replace(trained(0.5, stopped_early="below the median", **values), epochs=(epoch,))
    result = evaluation_result(training, "worker-3")
    for field in fields(training):
        if field.name != "epochs":
            assert getattr(result, field.name) == getattr(training, field.name), field.name
    assert (result.worker, [asdict(each) for each in result.epochs]) == ("worker-3", [asdict(epoch)])


def test_a_spectrum_is_stored_under_the_runs_kind_of_fisher_information_and_seed():
    config = make_config({"task": "t", "fisher": "empirical", "training_seed": 7})
    reply = SpectrumReply("f(x)", "done", None, b"bytes", 1.5, "cpu", "all")
    assert spectrum_record(4, reply, config) == SpectrumRecord(
        4, "empirical", 7, "done", reason=None, feature=b"bytes", seconds=1.5, device="cpu"
    )


def test_a_cost_keeps_its_function_and_that_of_relu_apart():
    cost = MeasuredCost("gpu", 0.2, 0.1, 30, 10)
    record = cost_record(4, cost, "worker-1")
    assert record == CostRecord(
        function_id=4, device="gpu", step_seconds=0.2, relu_step_seconds=0.1, activation_bytes=30,
        relu_activation_bytes=10, worker="worker-1",
    )  # fmt: skip
    assert (record.time_ratio, record.memory_ratio) == (2.0, 3.0)


def test_the_neighbors_of_a_suggestion_are_stored_by_their_numbers_in_the_store():
    history = History([FunctionRecord(10 + i, f"d{i}", f"f{i}(x)", 1) for i in range(3)])
    suggestion = Suggestion(0, 0.9, 2, (Near(2, 0.25, 0.7),), "version")
    assert suggestion_record(suggestion, Pairs(history, ("",), None)) == SuggestionRecord(
        predicted_score=0.9, rank=2, neighbors=(Neighbor(12, 0.25, 0.7),), embedding_version="version"
    )
    of_pairs = suggestion_record(suggestion, Pairs(history, ("", "learning_rate*2"), None))
    assert of_pairs.neighbors == (Neighbor(11, 0.25, 0.7),), "the third pair: the second function as it is"
    other = Suggestion(0, 0.9, 2, (Near(5, 0.25, 0.7),), "version")
    of_pairs = suggestion_record(other, Pairs(history, ("", "learning_rate*2"), None))
    assert of_pairs.neighbors == (Neighbor(12, 0.25, 0.7, "learning_rate*2"),)
