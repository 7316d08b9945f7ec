"""Two processes train one network as one process does, and where one fails, both do."""

from __future__ import annotations

import math
import pickle
import subprocess
import sys

import pytest
import rank_process
import torch

from aquasurf_ray.workers.engine.ranks import RankError, Ranks

GONE = 60.0


@pytest.fixture(scope="module")
def together(tmp_path_factory):
    """{case: (rank 0's outcome, rank 1's, the longer of their times)}; None is the outcome of a dead process."""
    folder = tmp_path_factory.mktemp("ranks")
    command = [sys.executable, rank_process.__file__]
    processes = [subprocess.Popen([*command, str(rank), "2", str(folder)]) for rank in range(2)]
    try:
        for process in processes:
            process.wait(timeout=240)
    finally:
        for process in processes:
            process.kill()

    def outcome(case, rank):
        path = folder / f"{case}-{rank}.pkl"
        return pickle.loads(path.read_bytes()) if path.exists() else (None, 0.0)

    found = {case: [outcome(case, rank) for rank in range(2)] for case in rank_process.CASES}
    return {case: (a, b, max(s, t)) for case, ((a, s), (b, t)) in found.items()}


def alone(case, tmp_path):
    torch.set_num_threads(1)
    return rank_process.CASES[case](None, tmp_path)


def assert_same(result, expected):
    assert result.status == expected.status == "done"
    assert len(result.epochs) == len(expected.epochs)
    for epoch, other in zip(result.epochs, expected.epochs, strict=True):
        assert epoch.train_loss == pytest.approx(other.train_loss, rel=1e-4)
        assert epoch.val_loss == pytest.approx(other.val_loss, rel=1e-4)
        assert epoch.learning_rate == other.learning_rate
    assert result.test_loss == pytest.approx(expected.test_loss, rel=1e-4)
    assert result.score == pytest.approx(expected.score, abs=0.005)
    assert not math.isnan(result.test_loss)


@pytest.mark.parametrize(
    "case",
    [
        "everything",
        "small_batches",
        "batch_norm",
        "other_norms",
        "metric_of_torchmetrics",
        "stopped",
        "resumed",
        "drained",
        "padded_tensors",
        "padded_data_set",
        "padded_loader",
        "class_weights",
        "sum_of_losses",
        "unreached",
        "checkpointed",
        "learned",
    ],
)
@pytest.mark.slow
def test_two_processes_give_the_figures_of_one(together, tmp_path, case):
    first, second, _ = together[case]
    expected = alone(case, tmp_path)
    assert_same(first, expected)
    assert (first.score, first.epochs, first.test_loss) == (second.score, second.epochs, second.test_loss)
    assert (first.n_devices, expected.n_devices) == (2, 1)
    assert first.stopped_early == expected.stopped_early


@pytest.mark.parametrize("case", ["small_batches", "padded_tensors", "padded_loader", "class_weights"])
@pytest.mark.slow
def test_the_training_score_is_that_of_all_processes_examples(together, tmp_path, case):
    first, second, _ = together[case]
    for epoch, other in zip(first.epochs, alone(case, tmp_path).epochs, strict=True):
        assert epoch.train_score == pytest.approx(other.train_score, rel=1e-4)
    assert second.epochs == first.epochs


@pytest.mark.parametrize("case", ["resumed", "drained"])
@pytest.mark.slow
def test_a_training_of_two_resumes_from_rank_0s_checkpoint(together, case):
    first, second, _ = together[case]
    assert first.device == "[2]"
    assert second.device == "[]", "only rank 0 reports epochs"


@pytest.mark.slow
def test_two_processes_learn_the_parameters_of_one(together, tmp_path):
    first, second, _ = together["learned"]
    expected = alone("learned", tmp_path)
    assert first.learned == second.learned
    assert [v.layer for v in first.learned] == [v.layer for v in expected.learned]
    for ours, theirs in zip(first.learned, expected.learned, strict=True):
        assert ours.course == pytest.approx(theirs.course, abs=1e-4)
        assert ours.spread == pytest.approx(theirs.spread, abs=1e-4)


@pytest.mark.slow
def test_a_function_that_fails_on_one_rank_has_diverged_on_both(together):
    for result in together["function"][:2]:
        assert (result.status, result.reason) == ("diverged", "KeyError: 'third'")


@pytest.mark.parametrize(("case", "failing"), [("callback", 0), ("forward", 1), ("backward", 1)])
@pytest.mark.slow
def test_a_rank_that_fails_makes_the_other_fail_at_once_with_its_reason(together, case, failing):
    *outcomes, seconds = together[case]
    assert isinstance(outcomes[failing], MemoryError)
    assert isinstance(outcomes[1 - failing], RankError)
    assert str(outcomes[1 - failing]) == f"rank {failing} of 2 failed: MemoryError: no memory left"
    assert seconds < GONE / 2, "not by a timeout"


@pytest.mark.slow
def test_a_rank_that_dies_makes_the_other_fail(together):
    survivor, dead, seconds = together["death"]
    assert dead is None
    assert isinstance(survivor, RankError)
    assert "a process that trains with rank 0 is gone" in str(survivor)
    assert seconds < GONE / 2


@pytest.mark.slow
def test_a_rank_whose_peer_does_not_begin_waits_for_a_time_and_says_so(together):
    survivor, _, seconds = together["left_alone"]
    assert isinstance(survivor, RankError)
    assert str(survivor).startswith("rank 0 of 2 begins alone: ")
    assert seconds < GONE / 2


def test_ranks_without_a_process_group_say_so(tmp_path):
    with pytest.raises(RuntimeError, match="initialised process group of 2 processes, found none"):
        rank_process.CASES["stopped"](Ranks(0, 2, torch.device("cpu")), tmp_path)


def test_a_rank_outside_of_the_world_is_refused():
    with pytest.raises(ValueError, match=r"rank must be in \[0, 2\), got 2"):
        Ranks(2, 2, torch.device("cpu"))
