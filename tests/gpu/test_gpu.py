"""What must hold on a GPU: the same figures as on the CPU, checkpoints that resume there, and low precision.

Skipped where PyTorch sees no GPU. Needs neither Ray nor a database, so a machine with PyTorch and pytest is enough.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from aquasurf_ray.activations import Activation
from aquasurf_ray.tasks import load_task
from aquasurf_ray.workers.engine.checkpoints import CheckpointFolder
from aquasurf_ray.workers.fisher.likelihood import LIKELIHOODS
from aquasurf_ray.workers.network import spectrum_batch, untrained_network
from aquasurf_ray.workers.spectrum import fisher_spectrum
from aquasurf_ray.workers.training import probe, train

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="PyTorch sees no GPU")

CPU, GPU = torch.device("cpu"), torch.device("cuda")
FUNCTIONS = ["swish(x)", "mul(sigmoid(x), elu(x))", "arctan(x)", "add(erf(x), softplus(x))"]


@pytest.fixture(scope="module")
def digits():
    return load_task("digits")


@pytest.fixture(scope="module")
def splits(digits):
    return digits.splits()


def with_dropout(activation):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 32), activation(), nn.Dropout(0.3), nn.Linear(32, 10))


def test_training_gives_the_figures_of_the_cpu(digits, splits):
    cpu, gpu = (train(digits, Activation("swish(x)"), splits=splits, seed=0, device=d) for d in (CPU, GPU))
    assert gpu.status == "done"
    assert gpu.device == torch.cuda.get_device_name()
    assert gpu.epochs[0].train_loss == pytest.approx(cpu.epochs[0].train_loss, rel=0.02)
    assert gpu.val_accuracy == pytest.approx(cpu.val_accuracy, abs=0.03)
    assert gpu.test_accuracy == pytest.approx(cpu.test_accuracy, abs=0.03)


def test_peak_memory_is_what_this_training_allocated(digits, splits):
    ballast = torch.ones(250_000_000, device=GPU)
    del ballast
    brief = replace(digits, recipe=replace(digits.recipe, epochs=1))
    result = train(brief, Activation("relu(x)"), splits=splits, device=GPU)
    assert 0.1 < result.peak_memory_mb < 800


def spectrum_on(device, digits, splits, function):
    network = untrained_network(digits, lambda: Activation(function), seed=0, device=device)
    inputs, targets = spectrum_batch(digits, splits, seed=0, device=device)
    return fisher_spectrum(network, inputs, targets, fisher="empirical", seed=0)


@pytest.mark.parametrize("function", FUNCTIONS)
def test_spectrum_is_that_of_the_cpu(digits, splits, function):
    """Of the labels given, since a label drawn from almost equal predictions may fall on the other side."""
    for cpu, gpu in zip(*(spectrum_on(d, digits, splits, function) for d in (CPU, GPU)), strict=True):
        assert (gpu.name, gpu.n_weights) == (cpu.name, cpu.n_weights)
        for kind in ("input_eigenvalues", "gradient_eigenvalues"):
            expected = getattr(cpu, kind)
            np.testing.assert_allclose(getattr(gpu, kind), expected, rtol=0.02, atol=1e-3 * expected.max())


def test_sampled_spectrum_repeats_itself(digits, splits):
    network = untrained_network(digits, lambda: Activation("swish(x)"), seed=0, device=GPU)
    inputs, _ = spectrum_batch(digits, splits, seed=0, device=GPU)
    first, second = (fisher_spectrum(network, inputs, seed=0) for _ in range(2))
    for a, b in zip(first, second, strict=True):
        np.testing.assert_allclose(a.log_eigenvalues()[-10:], b.log_eigenvalues()[-10:], atol=1e-3)


@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_targets_are_drawn_as_on_the_cpu(likelihood):
    outputs = torch.randn(200, 7, generator=torch.Generator().manual_seed(0))
    cpu, gpu = (
        LIKELIHOODS[likelihood].sample(outputs.to(device), torch.Generator().manual_seed(1)) for device in (CPU, GPU)
    )
    assert gpu.device.type == "cuda"
    torch.testing.assert_close(gpu.cpu(), cpu, rtol=0, atol=0)


class Interrupted(Exception):
    pass


def interrupt(epoch):
    if epoch.epoch == 3:
        raise Interrupted


@pytest.mark.parametrize("resumed_on", [GPU, CPU], ids=str)
def test_an_interrupted_training_resumes(digits, splits, tmp_path, resumed_on):
    task = replace(digits, network=with_dropout, recipe=replace(digits.recipe, epochs=4))
    whole = train(task, Activation("tanh(x)"), splits=splits, seed=1, device=GPU)
    folder = CheckpointFolder(str(tmp_path), {"seed": 1})
    arguments = {"splits": splits, "seed": 1, "checkpoints": folder, "checkpoint_interval": 0.0}
    with pytest.raises(Interrupted):
        train(task, Activation("tanh(x)"), device=GPU, on_epoch=interrupt, **arguments)
    trained = []
    resumed = train(
        task, Activation("tanh(x)"), device=resumed_on, on_epoch=lambda e: trained.append(e.epoch), **arguments
    )
    assert trained == [3, 4]
    same_masks = resumed_on == GPU  # another device draws other dropout masks
    assert resumed.val_loss == pytest.approx(whole.val_loss, rel=1e-3 if same_masks else 0.2)
    assert resumed.val_accuracy == pytest.approx(whole.val_accuracy, abs=0.005 if same_masks else 0.05)


@pytest.mark.parametrize("function", FUNCTIONS)
def test_activation_works_in_bfloat16_autocast(function):
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(16, 32), Activation(function), nn.Linear(32, 4)).to(GPU)
    inputs = torch.randn(64, 16, device=GPU)
    expected = network(inputs)
    with torch.autocast("cuda", dtype=torch.bfloat16):
        outputs = network(inputs)
    torch.autograd.backward(outputs.float().square().sum())
    assert outputs.dtype == torch.bfloat16
    torch.testing.assert_close(outputs.float(), expected, rtol=0.05, atol=0.05)
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())


@pytest.mark.parametrize("function", FUNCTIONS)
def test_activation_has_the_values_of_the_cpu(function):
    probe(Activation(function), GPU)
    x = torch.linspace(-6, 6, 1001)
    torch.testing.assert_close(Activation(function)(x.to(GPU)).cpu(), Activation(function)(x), rtol=1e-5, atol=1e-5)


def test_overflow_ends_as_diverged(digits, splits):
    result = train(digits, Activation("exp(exp(exp(x)))"), splits=splits, device=GPU)
    assert result.status == "diverged"
    assert "training loss became" in result.reason
    assert math.isfinite(result.seconds)
