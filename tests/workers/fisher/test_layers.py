"""Every layer kind against an oracle that makes all patches one by one, in float64, and keeps every gradient."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from aquasurf_ray.workers.fisher.moments import ABSOLUTE_FLOOR, RELATIVE_FLOOR
from aquasurf_ray.workers.spectrum import LayerSpectrum, fisher_spectrum

N = 6


def patches(layer, x):
    """[n, positions, channels, taps], by indexing a padded input; x is [n, c, h, w] or [n, c, w]."""
    k, s, d = layer.kernel_size, layer.stride, layer.dilation
    if layer.padding == "same":
        pads = [(di * (ki - 1) // 2, di * (ki - 1) - di * (ki - 1) // 2) for di, ki in zip(d, k, strict=True)]
    elif layer.padding == "valid":
        pads = [(0, 0)] * len(k)
    else:
        pads = [(p, p) for p in layer.padding]
    mode = {"zeros": "constant", "reflect": "reflect", "circular": "wrap", "replicate": "edge"}[layer.padding_mode]
    padded = np.pad(x.numpy(), [(0, 0), (0, 0), *pads], mode=mode)
    sizes = [(p - di * (ki - 1) - 1) // si + 1 for p, di, ki, si in zip(padded.shape[2:], d, k, s, strict=True)]
    found = []
    for position in product(*map(range, sizes)):
        taps = [
            padded[
                (slice(None), slice(None), *(p * si + t * di for p, si, t, di in zip(position, s, tap, d, strict=True)))
            ]
            for tap in product(*map(range, k))
        ]
        found.append(np.stack(taps, axis=-1))
    return np.stack(found, axis=1)


def eigenvalues(matrix):
    values = np.linalg.eigvalsh(matrix)
    return np.sort(np.maximum(values, max(RELATIVE_FLOOR * values.max(), ABSOLUTE_FLOOR)))


def moment(rows, divisor):
    return eigenvalues(rows.T @ rows / divisor)


def oracle(layer, uses):
    """(A's, G's) eigenvalues a pair, from the layer's (input, output gradient) at every use."""
    depthwise = not isinstance(layer, nn.Linear) and layer.groups == layer.in_channels > 1
    groups = 1 if isinstance(layer, nn.Linear) else layer.groups
    a_rows, g_rows = [], []
    for x, g in uses:
        if isinstance(layer, nn.Linear):
            a_rows.append(x.numpy().reshape(1, -1, layer.in_features))
            g_rows.append(g.numpy().reshape(1, -1, layer.out_features))
        else:
            p = patches(layer, x)
            n, positions, channels, taps = p.shape
            p = p.reshape(n * positions, groups, channels // groups * taps)
            a_rows.append(p.transpose(1, 0, 2))
            flat = g.flatten(2).movedim(1, -1).reshape(n * positions, -1).numpy()
            g_rows.append(np.stack(np.split(flat, groups, axis=1)))
    a, g = np.concatenate(a_rows, axis=1), np.concatenate(g_rows, axis=1)
    if layer.bias is not None:
        a = np.concatenate([a, np.ones((*a.shape[:2], 1))], axis=2)
    if depthwise:
        return moment(a.reshape(-1, a.shape[-1]), N * groups), moment(np.concatenate(list(g), axis=1), g.shape[1])
    pairs = [(moment(x, N), moment(y, len(y))) for x, y in zip(a, g, strict=True)]
    if groups == 1:
        return pairs[0]
    return np.stack([x for x, _ in pairs]), np.stack([y for _, y in pairs])


class Net(nn.Module):
    """The layer, a smooth function, and a fixed read-out, so that gradients differ from place to place."""

    def __init__(self, layer, uses=1):
        super().__init__()
        self.layer, self.uses = layer, uses

    def forward(self, x):
        self.inputs, self.outputs, total = [], [], 0
        for use in range(self.uses):
            self.inputs.append(x.roll(use, 0) * (1 + use))
            y = self.layer(self.inputs[-1])
            self.outputs.append(y)
            features = torch.tanh(y).flatten(1)
            generator = torch.Generator().manual_seed(use)
            total = total + features @ torch.randn(features.shape[1], 3, generator=generator, dtype=torch.float64)
        return total


def check(layer, x, uses=1):
    torch.manual_seed(1)
    net = Net(layer, uses).double()
    targets = torch.arange(N) % 3
    loss = functional.cross_entropy(net(x), targets, reduction="sum")
    gradients = torch.autograd.grad(loss, net.outputs)
    expected_a, expected_g = oracle(layer, list(zip(net.inputs, gradients, strict=True)))
    (found,) = fisher_spectrum(net, x, targets, fisher="empirical")
    np.testing.assert_allclose(found.input_eigenvalues, expected_a, rtol=1e-6)
    np.testing.assert_allclose(found.gradient_eigenvalues, expected_g, rtol=1e-6)
    assert found.name == "layer"
    assert found.n_weights == sum(p.numel() for p in layer.parameters())
    assert len(found.log_eigenvalues()) == found.n_weights
    return found


def data(*shape):
    return torch.randn(N, *shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(4,), (5, 4), (2, 3, 4), (40,)])
