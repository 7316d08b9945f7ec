"""What tensors are, and become when they are written into: held against the same network in plain layers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from aquasurf_ray.workers.spectrum import SkippedLayerWarning, fisher_spectrum

N = 16
X = torch.randn(N, 6, generator=torch.Generator().manual_seed(0))
LABELS = torch.arange(N) % 3


class Plain(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.a, self.o = nn.Linear(6, 6), nn.Linear(6, 3)

    def matrix(self):
        return self.a.weight

    def forward(self, x):
        return self.o(torch.tanh(functional.linear(self.read(x), self.matrix(), self.a.bias)))

    def read(self, x):
        return x


class SetItem(Plain):
    def matrix(self):
        m = torch.zeros(6, 6)
        m[:] = self.a.weight
        return m


class Copied(Plain):
    def matrix(self):
        return torch.zeros(6, 6).copy_(self.a.weight)


class Halves(Plain):
    """Written through views of the matrix, which the product then takes as a whole."""

    def matrix(self):
        m = torch.zeros(6, 6)
        m[:3].copy_(self.a.weight[:3])
        m[3:].copy_(self.a.weight[3:])
        return m


class Straight(torch.autograd.Function):
    """Rounds in the forward pass and not in the backward pass; here to nothing."""

    @staticmethod
    def forward(ctx, weight):
        return weight.clone()

    @staticmethod
    def backward(ctx, gradient):
        return gradient


class Quantised(Plain):
    def matrix(self):
        return Straight.apply(self.a.weight)


class Masked(Plain):
    """Keeps the weights that are larger than none: the mask has no gradient."""

    def matrix(self):
        return self.a.weight * (self.a.weight.abs() > 0)


class IntoAView(Plain):
    def read(self, x):
        whole = torch.zeros(N, 6)
        whole.narrow(1, 0, 6).copy_(x)
        return whole


class IntoItems(Plain):
    def read(self, x):
        whole = torch.zeros(N, 6)
        for i in range(6):
            whole[:, i] = x[:, i]
        return whole


class IntoABuffer(Plain):
    def __init__(self):
        super().__init__()
        self.register_buffer("cache", torch.zeros(N, 6))

    def read(self, x):
        self.cache[:, :] = x
        return self.cache

    def forward(self, x):
        return self.o(torch.tanh(self.read(x) @ self.a.weight.T + self.a.bias))


@pytest.mark.parametrize(
    "network", [SetItem, Copied, Halves, Quantised, Masked, IntoAView, IntoItems, IntoABuffer], ids=lambda n: n.__name__
)
def test_what_is_written_into_a_constant_is_seen(network):
    expected = fisher_spectrum(Plain(), X, LABELS, fisher="empirical")
    found = fisher_spectrum(network(), X, LABELS, fisher="empirical")
    assert [s.name for s in found] == ["a", "o"]
    assert found.coverage == expected.coverage
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a.log_eigenvalues(), b.log_eigenvalues(), atol=1e-4)


class Skew(nn.Module):
    """A matrix of 36 elements from a vector of 15."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.turn, self.o = nn.Parameter(torch.randn(15)), nn.Linear(6, 3)

    def forward(self, x):
        m = torch.zeros(6, 6)
        i, j = torch.triu_indices(6, 6, 1)
        m[i, j] = self.turn
        return self.o(torch.tanh(x @ (m - m.T)))


class Repeated(Plain):
    def matrix(self):
        return torch.kron(self.a.weight[:2, :2], torch.eye(3))


class Product(torch.autograd.Function):
    """A linear layer without a bias."""

    @staticmethod
    def forward(ctx, x, weight):
        ctx.save_for_backward(x, weight)
        return x @ weight.T

    @staticmethod
    def backward(ctx, gradient):
        x, weight = ctx.saved_tensors
        return gradient @ weight, gradient.T @ x


class ByFunction(Plain):
    def forward(self, x):
        return self.o(torch.tanh(Product.apply(x, self.a.weight) + self.a.bias))


