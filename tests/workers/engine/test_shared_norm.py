"""Batch norm over several shares of a batch: PyTorch's own on the whole batch is the oracle, in float64."""

from __future__ import annotations

import threading
from copy import deepcopy

import pytest
import torch
from torch import nn

from aquasurf_ray.workers.engine.shared_norm import share_batch_norms

SHAPES = {"vectors": (11, 4), "sequences": (11, 4, 3), "images": (11, 4, 3, 2)}
LAYERS = {"vectors": nn.BatchNorm1d, "sequences": nn.BatchNorm1d, "images": nn.BatchNorm2d}


class Own(nn.BatchNorm1d):
    """Calls torch's function, and does more."""

    def forward(self, x):
        mean, variance = self.running_mean, self.running_var
        return torch.batch_norm(x, self.weight, self.bias, mean, variance, self.training, 0.3, self.eps, False).sin()


class Team:
    """Sums over the threads of one process, each of which plays a rank."""

    def __init__(self, size):
        self.barrier, self.values, self.size = threading.Barrier(size), {}, size

    def total(self, rank):
        def summed(value):
            self.values[rank] = value
            self.barrier.wait(10)
            found = sum(self.values[other] for other in range(self.size))
            self.barrier.wait(10)
            return found

        return summed


def trained(layer, x, slope):
    """Output, the gradients by input, gain and shift, and what evaluation uses."""
    x = x.clone().requires_grad_()
    out = layer(x)
    out.backward(slope)
    parameters = [p.grad for p in layer.parameters()]
    return out.detach(), x.grad, parameters, [b.clone() for b in layer.buffers()]


def together(layer, xs, slopes):
    team, found = Team(len(xs)), [None] * len(xs)

    def work(rank):
        mine = deepcopy(layer)
        share_batch_norms(mine, team.total(rank), lambda: True)
        found[rank] = trained(mine, xs[rank], slopes[rank])

    threads = [threading.Thread(target=work, args=(rank,)) for rank in range(len(xs))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("momentum", [0.1, None])
@pytest.mark.parametrize("kind", SHAPES)
def test_shares_of_different_sizes_are_normalised_as_the_whole_batch(kind, momentum, affine):
    check(LAYERS[kind](4, momentum=momentum, affine=affine), SHAPES[kind])


def test_a_layer_with_a_forward_of_its_own_keeps_it():
    check(Own(4), SHAPES["vectors"])


def check(layer, shape):
    draw = torch.Generator().manual_seed(0)
    x, slope = (5 + 3 * torch.randn(shape, generator=draw, dtype=torch.float64) for _ in range(2))
    layer = nn.Sequential(layer.double())
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.normal_(generator=draw)
    out, gradient, of_parameters, buffers = trained(deepcopy(layer), x, slope)
    parts = together(layer, x.split([2, 6, 3]), slope.split([2, 6, 3]))
    torch.testing.assert_close(torch.cat([part[0] for part in parts]), out)
    torch.testing.assert_close(torch.cat([part[1] for part in parts]), gradient)
    for k, expected in enumerate(of_parameters):
        torch.testing.assert_close(sum(part[2][k] for part in parts), expected)
    for part in parts:
        torch.testing.assert_close(part[3], buffers)


def test_a_layer_in_evaluation_mode_and_a_batch_that_all_have_whole_ask_no_other_process():
    def total(value):
        raise AssertionError("asked")

    x = torch.randn(6, 4)
    for is_shared, layer in ((True, nn.BatchNorm1d(4, track_running_stats=False).eval()), (False, nn.BatchNorm1d(4))):
        expected = deepcopy(layer)(x)
        share_batch_norms(layer, total, lambda is_shared=is_shared: is_shared)
        assert torch.equal(layer(x), expected)
