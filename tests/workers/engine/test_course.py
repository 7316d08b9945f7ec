"""How a training resumes and ends: interruptions with everything switched on, early ends, throughput, forms."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import asdict, replace

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from aquasurf_ray.activations import Activation
from aquasurf_ray.tasks import Recipe, Splits, Task
from aquasurf_ray.workers.engine.checkpoints import CheckpointFolder
from aquasurf_ray.workers.engine.stopping import StopRule
from aquasurf_ray.workers.training import train

TANH = Activation("tanh(x)")
CPU = torch.device("cpu")


def network(activation):
    return nn.Sequential(
        nn.Conv2d(1, 6, 3), nn.BatchNorm2d(6), activation(), nn.Dropout(0.3), nn.Flatten(), nn.Linear(24, 3)
    )


def noisy(inputs, generator):
    return inputs + 0.1 * torch.randn(inputs.shape, generator=generator)


EVERYTHING = {
    "optimizer": "adamw",
    "schedule": "cosine",
    "label_smoothing": 0.1,
    "mixup": 0.3,
    "cutmix": 0.3,
    "clip_norm": 1.0,
    "ema_decay": 0.7,
    "channels_last": True,
    "deterministic": True,
    "learning_rate": 0.02,
}


def examples(seed):
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(40, 1, 4, 4, generator=generator)
    return TensorDataset(inputs, inputs.flatten(1)[:, :3].argmax(1))


def in_memory():
    return Splits(examples(0), examples(1), examples(2))


def from_loaders():
    own = DataLoader(examples(0), batch_size=16, shuffle=True, generator=torch.Generator().manual_seed(9))
    return Splits(own, examples(1), DataLoader(examples(2), batch_size=7))


def task(data=in_memory, epochs=4, **recipe):
    settings = {"epochs": epochs, "batch_size": 16, "learning_rate": 0.05, **recipe}
    return Task("made", network, data, Recipe(**settings), augment=noisy)


def figures(result):
    curve = [{k: v for k, v in asdict(epoch).items() if k != "seconds"} for epoch in result.epochs]
    return result.score, result.test_loss, result.test_score, curve


class Interrupted(Exception):
    pass


def stop_in_the_third(epoch):
    if epoch.epoch == 3:
        raise Interrupted


@pytest.mark.parametrize("data", [in_memory, from_loaders])
@pytest.mark.parametrize("recipe", [EVERYTHING, {"schedule": "one-cycle", "ema_decay": 0.5}], ids=["all", "one-cycle"])
def test_an_interrupted_training_resumes_bit_for_bit_with_everything_on(tmp_path, data, recipe):
    pytest.importorskip("torchvision")
    given = task(data, **recipe)
    whole = train(given, TANH, seed=2)
    folder = CheckpointFolder(str(tmp_path), {"seed": 2})
    with pytest.raises(Interrupted):
        train(given, TANH, seed=2, checkpoints=folder, checkpoint_interval=0.0, on_epoch=stop_in_the_third)
    trained = []
    torch.manual_seed(123)
    resumed = train(given, TANH, seed=2, checkpoints=folder, on_epoch=lambda e: trained.append(e.epoch))
    assert trained == [3, 4]
    assert figures(resumed) == figures(whole)


def test_a_training_below_the_threshold_ends_with_all_its_figures():
    rule = StopRule(((2, 1.5),), "median of 7 evaluations")
    ended = train(task(), TANH, stop_rule=rule)
    score = ended.epochs[-1].val_score
    assert len(ended.epochs) == 2
    assert ended.status == "done"
    assert ended.stopped_early == f"score {score:.4g} after epoch 2 of 4 is below 1.5 (median of 7 evaluations)"
    assert ended.score == score
    assert None not in (ended.test_loss, ended.test_score, ended.train_loss, ended.val_loss)


@pytest.mark.parametrize("thresholds", [(), ((1, 0.0), (3, 0.0)), ((4, 1.5),), ((9, 1.5),)])
def test_a_training_that_reaches_the_thresholds_continues_to_its_end(thresholds):
    whole = train(task(), TANH)
    watched = train(task(), TANH, stop_rule=StopRule(thresholds))
    assert watched.stopped_early is None
    assert figures(watched) == figures(whole)


@pytest.mark.parametrize("thresholds", [((0, 0.5),), ((2, 0.5), (2, 0.6)), ((1, float("nan")),)])
def test_a_rule_that_makes_no_sense_is_refused(thresholds):
    with pytest.raises(ValueError, match=r"StopRule must be|threshold after epoch"):
        StopRule(thresholds)


def test_throughput_counts_training_time_across_an_interruption(tmp_path):
    folder = CheckpointFolder(str(tmp_path), {})
    with pytest.raises(Interrupted):
        train(task(), TANH, checkpoints=folder, checkpoint_interval=0.0, on_epoch=stop_in_the_third)
    result = train(task(), TANH, checkpoints=folder)
    assert 4 * 40 / result.examples_per_second < result.seconds
    assert result.examples_per_second > 40 / max(epoch.seconds for epoch in result.epochs)
    assert result.seconds == sum(epoch.seconds for epoch in result.epochs)


class Recomputed(Activation):
    """A form that counts how often it is made."""

    made = 0

    def __init__(self, expression):
        super().__init__(expression)
        Recomputed.made += 1


class Form:
    def __init__(self, name):
        self.name = name

    def factory(self):
        return Recomputed("tanh(x)")


def test_a_chosen_form_is_used_and_kept_when_the_training_resumes(tmp_path):
    requests = []

    def choose(request):
        requests.append(request)
        return Form(request.kept or "recomputed")

    folder = CheckpointFolder(str(tmp_path), {})
    Recomputed.made = 0
    with pytest.raises(Interrupted):
        train(task(), TANH, checkpoints=folder, checkpoint_interval=0.0, on_epoch=stop_in_the_third, choose_form=choose)
    assert Recomputed.made == 1
    result = train(task(), TANH, checkpoints=folder, choose_form=choose)
    assert [request.kept for request in requests] == [None, "recomputed"]
    first = requests[0]
    assert (first.n_elements, first.expected_calls) == (16 * 6 * 2 * 2, 3 * 4)
    assert (first.dtype, first.device, first.deterministic) == (torch.float32, CPU, False)
    assert figures(result) == figures(train(task(), TANH))


def test_a_checkpoint_of_a_form_that_cannot_be_had_is_left_out(tmp_path, caplog):
    folder = CheckpointFolder(str(tmp_path), {})
    with pytest.raises(Interrupted):
        train(
            task(),
            TANH,
            checkpoints=folder,
            checkpoint_interval=0.0,
            on_epoch=stop_in_the_third,
            choose_form=lambda _: Form("compiled"),
        )
    assert figures(train(task(), TANH, checkpoints=folder)) == figures(train(task(), TANH))
    assert "trained with the compiled form of the function, expected eager" in caplog.text


def test_the_batch_size_of_validation_changes_no_figure():
    large, small = (
        train(replace(task(), data=lambda n=n: Splits(examples(0), DataLoader(examples(1), n), examples(2))), TANH)
        for n in (40, 7)
    )
    assert large.val_loss == pytest.approx(small.val_loss, rel=1e-6)
    assert large.val_accuracy == small.val_accuracy


@pytest.mark.slow
def test_training_needs_neither_ray_nor_the_parts_that_only_some_recipes_use():
    script = "import aquasurf_ray.workers.training, sys; print(*{name.partition('.')[0] for name in sys.modules})"
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()
    assert "torch" in loaded
    assert {"ray", "timm", "torchvision", "sklearn", "pandas", "sqlalchemy"}.isdisjoint(loaded)