class Spectral(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.w, self.o = nn.Parameter(torch.randn(4, 4, dtype=torch.cfloat)), nn.Linear(6, 3)

    def forward(self, x):
        return self.o(torch.fft.irfft(torch.fft.rfft(x) @ self.w, n=6))


class RealAndImaginary(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.r, self.i, self.o = nn.Parameter(torch.randn(4, 4)), nn.Parameter(torch.randn(4, 4)), nn.Linear(6, 3)

    def forward(self, x):
        return self.o(torch.fft.irfft(torch.fft.rfft(x) @ torch.complex(self.r, self.i), n=6))


class Scripted(Plain):
    def __init__(self):
        super().__init__()
        self.a = torch.jit.script(self.a)

    def forward(self, x):
        return self.o(torch.tanh(self.a(x)))


class Unreached(Plain):
    def __init__(self):
        super().__init__()
        self.head, self.other = nn.Linear(3, 2), nn.Linear(2, 2)

    def forward(self, x):
        outputs = super().forward(x)
        return outputs, self.head(outputs)


@pytest.mark.filterwarnings("ignore:.torch.jit.script. is")
@pytest.mark.parametrize(
    ("network", "named"),
    [
        (Skew, "turn (matmul by a matrix of fewer weights)"),
        (Repeated, "a (linear by a matrix of fewer weights)"),
        (ByFunction, "a (Product)"),
        (Spectral, "w (matmul of complex numbers)"),
        (RealAndImaginary, "r (matmul of complex numbers), i (matmul of complex numbers)"),
        (Scripted, "a (an operation that is not seen, such as those of TorchScript)"),
        (Unreached, "head (no gradient), other (no gradient)"),
    ],
    ids=lambda value: value.__name__ if isinstance(value, type) else "",
)
def test_a_weight_without_a_block_is_named_with_the_reason(network, named):
    """No gradient is said of those alone that have none in a backward pass of PyTorch's."""
    model = network()
    with pytest.warns(SkippedLayerWarning) as caught:
        spectra = fisher_spectrum(model, X, LABELS, fisher="empirical")
    assert f"left out of the spectrum: {named}" in str(caught[0].message)
    outputs = model(X)
    outputs = outputs[0] if isinstance(outputs, tuple) else outputs
    functional.cross_entropy(outputs, LABELS).backward()
    gets_none = {name for name, p in model.named_parameters() if p.grad is None and p.dim() > 1}
    said = {name for name, reason in spectra.coverage.left_out.items() if reason == "no gradient"}
    assert said == gets_none


def test_the_apply_of_autograd_functions_is_left_as_found():
    before = torch.autograd.Function.__dict__["apply"]
    fisher_spectrum(Quantised(), X)
    assert torch.autograd.Function.__dict__["apply"] is before


class ReadsItself(Plain):
    """Spares itself the graph of a layer that is frozen, which this one is not."""

    def read(self, x):
        with torch.set_grad_enabled(any(p.requires_grad for p in self.a.parameters())):
            return functional.linear(x, self.a.weight, self.a.bias)


class Detaches(Plain):
    def read(self, x):
        return functional.linear(x, self.a.weight.detach(), self.a.bias.detach())


class TurnsOff(Plain):
    """Turns the gradient of a layer off for its first use."""

    def turn(self, on):
        for p in self.a.parameters():
            p.requires_grad = on

    def read(self, x):
        self.turn(False)
        y = self.a(x)
        self.turn(True)
        return y


class TurnsOffAll(TurnsOff):
    def turn(self, on):
        self.a.requires_grad_(on)


class Twice(Plain):
    def read(self, x):
        return functional.linear(x, self.a.weight, self.a.bias)


@pytest.mark.parametrize(
    ("network", "plain"),
    [(ReadsItself, Twice), (TurnsOff, Detaches), (TurnsOffAll, Detaches)],
    ids=lambda n: n.__name__,
)
def test_networks_that_read_or_set_requires_grad_have_the_blocks_of_a_training(network, plain):
    model = network()
    found, expected = (fisher_spectrum(m, X, LABELS, fisher="empirical") for m in (model, plain()))
    assert found.coverage.share == expected.coverage.share == 1
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a.log_eigenvalues(), b.log_eigenvalues(), atol=1e-4)
    assert all(p.requires_grad and p.grad is None for p in model.parameters())


def test_a_layer_that_the_network_freezes_as_it_runs_is_named():
    class Freezes(Plain):
        def forward(self, x):
            self.a.requires_grad_(False)
            return super().forward(x)

    with pytest.warns(SkippedLayerWarning, match=r"left out of the spectrum: a \(no gradient\)"):
        spectra = fisher_spectrum(Freezes(), X, LABELS, fisher="empirical")
    assert [s.name for s in spectra] == ["o"]
