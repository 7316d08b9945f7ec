"""The spectrum call as a whole: what it returns, what it refuses, what it leaves alone, and its precision."""

from __future__ import annotations

import copy
import warnings
from collections import OrderedDict

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from aquasurf_ray.activations import Activation
from aquasurf_ray.tasks.networks.all_cnn_c import all_cnn_c
from aquasurf_ray.tasks.networks.digits import digits_network
from aquasurf_ray.tasks.networks.resnet56 import resnet56
from aquasurf_ray.workers.fisher.moments import ABSOLUTE_FLOOR, RELATIVE_FLOOR
from aquasurf_ray.workers.fisher.patches import SINGLE_PRECISION_CHANNELS
from aquasurf_ray.workers.spectrum import (
    NoLayers,
    NonFiniteSpectrum,
    SkippedLayerWarning,
    SpectrumError,
    SpectrumInputError,
    fisher_spectrum,
)


def network(seed=0, activation=nn.Tanh):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), activation(), nn.Flatten(), nn.Linear(64, 3))


def batch(n=8, seed=0):
    return torch.randn(n, 2, 4, 4, generator=torch.Generator().manual_seed(seed))


def eigenvalues(spectra):
    return [x for s in spectra for x in (s.input_eigenvalues, s.gradient_eigenvalues)]


def assert_same(a, b, rtol=0.0):
    assert [s.name for s in a] == [s.name for s in b]
    for x, y in zip(eigenvalues(a), eigenvalues(b), strict=True):
        np.testing.assert_allclose(x, y, rtol=rtol)


@pytest.mark.parametrize(
    ("make", "shape", "n_layers", "n_weights"),
    [
        (lambda: all_cnn_c(nn.ReLU, width=8), (3, 32, 32), 9, None),
        (lambda: resnet56(nn.ReLU), (3, 32, 32), 56, 853_018 - 4_064),  # all but batch norm's
        (lambda: digits_network(nn.ReLU), (1, 8, 8), 4, None),
    ],
    ids=["all-cnn-c", "resnet56", "digits"],
)
def test_networks_have_one_finite_eigenvalue_a_weight(make, shape, n_layers, n_weights):
    torch.manual_seed(0)
    model = make().train()
    spectra = fisher_spectrum(model, torch.randn(8, *shape))
    assert len(spectra) == n_layers
    assert sum(s.n_weights for s in spectra) == (n_weights or sum(p.numel() for p in model.parameters()))
    for s in spectra:
        logs = s.log_eigenvalues()
        assert logs.shape == (s.n_weights,)
        assert logs.dtype == np.float64
        assert np.isfinite(logs).all()
        assert (np.diff(logs) >= 0).all()


@pytest.mark.parametrize(
    ("function", "width"),
    [
        ("relu(x)", 4),
        ("swish(x)", 4),
        ("mul(sigmoid(x),elu(x))", 4),
        ("max(square(x),sinh(x))", 4),
        ("bessel_i0e(x)", 4),
        ("relu(x)", SINGLE_PRECISION_CHANNELS),
        ("bessel_i0e(x)", SINGLE_PRECISION_CHANNELS),
    ],
)
@pytest.mark.slow
def test_float32_agrees_with_float64_down_to_the_floor(function, width):
    torch.manual_seed(0)
    model = all_cnn_c(lambda: Activation(function), width=width).eval()
    for layer in model:
        if isinstance(layer, nn.Conv2d):
            layer.reset_parameters()  # PyTorch's small initial weights, so that steep functions stay finite
    inputs, targets = torch.randn(16, 3, 32, 32), torch.arange(16) % 10
    single = fisher_spectrum(model, inputs, targets, fisher="empirical")
    double = fisher_spectrum(copy.deepcopy(model).double(), inputs.double(), targets, fisher="empirical")
    for x, y in zip(eigenvalues(single), eigenvalues(double), strict=True):
        np.testing.assert_allclose(np.log(x), np.log(y), atol=0.01)


def test_eigenvalues_stay_above_the_relative_floor_and_the_null_direction_of_softmax_lies_on_it():
    for values in eigenvalues(fisher_spectrum(network(), batch())):
        assert values.min() >= RELATIVE_FLOOR * values.max()
    last = fisher_spectrum(network(), batch())[-1].gradient_eigenvalues
    assert last[0] == RELATIVE_FLOOR * last[-1]


