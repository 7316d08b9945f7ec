"""Means, logits of a yes, and token predictions: against closed forms, per-sample gradients, and curvlinops.

A linear model of means is exact with any batch: the residuals do not depend on the inputs. Residuals of sqrt(m) times
plus and minus each unit vector of the m outputs have the second moment of the unit matrix, so that every input with
every such residual has the empirical Fisher that sampling has in expectation.
"""

from __future__ import annotations

import copy
import typing
from itertools import product

import numpy as np
import pytest
import torch
from spectrum_oracles import assert_same_spectrum, block_eigenvalues, curvlinops_factors
from torch import nn
from torch.nn import functional

from aquasurf_ray.tasks import objective
from aquasurf_ray.workers.fisher.likelihood import LIKELIHOODS
from aquasurf_ray.workers.spectrum import SpectrumInputError, fisher_spectrum


def normal(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def half_squared_error(outputs, targets):
    return (outputs.reshape(targets.shape) - targets).square().sum() / 2


def binary_cross_entropy(outputs, targets):
    return functional.binary_cross_entropy_with_logits(outputs.reshape(targets.shape), targets, reduction="sum")


class OneLayer(nn.Module):
    """A dense layer, or a convolution whose positions come before its channels."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, x):
        y = self.layer(x)
        return y.movedim(1, -1) if isinstance(self.layer, nn.Conv2d) else y


ONE_LAYER = pytest.mark.parametrize(
    ("layer", "shape"),
    [(nn.Linear(3, 2), (3,)), (nn.Linear(3, 2), (4, 3)), (nn.Conv2d(2, 2, 2), (2, 3, 3))],
    ids=["dense", "tokens", "convolution"],
)


def every_input_with_every_target(inputs, targets):
    """Of inputs [n, ...] and targets [n, m, ...]: the n m pairs."""
    return inputs.repeat_interleave(targets.shape[1], dim=0), targets.flatten(0, 1)


@ONE_LAYER
def test_a_linear_model_of_means_has_the_second_moment_of_its_inputs(layer, shape):
    model, inputs = OneLayer(layer).double(), normal(4, *shape)
    means = model(inputs).detach()
    m = means[0].numel()
    units = torch.cat([torch.eye(m), -torch.eye(m)]).double().reshape(2 * m, *means.shape[1:]) * m**0.5
    pairs = every_input_with_every_target(inputs, means[:, None] + units)
    (found,) = fisher_spectrum(model, *pairs, fisher="empirical", likelihood="gaussian")
    assert_same_spectrum(found, block_eigenvalues(model, "layer", *pairs, loss=half_squared_error))

    rows = functional.unfold(inputs, 2).mT.flatten(0, 1) if inputs.dim() == 4 else inputs.reshape(-1, shape[-1])
    rows = torch.cat([rows, torch.ones(len(rows), 1)], dim=1)
    of_inputs = torch.linalg.eigvalsh(rows.T @ rows / len(inputs)).numpy()
    np.testing.assert_allclose(np.exp(found.log_eigenvalues()), np.repeat(of_inputs, 2), rtol=1e-8)


@ONE_LAYER
def test_equally_likely_answers_are_exact_with_every_combination_of_them(layer, shape):
    model = OneLayer(copy.deepcopy(layer)).double()
    for parameter in model.parameters():
        nn.init.zeros_(parameter)
    inputs = normal(4, *shape)
    outputs = model(inputs)
    answers = torch.tensor(list(product([0.0, 1.0], repeat=outputs[0].numel())), dtype=torch.float64)
    answers = answers.reshape(-1, *outputs.shape[1:]).expand(4, -1, *outputs.shape[1:])
    pairs = every_input_with_every_target(inputs, answers)
    (found,) = fisher_spectrum(model, *pairs, fisher="empirical", likelihood="bernoulli")
    assert_same_spectrum(found, block_eigenvalues(model, "layer", *pairs, loss=binary_cross_entropy))
    np.testing.assert_allclose(found.gradient_eigenvalues, 0.25, rtol=1e-8)


@pytest.mark.parametrize("likelihood", ["gaussian", "bernoulli"])
@pytest.mark.parametrize("layer", ["0", "2"])
def test_one_sample_is_exact_in_every_layer(likelihood, layer):
    torch.manual_seed(0)
    model, x = nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 3)).double(), normal(1, 5)
    y = torch.tensor([[0.0, 1.0, 0.25]], dtype=torch.float64)
    loss = {"gaussian": half_squared_error, "bernoulli": binary_cross_entropy}[likelihood]
    spectra = {s.name: s for s in fisher_spectrum(model, x, y, fisher="empirical", likelihood=likelihood)}
    assert_same_spectrum(spectra[layer], block_eigenvalues(model, layer, x, y, loss=loss))


class TokenNetwork(nn.Module):
    """Tokens (n, 7) to predictions (n, 7, 5), or with the classes second, where PyTorch's loss has them."""

    def __init__(self, classes_second=False):
        super().__init__()
        self.embedding = nn.Embedding(6, 4)
        self.mix, self.up, self.down = nn.Linear(7, 7), nn.Linear(4, 8), nn.Linear(8, 5)
        self.classes_second = classes_second
        self.embedding.requires_grad_(False)  # theirs takes no embedding

    def forward(self, tokens):
        x = self.embedding(tokens)
        x = x + self.mix(x.mT).mT
        y = self.down(functional.gelu(self.up(x)))
        return y.mT if self.classes_second else y


def token_networks():
    torch.manual_seed(0)
    ours = TokenNetwork().double()
    theirs = TokenNetwork(classes_second=True).double()
    theirs.load_state_dict(ours.state_dict())
    return ours, theirs


def dense():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 5), nn.ELU(), nn.Linear(5, 3)).double()


