"""The forms of an activation function on a GPU: equal to eager, one pass over memory, and fast enough to be chosen.

Skipped where PyTorch sees no GPU. Needs neither Ray nor a database.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from aquasurf_ray.activations import Activation, CompiledActivation, RecomputedActivation, fast_factory
from aquasurf_ray.activations.forms.agreement import disagreement
from aquasurf_ray.activations.forms.stopwatch import kept_bytes, side_by_side
from aquasurf_ray.tasks import load_task
from aquasurf_ray.tasks.networks.resnet56 import resnet56
from aquasurf_ray.workers.cost import measure_cost
from aquasurf_ray.workers.engine.feed import TrainingFeed

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="PyTorch sees no GPU")

GPU = torch.device("cuda")
FUNCTIONS = ["mul(sigmoid(x),elu(x))", "prod_n(sigmoid(x),negative(x),hard_sigmoid(x))", "mul(x,erfc(elu(x)))"]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("form", [RecomputedActivation, CompiledActivation])
def test_forms_agree_with_eager(form: type[Activation], function: str, dtype: torch.dtype) -> None:
    made = form(function)
    if isinstance(made, CompiledActivation):
        assert made.kernels_for(torch.zeros(4, 64, dtype=dtype, device=GPU)) is not None
    assert disagreement(made, Activation(function), device=GPU, dtype=dtype) is None


@pytest.mark.parametrize("function", FUNCTIONS)
def test_recomputed_has_the_bits_of_eager(function: str) -> None:
    x = torch.randn(16, 32, 16, 16, device=GPU, requires_grad=True)
    gradient = torch.randn_like(x)
    results = []
    for form in (RecomputedActivation(function), Activation(function)):
        y = form(x)
        results.append((y.detach(), torch.autograd.grad(y, x, gradient)[0]))
    torch.testing.assert_close(*results, rtol=0, atol=0)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("form", [RecomputedActivation, CompiledActivation])
def test_forms_have_the_types_of_eager_under_autocast(form: type[Activation], dtype: torch.dtype) -> None:
    """exp is computed in float32 there, whatever it is given."""
    results = []
    for made in (form("mul(exp(x),tanh(x))"), Activation("mul(exp(x),tanh(x))")):
        torch.manual_seed(0)
        network = nn.Sequential(nn.Linear(64, 64), made, nn.Linear(64, 8)).to(GPU)
        with torch.autocast("cuda", dtype=dtype):
            hidden = network[1](network[0](torch.randn(32, 64, device=GPU)))
            loss = network[2](hidden).float().square().sum()
        loss.backward()
        results.append((hidden.dtype, [p.grad for p in network.parameters()]))
    assert results[0][0] == results[1][0]
    torch.testing.assert_close(results[0][1], results[1][1], rtol=0.05, atol=0.05)


def test_compiled_keeps_its_input_alone_and_takes_less_time() -> None:
    x = torch.randn(64, 64, 64, 64, device=GPU, requires_grad=True)
    gradient = torch.randn_like(x)
    eager, compiled = Activation(FUNCTIONS[1]), CompiledActivation(FUNCTIONS[1])
    assert compiled.kernels_for(x.detach()) is not None
    assert kept_bytes(lambda: compiled(x)) == x.nbytes
    works = [lambda form=form: torch.autograd.grad(form(x), x, gradient) for form in (eager, compiled)]
    for work in works:
        work()
    times = side_by_side(works, GPU, min_rounds=5, max_rounds=5, calls=10)
    eager_seconds, compiled_seconds = (time.median for time in times)
    assert compiled_seconds < 0.7 * eager_seconds


def test_the_choice_is_made_and_kept(tmp_path: Path) -> None:
    arguments = {"device": "cuda", "n_elements": 2**20, "expected_calls": 10**7, "folder": tmp_path}
    first = fast_factory(FUNCTIONS[0], **arguments)
    assert first.name == "compiled", first.note
    assert fast_factory(FUNCTIONS[0], **arguments).note == first.note


def test_resnet56_trains_a_step_as_with_eager() -> None:
    losses = []
    for form in (Activation, RecomputedActivation, CompiledActivation):
        torch.manual_seed(0)
        network = resnet56(lambda form=form: form(FUNCTIONS[0])).to(GPU)
        optimizer = torch.optim.SGD(network.parameters(), lr=0.05)
        inputs, targets = torch.randn(32, 3, 32, 32, device=GPU), torch.arange(32, device=GPU) % 10
        for _ in range(2):
            loss = nn.functional.cross_entropy(network(inputs), targets)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        losses.append(loss.item())
    assert losses[1:] == pytest.approx([losses[0]] * 2, rel=1e-2)


def test_price_of_a_function() -> None:
    task = load_task("digits")
    cost = measure_cost(TrainingFeed(task, task.splits(), GPU, seed=0), Activation(FUNCTIONS[1]))
    assert cost.device == torch.cuda.get_device_name()
    assert cost.time_ratio > 1
    assert cost.memory_ratio > 3
