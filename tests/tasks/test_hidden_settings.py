"""Losses whose settings lie within a function: which labels they leave out is found by their gradients."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.nn.functional import cross_entropy as torchs
from torch.utils.data import TensorDataset

from aquasurf_ray.activations import Activation
from aquasurf_ray.tasks import Objective, Recipe, Splits, Task, TaskError
from aquasurf_ray.tasks.objective import ACCURACY, RMSE, cross_entropy
from aquasurf_ray.workers.spectrum import SpectrumInputError, task_spectrum
from aquasurf_ray.workers.training import train

WORDS = 6
WITHIN = nn.CrossEntropyLoss(ignore_index=0)


def masked(outputs, targets):
    counted = targets != 0
    return torchs(outputs.movedim(1, -1)[counted], targets[counted])


def hardest(outputs, targets):
    each = torchs(outputs, targets, reduction="none").flatten()
    return each.topk(max(1, len(each) // 4)).values.mean()


def shifted(outputs, targets):
    return torchs(outputs[:, :, :-1], targets[:, 1:])


def of_whole_batches(outputs, targets):
    if len(outputs) != 16:
        raise ValueError("16 examples")
    return torchs(outputs, targets, ignore_index=0)


def batch(n=16):
    """Logits (n, words, 9), and labels with 0 as the padding of the last places, and 1 as the last place's only."""
    draw = torch.Generator().manual_seed(0)
    targets = torch.randint(2, WORDS, (n, 9), generator=draw)
    targets[torch.arange(9) >= torch.randint(3, 9, (n, 1), generator=draw)] = 0
    targets[:, -1] = 1
    return torch.randn(n, WORDS, 9, generator=draw), targets


def objective(loss):
    return Objective(loss, ACCURACY, "categorical")


@pytest.mark.parametrize(
    "loss",
    [
        lambda o, t: torchs(o, t, ignore_index=0),
        lambda o, t: WITHIN(o, t),
        masked,
        lambda o, t: torchs(o, t, weight=torch.tensor([0.0, 1, 1, 1, 1, 1])),
        lambda o, t: functional.nll_loss(o.log_softmax(1), t, ignore_index=0, reduction="sum"),
    ],
    ids=["lambda", "a module within", "a mask", "a weight of zero", "sum"],
)
def test_a_label_that_a_loss_leaves_out_is_found(loss):
    with pytest.raises(TaskError, match="leaves out targets of label 0, which metrics and spectra would count; show"):
        objective(loss).refuse_hidden_labels(*batch())


@pytest.mark.parametrize(
    "loss",
    [
        lambda o, t: torchs(o, t, weight=torch.linspace(0.1, 5, WORDS)),
        lambda o, t: torchs(o, t, weight=torch.linspace(0.1, 5, WORDS), label_smoothing=0.1),
        lambda o, t: functional.nll_loss(o.log_softmax(1), t, weight=torch.tensor([1.0, 1, 1, 1, 1, 2])),
        lambda o, t: torchs(o, t, reduction="sum") / (t > 2).sum(),
    ],
    ids=["weights", "smoothed", "one of six", "divided by the positives"],
)
def test_a_loss_that_divides_by_weights_of_its_labels_is_found(loss):
    """Two batches of which a mean of their means, by numbers of targets, is not the loss of both."""
    outputs, targets = batch()
    halves = [float(loss(outputs[k], targets[k])) for k in (slice(0, 8), slice(8, 16))]
    assert float(loss(outputs, targets)) != pytest.approx(sum(halves) / 2, rel=1e-5)
    with pytest.raises(TaskError, match="divides by a number that depends on the batch's labels"):
        objective(loss).refuse_hidden_labels(outputs, targets)


@pytest.mark.parametrize(
    "loss",
    [
        partial(torchs, ignore_index=0),
        WITHIN,
        lambda o, t: torchs(o, t),
        partial(torchs, weight=torch.linspace(0.1, 5, WORDS)),
        lambda o, t: torchs(o, t, weight=torch.linspace(0.1, 5, WORDS), reduction="none").mean(),
        lambda o, t: functional.multi_margin_loss(o.movedim(1, -1).flatten(0, 1), t.flatten()),
        hardest,
        shifted,
        of_whole_batches,
        lambda o, t: o.sum() * 0,
    ],
    ids=[
        "partial",
        "module",
        "plain",
        "weights",
        "weights of a mean",
        "margin",
        "hardest",
        "shifted",
        "whole batches",
        "constant",
    ],
)
def test_other_losses_are_taken(loss):
    objective(loss).refuse_hidden_labels(*batch())