def convolutional():
    torch.manual_seed(0)
    layers = nn.Conv2d(2, 4, 3, padding=1), nn.SiLU(), nn.Conv2d(4, 3, 2, stride=2), nn.Flatten(), nn.Linear(12, 3)
    return nn.Sequential(*layers).double()


def assert_factors(spectra, theirs, positions, n, gradient_scale=1.0, rtol=1e-6):
    """Theirs sum the gradients and average the inputs over positions."""
    a_theirs, g_theirs = theirs
    assert [s.name for s in spectra] == list(positions)
    assert set(positions) == set(a_theirs)
    for s in spectra:
        a = np.linalg.eigvalsh(a_theirs[s.name].numpy()) * positions[s.name]
        g = np.linalg.eigvalsh(g_theirs[s.name].numpy()) / (n * positions[s.name]) * gradient_scale
        np.testing.assert_allclose(s.input_eigenvalues, np.maximum(a, 1e-7 * a[-1]), rtol=1e-6)
        np.testing.assert_allclose(s.gradient_eigenvalues, np.maximum(g, 1e-7 * g[-1]), rtol=rtol)


@pytest.mark.parametrize(
    ("make", "shape", "positions"),
    [(dense, (6,), {"0": 1, "2": 1, "4": 1}), (convolutional, (2, 4, 4), {"0": 16, "2": 4, "4": 1})],
    ids=["dense", "convolutional"],
)
@pytest.mark.parametrize(
    ("likelihood", "loss", "scale"),
    [
        ("gaussian", nn.MSELoss(reduction="sum"), 0.25),
        ("bernoulli", nn.BCEWithLogitsLoss(reduction="sum"), 1.0),
    ],
    ids=["gaussian", "bernoulli"],
)
def test_given_targets_agree_with_curvlinops(make, shape, positions, likelihood, loss, scale):
    """The squared error without the half has twice the gradient, four times the second moment."""
    model, inputs = make(), normal(24, *shape)
    targets = (normal(24, 3, seed=1) > 0).double()
    spectra = fisher_spectrum(model, inputs, targets, fisher="empirical", likelihood=likelihood)
    assert_factors(spectra, curvlinops_factors(model, loss, inputs, targets), positions, 24, scale)