def test_a_layer_with_zero_gradient_lies_on_the_absolute_floor():
    model = network()
    nn.init.zeros_(model[3].weight)
    first = fisher_spectrum(model, batch())[0]
    assert (first.gradient_eigenvalues == ABSOLUTE_FLOOR).all()
    assert np.isfinite(first.log_eigenvalues()).all()


@pytest.mark.parametrize("scale", [1e-18, 1e17])
def test_squares_beyond_float32_are_neither_lost_nor_infinite(scale):
    """The same network with its units changed: inputs times s, first weights over s. A scales by s^2, G stays."""
    model = nn.Sequential(nn.Linear(5, 4, bias=False), nn.Tanh(), nn.Linear(4, 3))
    inputs, targets = torch.randn(32, 5), torch.arange(32) % 3
    plain = fisher_spectrum(model, inputs, targets, fisher="empirical")[0]
    with torch.no_grad():
        model[0].weight /= scale
    scaled = fisher_spectrum(model, inputs * scale, targets, fisher="empirical")[0]
    np.testing.assert_allclose(scaled.input_eigenvalues, plain.input_eigenvalues * scale**2, rtol=1e-4)
    np.testing.assert_allclose(scaled.gradient_eigenvalues, plain.gradient_eigenvalues, rtol=1e-3)


def test_memory_format_and_order_of_samples_do_not_matter():
    model, targets, order = network(), torch.arange(8) % 3, torch.randperm(8)
    plain = fisher_spectrum(model, batch(), targets, fisher="empirical")
    shuffled = fisher_spectrum(model, batch()[order], targets[order], fisher="empirical")
    channels_last = batch().contiguous(memory_format=torch.channels_last)
    assert_same(plain, shuffled, rtol=1e-3)
    assert_same(plain, fisher_spectrum(model, channels_last, targets, fisher="empirical"), rtol=1e-3)


def test_repeating_the_batch_changes_nothing():
    targets = torch.arange(8) % 3
    once = fisher_spectrum(network(), batch(), targets, fisher="empirical")
    twice = fisher_spectrum(network(), batch().repeat(2, 1, 1, 1), targets.repeat(2), fisher="empirical")
    assert_same(once, twice, rtol=1e-3)


def test_one_seed_one_result_and_another_seed_another():
    model = nn.Sequential(network(), nn.Dropout(0.5))
    first = fisher_spectrum(model, batch(), seed=3)
    torch.rand(5)
    assert_same(first, fisher_spectrum(model, batch(), seed=3))
    with pytest.raises(AssertionError):
        assert_same(first, fisher_spectrum(model, batch(), seed=4))


def test_the_model_is_left_as_it_was_found():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.Dropout(), nn.Flatten(), nn.Linear(16, 3)).train()
    model[4].bias.requires_grad_(False)
    model[0].weight.grad = torch.ones_like(model[0].weight)
    before, buffers = copy.deepcopy(model.state_dict()), dict(model.named_buffers())
    generator = torch.get_rng_state()
    fisher_spectrum(model, batch())
    assert torch.equal(torch.get_rng_state(), generator)
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())
    assert all(buffers[k] is v for k, v in model.named_buffers())
    assert model.training
    assert [p.requires_grad for p in model.parameters()] == [True] * 5 + [False]
    assert [p.grad is None for p in model.parameters()] == [False] + [True] * 5
    assert (model[0].weight.grad == 1).all()
    assert not any(m._forward_hooks or m._forward_pre_hooks or m._backward_hooks for m in model.modules())


def test_the_model_is_left_as_it_was_found_after_an_error_too():
    class Broken(nn.Module):
        def forward(self, x):
            raise RuntimeError("broken")

    model = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3), Broken())
    generator, statistics = torch.get_rng_state(), model[1].running_mean.clone()
    with pytest.raises(RuntimeError, match="broken"):
        fisher_spectrum(model, torch.randn(4, 3, generator=torch.Generator().manual_seed(0)))
    assert torch.equal(torch.get_rng_state(), generator)
    assert torch.equal(model[1].running_mean, statistics)
    assert all(p.requires_grad for p in model.parameters())
    assert not model[0]._forward_hooks


