"""Networks with a backward pass of their own: hooks and autograd functions that differentiate, forward-mode derivatives
and functions that allow one backward pass only. Also constants of other layouts, and inference mode."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from torch import nn
from torch.autograd import Function, forward_ad
from torch.nn import functional
from torch.utils.checkpoint import CheckpointPolicy, checkpoint, create_selective_checkpoint_contexts

from aquasurf_ray.workers.fisher.moments import RELATIVE_FLOOR
from aquasurf_ray.workers.spectrum import SpectrumInputError, fisher_spectrum

N = 12
X = torch.randn(N, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
LABELS = torch.arange(N) % 3
PADDED = torch.where(torch.arange(N) < 9, LABELS, -100)


def spectrum(model, targets=LABELS, inputs=X):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return fisher_spectrum(model, inputs, targets, fisher="empirical")


def assert_same(found, expected):
    assert [(s.name, s.n_weights) for s in found] == [(s.name, s.n_weights) for s in expected]
    for own, plain in zip(found, expected, strict=True):
        np.testing.assert_allclose(own.input_eigenvalues, plain.input_eigenvalues, rtol=1e-6)
        np.testing.assert_allclose(own.gradient_eigenvalues, plain.gradient_eigenvalues, rtol=1e-6)


class Equilibrium(nn.Module):
    """z = tanh(W z + U x), whose gradient a hook solves for by products with the Jacobian."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(1)
        self.state = nn.Linear(6, 6).double()
        self.inputs = nn.Linear(8, 6).double()
        self.head = nn.Linear(6, 3).double()
        with torch.no_grad():
            self.state.weight.mul_(0.5)

    def parts(self, x):
        with torch.no_grad():
            z = x.new_zeros(len(x), 6)
            for _ in range(80):
                z = torch.tanh(self.state(z) + self.inputs(x))
        product = self.state(z)
        again = torch.tanh(product + self.inputs(x))
        start = again.detach().clone().requires_grad_()
        step = torch.tanh(self.state(start) + self.inputs(x))

        def solved(gradient):
            found = gradient
            for _ in range(80):
                found = torch.autograd.grad(step, start, found, retain_graph=True)[0] + gradient
            return found

        again.register_hook(solved)
        return z, product, start, self.head(again)

    def forward(self, x):
        return self.parts(x)[-1]


def test_a_hook_that_solves_for_an_equilibrium_adds_no_gradients():
    model = Equilibrium()
    z, product, start, outputs = model.parts(X)
    (gradient,) = torch.autograd.grad(functional.cross_entropy(outputs, LABELS, reduction="sum"), product)
    # The step that only the hook differentiates is a use whose output does not reach the loss.
    rows = np.concatenate([np.concatenate([part.detach().numpy(), np.ones((N, 1))], axis=1) for part in (z, start)])
    a, g = np.linalg.eigvalsh(rows.T @ rows / N), np.linalg.eigvalsh(gradient.T @ gradient / (2 * N))
    found = {s.name: s for s in spectrum(model)}["state"]
    np.testing.assert_allclose(found.input_eigenvalues, np.maximum(a, RELATIVE_FLOOR * a[-1]), rtol=1e-6)
    np.testing.assert_allclose(found.gradient_eigenvalues, np.maximum(g, RELATIVE_FLOOR * g[-1]), rtol=1e-6)


class OwnCheckpoint(Function):
    """The checkpoint of many diffusion models: takes the weights, and differentiates by them in its backward pass."""

    @staticmethod
    def forward(ctx, run, x, *weights):
        ctx.run, ctx.x, ctx.weights = run, x, weights
        with torch.no_grad():
            return run(x)

    @staticmethod
    def backward(ctx, gradient):
        x = ctx.x.detach().requires_grad_()
        with torch.enable_grad():
            y = ctx.run(x)
        return None, *torch.autograd.grad(y, [x, *ctx.weights], gradient, allow_unused=True)