def test_given_tokens_agree_with_curvlinops():
    ours, theirs = token_networks()
    tokens = torch.randint(6, (9, 7), generator=torch.Generator().manual_seed(0))
    spectra = fisher_spectrum(ours, tokens, tokens % 5, fisher="empirical")
    factors = curvlinops_factors(theirs, nn.CrossEntropyLoss(reduction="sum"), tokens, tokens % 5)
    assert_factors(spectra, factors, {"mix": 4, "up": 7, "down": 7}, 9)


@pytest.mark.parametrize(
    ("likelihood", "loss", "scale"),
    [
        ("gaussian", nn.MSELoss(reduction="sum"), 0.5),
        ("bernoulli", nn.BCEWithLogitsLoss(reduction="sum"), 1.0),
        ("categorical", nn.CrossEntropyLoss(reduction="sum"), 1.0),
    ],
)
@pytest.mark.slow
def test_drawn_targets_tend_to_the_expectation_over_targets(likelihood, loss, scale):
    """Which curvlinops has in closed form, from the second derivative of the loss: 2 for the squared error."""
    model, inputs, n = dense(), normal(30_000, 6), 30_000
    spectra = fisher_spectrum(model, inputs, seed=1, likelihood=likelihood)
    targets = torch.zeros(n, dtype=torch.long) if likelihood == "categorical" else torch.zeros(n, 3).double()
    theirs = curvlinops_factors(model, loss, inputs, targets, fisher_type="type-2")
    assert_factors(spectra, theirs, {"0": 1, "2": 1, "4": 1}, n, scale, rtol=0.05)


def expected_gradient_moment(model, layer, tokens):
    """G of the Fisher information of token predictions, with a pass backward for every logit of every position."""
    kept = []
    hook = layer.register_forward_hook(lambda module, args, output: kept.append(output))
    p = model(tokens).softmax(-1)
    hook.remove()
    moment = 0
    for t in range(p.shape[1]):
        logits = p[:, t].log()  # the logits but for a constant, which the covariance below does not see
        columns = [torch.autograd.grad(logits[:, c].sum(), kept[0], retain_graph=True)[0] for c in range(p.shape[2])]
        jacobian = torch.stack(columns).reshape(p.shape[2], len(tokens), -1, kept[0].shape[-1])
        covariance = torch.diag_embed(p[:, t]) - p[:, t, :, None] * p[:, t, None]
        moment = moment + torch.einsum("vnri,nvw,wnrj->ij", jacobian, covariance, jacobian)
    return moment.detach() / kept[0][..., 0].numel()


@pytest.mark.slow
def test_drawn_tokens_tend_to_the_expectation_over_tokens_also_where_positions_mix():
    """curvlinops' closed form takes positions for samples, which they are not before a layer that mixes them."""
    model, _ = token_networks()
    tokens = torch.randint(6, (4000, 7), generator=torch.Generator().manual_seed(0))
    for found in fisher_spectrum(model, tokens):
        expected = torch.linalg.eigvalsh(expected_gradient_moment(model, getattr(model, found.name), tokens)).numpy()
        np.testing.assert_allclose(found.gradient_eigenvalues[1:], expected[1:], rtol=0.05)


def test_large_means_do_not_swallow_the_noise():
    model, inputs = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 2)), normal(32, 4).float()
    plain = fisher_spectrum(model, inputs, likelihood="gaussian")
    with torch.no_grad():
        model[2].bias += 1e7
    for a, b in zip(plain, fisher_spectrum(model, inputs, likelihood="gaussian"), strict=True):
        np.testing.assert_allclose(b.gradient_eigenvalues, a.gradient_eigenvalues, rtol=1e-6)