def test_linear_layers_count_all_leading_dimensions_as_positions(shape, bias):
    check(nn.Linear(shape[-1], 3, bias=bias), data(*shape))


CONVOLUTIONS_2D = [
    {"kernel_size": 1},
    {"kernel_size": 3},
    {"kernel_size": 3, "padding": 1},
    {"kernel_size": 3, "padding": 1, "bias": False},
    {"kernel_size": 3, "padding": 1, "stride": 2},
    {"kernel_size": (3, 2), "padding": (2, 1), "stride": (1, 3), "dilation": (2, 1)},
    {"kernel_size": 5, "padding": 2, "stride": 3},
    {"kernel_size": 2, "padding": "same"},
    {"kernel_size": 4, "padding": "same", "dilation": 2},
    {"kernel_size": 3, "padding": "valid"},
    {"kernel_size": 3, "padding": 1, "padding_mode": "circular"},
    {"kernel_size": 3, "padding": 2, "padding_mode": "reflect"},
    {"kernel_size": (4, 3), "padding": "same", "padding_mode": "replicate"},
    {"kernel_size": 4, "stride": 4},
    {"kernel_size": 2, "stride": 3},
]


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel:UserWarning")
@pytest.mark.parametrize("settings", CONVOLUTIONS_2D, ids=str)
@pytest.mark.parametrize("groups", [1, 2, 4])
def test_2d_convolutions(settings, groups):
    check(nn.Conv2d(4, 8, groups=groups, **settings), data(4, 9, 8))


@pytest.mark.parametrize(
    "settings",
    [
        {"kernel_size": 3},
        {"kernel_size": 3, "stride": 2, "padding": 1},
        {"kernel_size": 4, "padding": "same", "dilation": 3},
        {"kernel_size": 5, "padding": 2, "padding_mode": "circular", "bias": False},
    ],
    ids=str,
)
@pytest.mark.parametrize("groups", [1, 2, 4])
def test_1d_convolutions(settings, groups):
    check(nn.Conv1d(4, 4, groups=groups, **settings), data(4, 12))


def test_short_images_with_many_channels_go_through_the_gram_matrix():
    found = check(nn.Conv2d(40, 3, 3, padding=1), data(40, 2, 2))
    floor = found.input_eigenvalues[-1] * RELATIVE_FLOOR
    assert (found.input_eigenvalues[: 361 - N * 4] == floor).all(), "rank at most the number of patches"


@pytest.mark.parametrize(
    ("layer", "shape"),
    [(nn.Linear(4, 3), (4,)), (nn.Linear(40, 3), (40,)), (nn.Conv2d(2, 3, 3, padding=1), (2, 5, 5))],
    ids=["rows", "gram", "conv"],
)
def test_several_uses_of_a_layer_add_rows(layer, shape):
    check(layer, data(*shape), uses=3)


def test_uses_that_first_fit_the_gram_matrix_and_then_do_not():
    check(nn.Linear(15, 3), data(15), uses=4)


def test_log_eigenvalues_are_all_pairwise_sums_sorted():
    a, g = np.array([[1.0, 2.0], [3.0, 5.0]]), np.array([[1.0, 10.0], [100.0, 1000.0]])
    found = np.exp(LayerSpectrum("grouped", 8, a, g).log_eigenvalues())
    np.testing.assert_allclose(found, [1, 2, 10, 20, 300, 500, 3000, 5000], rtol=1e-12)


def test_a_layer_that_pads_by_itself_has_the_block_of_what_it_computes():
    class PadsItself(nn.Conv2d):
        def forward(self, x):
            return super().forward(functional.pad(x, (1, 1, 1, 1)))

    torch.manual_seed(0)
    plain = nn.Conv2d(1, 2, 3, padding=1)
    padding = PadsItself(1, 2, 3)
    padding.load_state_dict(plain.state_dict())
    x, targets = data(1, 8, 8), torch.arange(N) % 3
    (found,) = fisher_spectrum(Net(padding).double(), x, targets, fisher="empirical")
    (expected,) = fisher_spectrum(Net(plain).double(), x, targets, fisher="empirical")
    np.testing.assert_allclose(found.log_eigenvalues(), expected.log_eigenvalues(), rtol=1e-9)