def test_batch_norm_follows_the_mode_of_the_model():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Linear(4, 3))
    inputs, targets = torch.randn(16, 4) * 3, torch.arange(16) % 3
    training = fisher_spectrum(model.train(), inputs, targets, fisher="empirical")
    evaluation = fisher_spectrum(model.eval(), inputs, targets, fisher="empirical")
    with pytest.raises(AssertionError):
        assert_same(training, evaluation, rtol=0.01)


def test_it_works_inside_no_grad_with_inplace_activations_and_inputs_that_require_gradients():
    torch.manual_seed(0)
    plain = network(activation=nn.ReLU)
    inplace = network(activation=lambda: nn.ReLU(inplace=True))
    expected = fisher_spectrum(plain, batch())
    with torch.no_grad():
        assert_same(fisher_spectrum(inplace, batch()), expected)
    assert_same(fisher_spectrum(plain, batch().requires_grad_()), expected)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_other_float_types(dtype):
    spectra = fisher_spectrum(network().to(dtype), batch().to(dtype))
    assert all(np.isfinite(s.log_eigenvalues()).all() for s in spectra)


class Branches(nn.Module):
    """A layer and a transposed convolution that the loss sees; a layer detached, one under no_grad, one unused."""

    def __init__(self):
        super().__init__()
        self.used, self.detached, self.quiet, self.unused = (nn.Linear(4, 3) for _ in range(4))
        self.transposed = nn.ConvTranspose1d(1, 1, 1)

    def forward(self, x):
        with torch.no_grad():
            quiet = self.quiet(x)
        return self.used(x) + self.detached(x).detach() + quiet + self.transposed(x[:, None, :3])[:, 0]


def test_layers_without_a_gradient_are_skipped_by_name():
    named = r"left out of the spectrum: detached \(no gradient\), quiet \(no gradient\), unused \(no gradient\)$"
    with pytest.warns(SkippedLayerWarning, match=named):
        spectra = fisher_spectrum(Branches(), torch.randn(5, 4))
    assert [s.name for s in spectra] == ["used", "transposed"]
    assert str(spectra.coverage) == "2 of 5 matrices, 27.4% of 62 weights"
    assert spectra.coverage.is_small


def test_frozen_layers_and_biases_have_no_block_and_are_not_counted():
    model = network()
    model[0].requires_grad_(False)
    model[3].bias.requires_grad_(False)
    spectra = fisher_spectrum(model, batch())
    (last,) = spectra
    assert last.n_weights == 64 * 3
    assert last.input_eigenvalues.shape == (64,)
    assert str(spectra.coverage) == "1 of 1 matrices, 100% of 192 weights"


def test_parallel_branches_each_get_their_gradient():
    class Parallel(nn.Module):
        def __init__(self):
            super().__init__()
            self.left, self.right = nn.Linear(4, 3), nn.Linear(4, 3)

        def forward(self, x):
            return self.left(x) * self.right(x)

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert [s.name for s in fisher_spectrum(Parallel(), torch.randn(5, 4))] == ["left", "right"]


@pytest.mark.parametrize(
    ("function", "where"),
    [("exp(exp(x))", "input of '2'"), ("div(x,zero(x))", "input of '2'"), ("exp(square(x))", "'2'")],
)
def test_an_overflow_is_a_typed_error_that_says_where(function, where):
    model = nn.Sequential(nn.Linear(4, 4), Activation(function), nn.Linear(4, 3))
    with pytest.raises(NonFiniteSpectrum, match=f"{where} is not finite: the network overflows") as caught:
        fisher_spectrum(model, 100 * torch.randn(8, 4))
    assert isinstance(caught.value, SpectrumError)
    assert (caught.value.where, caught.value.what) == ("2", "input")


def test_infinite_logits_and_gradients_are_typed_errors_too():
    class InfiniteGradient(nn.Module):
        def forward(self, x):
            return torch.sqrt(x - x) + x

    with pytest.raises(NonFiniteSpectrum, match="output of 'network'"):
        fisher_spectrum(nn.Sequential(nn.Linear(4, 3), Activation("exp(exp(x))")), 100 * torch.ones(8, 4))
    with pytest.raises(NonFiniteSpectrum, match="gradient of '0'"):
        fisher_spectrum(nn.Sequential(nn.Linear(4, 3), InfiniteGradient()), torch.randn(8, 4))