@pytest.mark.parametrize("logit", [30.0, -30.0, 600.0, -600.0])
def test_answers_that_are_almost_certain_have_the_gradient_that_they_have(logit):
    model = nn.Linear(2, 1)
    nn.init.zeros_(model.weight)
    nn.init.constant_(model.bias, logit)
    targets = torch.full((3, 1), logit > 0)
    (found,) = fisher_spectrum(model, torch.ones(3, 2), targets, fisher="empirical", likelihood="bernoulli")
    np.testing.assert_allclose(np.log(found.gradient_eigenvalues), max(-2 * abs(logit), -100.0), rtol=1e-3)
    (wrong,) = fisher_spectrum(model, torch.ones(3, 2), ~targets, fisher="empirical", likelihood="bernoulli")
    np.testing.assert_allclose(wrong.gradient_eigenvalues, 1.0, rtol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_outputs_of_other_float_types(likelihood, dtype):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 3))
    inputs, targets = normal(64, 4).float(), torch.arange(64) % 3
    if likelihood != "categorical":
        targets = functional.one_hot(targets)
    arguments = {"fisher": "empirical", "likelihood": likelihood}
    expected = fisher_spectrum(model, inputs, targets, **arguments)
    found = fisher_spectrum(copy.deepcopy(model).to(dtype), inputs.to(dtype), targets, **arguments)
    for a, b in zip(expected, found, strict=True):
        largest = a.log_eigenvalues()[-5:]
        np.testing.assert_allclose(b.log_eigenvalues()[-5:], largest, atol=0.15 if dtype != torch.float64 else 1e-4)
    assert all(
        np.isfinite(s.log_eigenvalues()).all()
        for s in fisher_spectrum(copy.deepcopy(model).to(dtype), inputs.to(dtype), likelihood=likelihood)
    )


@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_one_seed_one_draw_and_another_seed_another(likelihood):
    outputs = normal(50, 4).float()
    draws = [
        LIKELIHOODS[likelihood].sample(outputs, torch.Generator().manual_seed(seed)).double() for seed in (0, 0, 1)
    ]
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])


def test_targets_and_outputs_of_one_value_may_differ_by_dimensions_of_size_one():
    model, inputs, targets = nn.Linear(4, 1), normal(6, 4).float(), normal(6)
    expected, *others = (
        fisher_spectrum(m, inputs, y, fisher="empirical", likelihood="gaussian")[0].log_eigenvalues()
        for m, y in [(model, targets[:, None]), (model, targets), (nn.Sequential(model, nn.Flatten(0)), targets)]
    )
    for other in others:
        np.testing.assert_array_equal(other, expected)


@pytest.mark.parametrize(
    ("likelihood", "targets", "message"),
    [
        ("poisson", None, "likelihood must be one of categorical, gaussian, bernoulli, got 'poisson'"),
        ("gaussian", torch.zeros(3, 5), r"shape \(5, 3\) as these outputs, got \(3, 5\)"),
        ("gaussian", torch.zeros(5), r"shape \(5, 3\) as these outputs, got \(5,\)"),
        ("gaussian", torch.full((5, 3), torch.nan), "real and finite, got NaN or infinity"),
        ("gaussian", torch.zeros(5, 3, dtype=torch.complex64), "real and finite, got complex numbers"),
        ("bernoulli", torch.zeros(5, 2), r"shape \(5, 3\) as these outputs, got \(5, 2\)"),
        ("bernoulli", torch.full((5, 3), 2), r"must lie in \[0, 1\], got 2 to 2"),
        ("bernoulli", torch.full((5, 3), -0.5), r"must lie in \[0, 1\], got -0.5 to -0.5"),
    ],
)
def test_wrong_arguments_are_refused(likelihood, targets, message):
    fisher = "sampled" if targets is None else "empirical"
    with pytest.raises(SpectrumInputError, match=message):
        fisher_spectrum(nn.Linear(4, 3), torch.randn(5, 4), targets, fisher=fisher, likelihood=likelihood)


