"""Against the whole Fisher block of per-sample gradients where K-FAC is exact, and against curvlinops everywhere else.

K-FAC is exact for one sample and one position (the block is one outer product), and for any number of samples and
positions of an output layer whose prediction is the same everywhere: with zero weights all classes are equally likely,
and replicating the batch with every combination of labels makes the empirical Fisher the expectation over labels.
"""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import torch
from spectrum_oracles import assert_same_spectrum, block_eigenvalues, curvlinops_factors
from torch import nn

from aquasurf_ray.workers.spectrum import fisher_spectrum


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
    a_theirs, g_theirs = curvlinops_factors(model, nn.CrossEntropyLoss(reduction="sum"), inputs, targets)
    spectra = fisher_spectrum(model, inputs, targets, fisher="empirical")
    assert [s.name for s in spectra] == list(positions) == list(a_theirs)
    for s in spectra:
        a = np.linalg.eigvalsh(a_theirs[s.name].numpy()) * positions[s.name]
        g = np.linalg.eigvalsh(g_theirs[s.name].numpy()) / (n * positions[s.name])
        for ours, theirs in ((s.input_eigenvalues, a), (s.gradient_eigenvalues, g)):
            np.testing.assert_allclose(ours, np.maximum(theirs, 1e-7 * theirs[-1]), rtol=1e-6)