def test_the_mark_of_padding_is_left_out_by_rule():
    outputs, targets = batch()
    objective(lambda o, t: torchs(o, t)).refuse_hidden_labels(outputs, torch.where(targets == 0, -100, targets))
    objective(cross_entropy).refuse_hidden_labels(outputs.movedim(1, -1), targets)


class Centred(nn.Module):
    """Keeps a running mean of the logits, counts its calls, and draws noise."""

    def __init__(self):
        super().__init__()
        self.register_buffer("mean", torch.zeros(WORDS, 1))
        self.calls = 0

    def forward(self, outputs, targets):
        self.calls += 1
        self.mean.lerp_(outputs.detach().mean((0, 2))[:, None], 0.1)
        return torchs(outputs - self.mean + torch.rand(WORDS, 1), targets, ignore_index=0)


def test_a_loss_with_a_state_of_its_own_is_left_as_found():
    loss, drawn = Centred(), torch.random.get_rng_state()
    with pytest.raises(TaskError, match="label 0"):
        objective(loss).refuse_hidden_labels(*batch())
    assert (loss.calls, loss.mean.tolist()) == (0, [[0.0]] * WORDS)
    assert torch.equal(torch.random.get_rng_state(), drawn)


class Words(nn.Module):
    def __init__(self, activation):
        super().__init__()
        self.layers = nn.Sequential(nn.Embedding(WORDS, 8), nn.Linear(8, 12), activation(), nn.Linear(12, WORDS))

    def forward(self, words):
        return self.layers(words).movedim(-1, 1)


def task(own_objective, network=Words, targets=None):
    def splits():
        given = batch()[1] if targets is None else targets
        inputs = batch()[1] if targets is None else torch.randn(len(given), 6)
        return Splits(*(TensorDataset(inputs, given) for _ in range(3)))

    return Task("hidden", network, splits, Recipe(epochs=1, batch_size=8), own_objective)


def test_training_and_spectrum_refuse_it():
    hidden = task(objective(masked))
    with pytest.raises(TaskError, match="loss 'masked' leaves out targets of label 0"):
        train(hidden, Activation("tanh(x)"))
    for fisher in ("sampled", "empirical"):
        with pytest.raises(SpectrumInputError, match=r"loss 'masked' leaves out targets of label 0, .* -100$"):
            task_spectrum(hidden, hidden.splits(), "tanh(x)", seed=0, device=torch.device("cpu"), fisher=fisher)


def regressor(activation):
    return nn.Sequential(nn.Linear(6, 8), activation(), nn.Linear(8, 2))


@pytest.mark.parametrize("likelihood", ["gaussian", "bernoulli"])
def test_missing_answers_that_are_nan_are_refused(likelihood):
    targets = (torch.arange(32.0).reshape(16, 2) % 3 > 0).float()
    targets[3, 1] = torch.nan

    def without_nan(outputs, answers):
        present = ~answers.isnan()
        return functional.mse_loss(outputs[present], answers[present])

    missing = task(Objective(without_nan, RMSE, likelihood), regressor, targets)
    mark = "; -100 marks an answer that is missing" if likelihood == "bernoulli" else ""
    with pytest.raises(TaskError, match=f"targets must be finite, got NaN or infinity{mark}$"):
        train(missing, Activation("tanh(x)"))
    for fisher in ("sampled", "empirical"):
        with pytest.raises(SpectrumInputError, match="targets must be real and finite, got NaN or infinity"):
            task_spectrum(missing, missing.splits(), "tanh(x)", seed=0, device=torch.device("cpu"), fisher=fisher)


def test_answers_that_are_neither_yes_nor_no_are_refused_everywhere():
    """A loss that masks -1 within itself would leave them out, and metrics and spectra count them."""
    targets = (torch.arange(32.0).reshape(16, 2) % 3 > 0).float()
    targets[3, 1] = -1

    def without_minus_one(outputs, answers):
        present = answers >= 0
        return functional.binary_cross_entropy_with_logits(outputs[present], answers[present])

    missing = task(Objective(without_minus_one, RMSE, "bernoulli"), regressor, targets)
    with pytest.raises(TaskError, match=r"targets must lie in \[0, 1\], or be -100 where there is no answer, got -1$"):
        train(missing, Activation("tanh(x)"))
    for fisher in ("sampled", "empirical"):
        with pytest.raises(SpectrumInputError, match=r"targets must lie in \[0, 1\], got -1 to -1"):
            task_spectrum(missing, missing.splits(), "tanh(x)", seed=0, device=torch.device("cpu"), fisher=fisher)