class Freeing(Function):
    """tanh, which frees what it keeps in its first backward pass."""

    @staticmethod
    def forward(ctx, x):
        ctx.y = x.tanh()
        return ctx.y.clone()

    @staticmethod
    def backward(ctx, gradient):
        y = ctx.y
        del ctx.y
        return gradient * (1 - y**2)


class Layers(nn.Module):
    def __init__(self, kind="plain"):
        super().__init__()
        torch.manual_seed(1)
        self.first, self.second = nn.Linear(8, 8).double(), nn.Linear(8, 6).double()
        self.third, self.head = nn.Linear(6, 8).double(), nn.Linear(8, 3).double()
        self.kind = kind

    def body(self, x):
        return torch.tanh(self.third(torch.tanh(self.second(x))))

    def forward(self, x):
        x = torch.tanh(self.first(x))
        if self.kind == "own checkpoint":
            x = OwnCheckpoint.apply(self.body, x, *self.second.parameters(), *self.third.parameters())
        elif self.kind == "freeing":
            x = Freeing.apply(self.third(torch.tanh(self.second(x))))
        elif self.kind == "selective":
            x = checkpoint(self.body, x, use_reentrant=False, context_fn=selective)
        elif self.kind == "tangent":
            with forward_ad.dual_level():
                x = forward_ad.unpack_dual(self.body(forward_ad.make_dual(x, torch.ones_like(x)))).tangent
        else:
            x = self.body(x)
        return self.head(x)


def selective():
    def policy(ctx, op, *args, **kwargs):
        is_product = op in (torch.ops.aten.addmm.default, torch.ops.aten.mm.default)
        return CheckpointPolicy.MUST_SAVE if is_product else CheckpointPolicy.PREFER_RECOMPUTE

    return create_selective_checkpoint_contexts(policy)


@pytest.mark.parametrize("targets", [LABELS, PADDED], ids=["all count", "padded"])
def test_a_checkpoint_that_takes_the_weights_has_their_blocks(targets):
    found = spectrum(Layers("own checkpoint"), targets)
    assert_same(found, spectrum(Layers(), targets))
    assert found.coverage.also_used == {}


@pytest.mark.parametrize("kind", ["freeing", "selective"])
def test_what_allows_one_backward_pass_is_refused_with_padding_only(kind):
    assert_same(spectrum(Layers(kind)), spectrum(Layers()))
    refusal = r"takes three backward passes .*, and only the first one runs: \w+Error"
    with pytest.raises(SpectrumInputError, match=refusal):
        spectrum(Layers(kind), PADDED)


def test_weights_of_a_forward_mode_derivative_are_named():
    coverage = spectrum(Layers("tangent")).coverage
    assert coverage.also_used == dict.fromkeys(["second.weight", "third.weight"], "forward-mode derivative")


class Graph(nn.Module):
    def __init__(self, layout=torch.strided):
        super().__init__()
        torch.manual_seed(1)
        nodes = (torch.rand(N, N) < 0.3).double() + torch.eye(N)
        self.register_buffer("nodes", nodes if layout == torch.strided else nodes.to_sparse(layout=layout))
        self.weight = nn.Parameter(torch.randn(8, 6).double())
        self.head = nn.Linear(6, 3).double()

    def forward(self, x):
        return self.head(torch.tanh(self.nodes @ (x @ self.weight)))


@pytest.mark.filterwarnings("ignore:Sparse CS")
@pytest.mark.parametrize("layout", [torch.sparse_coo, torch.sparse_csr, torch.sparse_csc], ids=["coo", "csr", "csc"])
def test_a_sparse_graph_in_a_buffer_is_a_constant(layout):
    assert_same(spectrum(Graph(layout), PADDED), spectrum(Graph(), PADDED))


def test_a_caller_in_inference_mode_gets_the_same_spectrum():
    model, expected = Layers(), spectrum(Layers())
    with torch.inference_mode():
        assert_same(spectrum(model, inputs=X.clone()), expected)
        made_inside = Layers()
    with pytest.raises(SpectrumInputError, match="made in inference mode, which has no gradients"):
        spectrum(made_inside)