class Returns(nn.Module):
    """A layer, then whatever the test wants as the network's outputs."""

    def __init__(self, change):
        super().__init__()
        self.layer, self.change = nn.Linear(4, 3), change

    def forward(self, x):
        return self.change(self.layer(x))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda y: ([], None), "must return a tensor, or a tuple, .*, got tuple"),
        (lambda y: y.sum(1), r"real logits \(batch, ..., classes\), got torch.float32 \(5,\)"),
        (lambda y: y.to(torch.complex64), "got torch.complex64"),
        (lambda y: y.argmax(1, keepdim=True), "got torch.int64"),
    ],
)
def test_outputs_that_are_no_logits_are_refused(change, message):
    with pytest.raises(SpectrumInputError, match=message):
        fisher_spectrum(Returns(change), torch.randn(5, 4))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"fisher": "exact"}, "fisher must be 'sampled' or 'empirical', got 'exact'"),
        ({"fisher": "empirical"}, "needs targets, got None"),
        ({"targets": torch.zeros(5, dtype=torch.long)}, "draws its own targets"),
        (
            {"fisher": "empirical", "targets": torch.zeros(4, dtype=torch.long)},
            r"shape \(5,\), got \(4,\) for logits \(5, 3\)",
        ),
        ({"fisher": "empirical", "targets": torch.full((5,), 3)}, r"must lie in \[0, 3\), got 3 to 3"),
        ({"fisher": "empirical", "targets": torch.zeros(5, 2)}, r"shape \(5, 3\), got \(5, 2\) for logits"),
    ],
)
def test_wrong_arguments_are_refused(arguments, message):
    with pytest.raises(SpectrumInputError, match=message):
        fisher_spectrum(nn.Linear(4, 3), torch.randn(5, 4), **arguments)


@pytest.mark.parametrize("inputs", [torch.zeros(0, 4), torch.tensor(1.0), [[1.0]]])
def test_inputs_that_are_no_batch_are_refused(inputs):
    with pytest.raises(SpectrumInputError, match=r"non-empty batch \(n, ...\), got"):
        fisher_spectrum(nn.Linear(4, 3), inputs)


def test_models_without_matrices_or_gradients_are_refused():
    with pytest.raises(NoLayers, match="no trained matrix"):
        fisher_spectrum(nn.Flatten(), torch.randn(5, 4))
    with pytest.raises(NoLayers, match=r"no weight .* gets a gradient; left out: layer \(no gradient\)"):
        fisher_spectrum(Returns(torch.detach), torch.randn(5, 4))


def test_embeddings_have_no_block_and_are_named():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Embedding(7, 5), nn.Linear(5, 6), nn.GELU(), nn.Linear(6, 4))
    tokens = torch.randint(7, (8, 9))
    for targets in (None, tokens % 4):
        with pytest.warns(SkippedLayerWarning, match=r"left out of the spectrum: 0 \(embedding\)$"):
            spectra = fisher_spectrum(model, tokens, targets, fisher="sampled" if targets is None else "empirical")
        assert [s.n_weights for s in spectra] == [36, 28]
        assert str(spectra.coverage) == "2 of 3 matrices, 64.6% of 99 weights"


class Attention(nn.Module):
    """Causal self-attention of one head whose projections are layers."""

    def __init__(self, width):
        super().__init__()
        self.query_key_value, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x):
        return self.out(functional.scaled_dot_product_attention(*self.query_key_value(x).chunk(3, -1), is_causal=True))


class TorchAttention(nn.MultiheadAttention):
    """PyTorch's own module, which holds its projections as bare parameters and calls its last layer by its weights."""

    def forward(self, x):
        return super().forward(x, x, x)[0]


class FirstOutput(nn.LSTM):
    """An LSTM that gives its outputs without its state."""

    def forward(self, x):
        return super().forward(x)[0]


def character_model(attention):
    torch.manual_seed(0)
    layers = [("embedding", nn.Embedding(7, 6)), ("norm", nn.LayerNorm(6)), ("attention", attention)]
    layers += [("up", nn.Linear(6, 12)), ("gelu", nn.GELU()), ("head", nn.Linear(12, 7))]
    return nn.Sequential(OrderedDict(layers))


EXPECTED = {"up": 7 * 12, "head": 13 * 7}


