"""Against the whole Fisher block of per-sample gradients where K-FAC is exact, and against curvlinops everywhere else.

K-FAC is exact for one sample and one position (the block is one outer product), and for any number of samples and
positions of an output layer whose prediction is the same everywhere: with zero weights all classes are equally likely,
and replicating the batch with every combination of labels makes the empirical Fisher the expectation over labels.
"""

from __future__ import annotations

import warnings
from itertools import product

import numpy as np
import pytest
import torch
from torch import nn
from torch.func import functional_call, grad, vmap
from torch.nn import functional

from workers.spectrum import fisher_spectrum


def block_eigenvalues(model, layer, inputs, targets):
    """Eigenvalues, descending, of the mean outer product of per-sample gradients by the layer's parameters."""
    names = [f"{layer}.weight", f"{layer}.bias"]
    parameters = dict(model.named_parameters())

    def loss(own, x, y):
        logits = functional_call(model, {**parameters, **own}, (x[None],))
        return functional.cross_entropy(logits.reshape(-1, logits.shape[-1]), y.reshape(-1), reduction="sum")

    gradients = vmap(grad(loss), in_dims=(None, 0, 0))({n: parameters[n].detach() for n in names}, inputs, targets)
    rows = torch.cat([gradients[n].flatten(1) for n in names], dim=1)
    return torch.linalg.eigvalsh(rows.T @ rows / len(rows)).flip(0).detach().numpy()


def assert_same_spectrum(spectrum, expected):
    """Where the expected eigenvalues are not numerically zero; the others must lie at the floor or below."""
    found = np.exp(spectrum.log_eigenvalues())[::-1]
    positive = expected > 1e-6 * expected[0]
    np.testing.assert_allclose(found[positive], expected[positive], rtol=1e-8)
    assert (found[~positive] <= 2e-7 * expected[0]).all()
    assert positive.any()
    assert len(found) == len(expected)


@pytest.mark.parametrize("layer", ["0", "2", "4"])
def test_one_sample_is_exact_in_every_layer_of_a_dense_network(layer):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 6), nn.Tanh(), nn.Linear(6, 4), nn.ELU(), nn.Linear(4, 3)).double()
    x, y = torch.randn(1, 5, dtype=torch.float64), torch.tensor([2])
    spectra = {s.name: s for s in fisher_spectrum(model, x, y, fisher="empirical")}
    assert_same_spectrum(spectra[layer], block_eigenvalues(model, layer, x, y))


class PixelClasses(nn.Module):
    """A convolution whose every output position is a prediction of its own."""

    def __init__(self, **settings):
        super().__init__()
        self.layer = nn.Conv2d(2, 2, **settings)

    def forward(self, x):
        return self.layer(x).movedim(1, -1)


class TwoUses(nn.Module):
    """One dense layer used on both halves of the input."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 2)

    def forward(self, x):
        return torch.stack([self.layer(x[:, :3]), self.layer(x[:, 3:])], dim=1)


class Tokens(nn.Module):
    """One dense layer on a sequence."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 3)

    def forward(self, x):
        return self.layer(x)


@pytest.mark.parametrize(
    ("model", "shape", "label_shape", "classes"),
    [
        (Tokens(), (3,), (), 3),
        (Tokens(), (3, 3), (3,), 3),
        (TwoUses(), (6,), (2,), 2),
        (PixelClasses(kernel_size=2), (2, 3, 3), (2, 2), 2),
        (PixelClasses(kernel_size=3, stride=2, padding=1), (2, 4, 4), (2, 2), 2),
    ],
    ids=["dense", "tokens", "two uses", "convolution", "strided convolution"],
)
def test_equal_predictions_are_exact_with_any_number_of_samples_and_positions(model, shape, label_shape, classes):
    model = model.double()
    for parameter in model.parameters():
        nn.init.zeros_(parameter)
    samples = torch.randn(4, *shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor(list(product(range(classes), repeat=int(np.prod(label_shape, dtype=int)))))
    inputs = samples.repeat_interleave(len(labels), dim=0)
    targets = labels.reshape(-1, *label_shape).repeat(len(samples), *(1 for _ in label_shape))
    (spectrum,) = fisher_spectrum(model, inputs, targets, fisher="empirical")
    assert_same_spectrum(spectrum, block_eigenvalues(model, "layer", inputs, targets))


def test_sampled_labels_give_the_fisher_information_of_the_prediction():
    torch.manual_seed(0)
    model = nn.Linear(3, 4).double()
    inputs = torch.randn(20_000, 3, dtype=torch.float64)
    p = model(inputs).softmax(-1).detach()
    expected = torch.linalg.eigvalsh((torch.diag_embed(p) - p[:, :, None] * p[:, None]).mean(0)).numpy()
    (spectrum,) = fisher_spectrum(model, inputs, seed=1)
    np.testing.assert_allclose(spectrum.gradient_eigenvalues[1:], expected[1:], rtol=0.03)


def curvlinops_factors(model, inputs, targets):
    """Their factors by layer name; A is divided by the positions and G summed, so that the block is a sum over data."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a dependency of theirs uses torch.jit.script at import
        from curvlinops import KFACLinearOperator

    operator = KFACLinearOperator(
        model,
        nn.CrossEntropyLoss(reduction="sum"),
        list(model.parameters()),
        [(inputs, targets)],
        check_deterministic=False,
        fisher_type="empirical",
        kfac_approx="expand",
        separate_weight_and_bias=False,
    )
    operator.compute_kronecker_factors()
    return operator._input_covariances, operator._gradient_covariances


NETWORKS = {
    "dense": (
        lambda: nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 5), nn.ELU(), nn.Linear(5, 3)),
        (6,),
        {"0": 1, "2": 1, "4": 1},
    ),
    "convolutional": (
        lambda: nn.Sequential(
            nn.Conv2d(3, 4, 3, padding=1),
            nn.Tanh(),
            nn.Conv2d(4, 6, 3, stride=2),
            nn.SiLU(),
            nn.Conv2d(6, 5, 2, bias=False),
            nn.ELU(),
            nn.Flatten(),
            nn.Linear(20, 3),
        ),
        (3, 8, 8),
        {"0": 64, "2": 9, "4": 4, "7": 1},
    ),
}


@pytest.mark.parametrize("network", NETWORKS)
def test_factors_agree_with_curvlinops_up_to_its_normalisation(network):
    make, shape, positions = NETWORKS[network]
    torch.manual_seed(0)
    model, n = make().double(), 24
    inputs, targets = torch.randn(n, *shape, dtype=torch.float64), torch.arange(n) % 3
    a_theirs, g_theirs = curvlinops_factors(model, inputs, targets)
    spectra = fisher_spectrum(model, inputs, targets, fisher="empirical")
    assert [s.name for s in spectra] == list(positions) == list(a_theirs)
    for s in spectra:
        a = np.linalg.eigvalsh(a_theirs[s.name].numpy()) * positions[s.name]
        g = np.linalg.eigvalsh(g_theirs[s.name].numpy()) / (n * positions[s.name])
        for ours, theirs in ((s.input_eigenvalues, a), (s.gradient_eigenvalues, g)):
            np.testing.assert_allclose(ours, np.maximum(theirs, 1e-7 * theirs[-1]), rtol=1e-6)