@pytest.mark.parametrize(("likelihood", "what"), [("gaussian", "means"), ("bernoulli", "logits")])
def test_outputs_that_are_no_real_numbers_are_refused(likelihood, what):
    model = nn.Sequential(nn.Linear(4, 3), nn.Identity())
    model[1].forward = lambda x: x.to(torch.complex64)
    with pytest.raises(SpectrumInputError, match=rf"real {what} \(batch, ...\), got torch.complex64 \(5, 3\)"):
        fisher_spectrum(model, torch.randn(5, 4), likelihood=likelihood)


def test_every_objective_has_its_likelihood():
    assert tuple(LIKELIHOODS) == objective.LIKELIHOODS == typing.get_args(objective.Likelihood)


def test_tokens_that_are_padding_do_not_count():
    torch.manual_seed(0)
    model, inputs, labels = nn.Linear(3, 4).double(), normal(6, 5, 3), torch.arange(30).reshape(6, 5) % 4
    padded = torch.where(torch.arange(5) < 2, labels, -100)
    (whole,) = fisher_spectrum(model, inputs[:, :2], labels[:, :2], fisher="empirical")
    (found,) = fisher_spectrum(model, inputs, padded, fisher="empirical")
    np.testing.assert_allclose(found.input_eigenvalues, whole.input_eigenvalues, rtol=1e-9)
    np.testing.assert_allclose(found.gradient_eigenvalues, whole.gradient_eigenvalues, rtol=1e-9, atol=1e-8)
    with pytest.raises(SpectrumInputError, match="must not all be -100"):
        fisher_spectrum(model, inputs, torch.full((6, 5), -100), fisher="empirical")


@pytest.mark.parametrize("fisher", ["sampled", "empirical"])
def test_masks_in_uint8_whose_padding_is_255(fisher):
    """G of the last layer from the softmax over the pixels that count, and A from their inputs alone."""
    torch.manual_seed(0)
    model, inputs = nn.Conv2d(2, 3, 1).double(), normal(6, 2, 4, 4)
    labels = torch.arange(6 * 16).reshape(6, 4, 4) % 3
    counted = torch.arange(16).reshape(4, 4) % 4 < 3
    masks = torch.where(counted, labels, 255).to(torch.uint8)
    given = {"targets" if fisher == "empirical" else "like": masks}
    (found,) = fisher_spectrum(
        model, inputs, **given, fisher=fisher, training_loss=nn.CrossEntropyLoss(ignore_index=255)
    )
    pixels = inputs.movedim(1, -1)[:, counted].reshape(-1, 2)
    a = torch.cat([pixels, torch.ones(len(pixels), 1)], 1)
    np.testing.assert_allclose(found.input_eigenvalues, torch.linalg.eigvalsh(a.T @ a / 6), rtol=1e-9)
    assert len(a) == 6 * 12
    if fisher == "empirical":
        y = functional.one_hot(labels[:, counted].flatten(), 3)
        g = model(inputs).movedim(1, -1)[:, counted].reshape(-1, 3).softmax(-1).detach() - y
        expected = torch.linalg.eigvalsh(g.T @ g / len(g))
        np.testing.assert_allclose(found.gradient_eigenvalues[1:], expected[1:], rtol=1e-9)


def test_class_156_in_uint8_is_not_taken_for_padding():
    """It has the bits of -100."""
    inputs, labels = normal(6, 3), torch.full((6,), 156, dtype=torch.uint8)
    (found,) = fisher_spectrum(nn.Linear(3, 200, bias=False).double(), inputs, labels, fisher="empirical")
    np.testing.assert_allclose(found.input_eigenvalues, torch.linalg.eigvalsh(inputs.T @ inputs / 6), rtol=1e-9)