@pytest.mark.parametrize(
    ("module", "blocks", "named"),
    [
        (Attention(6), {"attention.query_key_value": 7 * 18, "attention.out": 7 * 6}, ""),
        (
            TorchAttention(6, 2, batch_first=True),
            {"attention.in_proj_weight": 7 * 18, "attention.out_proj": 7 * 6},
            "",
        ),
        (
            nn.TransformerEncoderLayer(6, 2, 8, batch_first=True),
            {
                "attention.self_attn.in_proj_weight": 7 * 18,
                "attention.self_attn.out_proj": 7 * 6,
                "attention.linear1": 7 * 8,
                "attention.linear2": 9 * 6,
            },
            "",
        ),
        (
            FirstOutput(6, 6, batch_first=True),
            {},
            r", attention.weight_ih_l0 \(lstm\), attention.weight_hh_l0 \(lstm\)",
        ),
    ],
    ids=["layers", "torch's attention", "encoder layer", "lstm"],
)
@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
def test_text_networks_have_a_block_for_each_projection_and_the_rest_is_named(module, blocks, named, training):
    model = character_model(module).train(training)
    with pytest.warns(SkippedLayerWarning, match=rf"left out of the spectrum: embedding \(embedding\){named}$"):
        spectra = fisher_spectrum(model, torch.randint(7, (8, 9)))
    assert {s.name: s.n_weights for s in spectra} == blocks | EXPECTED
    assert all(np.isfinite(s.log_eigenvalues()).all() for s in spectra)


class Shared(nn.Module):
    """Takes a matrix and a scalar that all samples share."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Linear(6, 3)

    def forward(self, x, mask, scale):
        return self.layer(scale * x @ mask)


@pytest.mark.parametrize("order", [("x", "mask", "scale"), ("mask", "scale", "x"), ("scale", "x", "mask")])
@pytest.mark.parametrize("fisher", ["sampled", "like", "empirical"])
def test_inputs_that_all_samples_share_do_not_change_the_number_of_samples(order, fisher):
    """Right: tr A is the mean square of the layer's inputs over 12 samples, and 1 for the bias."""
    x = torch.randn(12, 6, generator=torch.Generator().manual_seed(1))
    inputs = {"x": x, "mask": torch.eye(6)[:, torch.randperm(6)], "scale": torch.tensor(2.0)}
    labels = torch.arange(12) % 3
    given = {"sampled": {}, "like": {"like": labels}, "empirical": {"targets": labels, "fisher": "empirical"}}[fisher]
    (found,) = fisher_spectrum(Shared(), {name: inputs[name] for name in order}, **given)
    assert found.input_eigenvalues.sum() == pytest.approx((2 * x).square().sum().item() / 12 + 1, rel=1e-5)


def test_inputs_without_the_samples_of_the_targets_are_refused_by_name():
    """Tokens of all samples in one dimension do not say how many samples there are."""
    inputs = {"x": torch.randn(36, 6).unflatten(0, (12, 3)), "mask": torch.eye(6), "scale": torch.tensor(2.0)}
    model = nn.Sequential()
    model.forward = lambda **given: Shared.forward(model, **given).flatten(0, 1)
    model.layer = nn.Linear(6, 3)
    with pytest.raises(SpectrumInputError, match=r"36 samples of the targets in dimension 0, got {'x': \(12, 3, 6\)"):
        fisher_spectrum(model, inputs, like=torch.arange(36) % 3)


class Filling(nn.Module):
    """Fills what was empty, counts, notes, and sets an attribute that it did not have."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(6, 3)
        self.register_buffer("mean", None)
        self.register_buffer("n", torch.zeros(()))
        self.cache, self.calls, self.log, self.draws = None, 0, [], torch.Generator().manual_seed(4)
        self.kept = torch.zeros(3)

    def forward(self, x):
        if self.mean is None:
            self.mean = x.mean(0).detach()
        self.n += 1
        self.calls += 1
        self.log.append(x)
        self.last = self.cache = self.layer(x - self.mean + torch.randn(6, generator=self.draws))
        self.kept.copy_(self.cache[0].detach())
        return self.cache


def test_what_a_forward_pass_fills_counts_and_notes_is_left_as_found():
    model = Filling()
    draws = model.draws.get_state()
    fisher_spectrum(model, torch.randn(12, 6))
    assert (model.mean, model.cache, model.calls, model.log) == (None, None, 0, [])
    assert model.n == 0
    assert "mean" in model._buffers
    assert not hasattr(model, "last")
    assert model.kept.tolist() == [0, 0, 0]
    assert torch.equal(model.draws.get_state(), draws)
