"""A block belongs to a weight and all its products: held against rows that are written down by hand.

Each network here notes the inputs and outputs of its products itself, as rows; the expected factors are then one line
of NumPy from them and from `torch.autograd.grad` of the loss, in float64.
"""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.nn.utils import parametrizations, prune, spectral_norm, weight_norm
from torch.utils.checkpoint import checkpoint

from aquasurf_ray.workers.fisher.moments import ABSOLUTE_FLOOR, RELATIVE_FLOOR
from aquasurf_ray.workers.spectrum import NoLayers, SkippedLayerWarning, SpectrumInputError, fisher_spectrum

N = 12


def data(*shape, seed=0):
    return torch.randn(N, *shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def floored(matrix):
    values = np.linalg.eigvalsh(matrix)
    return np.sort(np.maximum(values, max(RELATIVE_FLOOR * values.max(), ABSOLUTE_FLOOR)))


def factors(uses, gradients, biased):
    """Eigenvalues of A and G from (input [..., in], gradient [..., out]) at each use of one weight."""
    a = np.concatenate([x.detach().numpy().reshape(-1, x.shape[-1]) for x, _ in uses])
    g = np.concatenate([d.numpy().reshape(-1, d.shape[-1]) for d in gradients])
    if biased:
        a = np.concatenate([a, np.ones((len(a), 1))], axis=1)
    return floored(a.T @ a / N), floored(g.T @ g / len(g))


def cross_entropy(outputs, targets):
    return functional.cross_entropy(outputs.reshape(-1, outputs.shape[-1]), targets.reshape(-1), reduction="sum")


def check(model, x, biased=None):
    """The model has `uses`, a dictionary from names of blocks to lists of (input, output), after it was called."""
    model = model.double()
    targets = torch.arange(model(x)[..., 0].numel()).reshape(model(x).shape[:-1]) % 3
    loss = cross_entropy(model(x), targets)
    uses = copy.copy(model.uses)
    outputs = [y for pairs in uses.values() for _, y in pairs]
    gradients = iter(torch.autograd.grad(loss, outputs))
    expected = {
        name: factors(pairs, [next(gradients) for _ in pairs], (biased or {}).get(name, True))
        for name, pairs in uses.items()
    }
    found = {s.name: s for s in fisher_spectrum(model, x, targets, fisher="empirical")}
    for name, (a, g) in expected.items():
        np.testing.assert_allclose(found[name].input_eigenvalues, a, rtol=1e-8, err_msg=f"A of {name}")
        np.testing.assert_allclose(found[name].gradient_eigenvalues, g, rtol=1e-8, err_msg=f"G of {name}")
    return found


class Noted(nn.Module):
    """Notes its products in `uses`."""

    def note(self, name, x, y):
        if torch.is_grad_enabled():
            self.uses.setdefault(name, []).append((x, y))
        return y

    def forward(self, x):
        self.uses = {}
        return self.outputs(x)


class Tied(Noted):
    """Two modules with one weight and one bias; the second sees fewer positions."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second, self.out = nn.Linear(5, 5), nn.Linear(5, 5), nn.Linear(5, 3)
        self.second.weight, self.second.bias = self.first.weight, self.first.bias

    def outputs(self, x):
        h = torch.tanh(self.note("first", x, self.first(x)))
        h = h.mean(1)
        h = torch.tanh(self.note("first", h, self.second(h)))
        return self.note("out", h, self.out(h))


def test_two_modules_with_one_weight_are_one_block_with_the_positions_of_both():
    found = check(Tied(), data(4, 5))
    assert list(found) == ["first", "out"]
    assert sum(s.n_weights for s in found.values()) == sum(p.numel() for p in Tied().parameters())


def test_two_modules_with_one_weight_and_a_bias_each_have_a_constant_each():
    """A is the moment of [x, 1, 0] at the first and [x, 0, 1] at the second use: the gradient by [W b1 b2]."""

    class OwnBiases(Tied):
        def __init__(self):
            super().__init__()
            self.second.bias = nn.Parameter(torch.ones(5))

    model = OwnBiases()
    model, x = model.double(), data(4, 5)
    targets = torch.arange(N) % 3
    (first, out) = fisher_spectrum(model, x, targets, fisher="empirical")
    model(x)
    (x1, _), (x2, _) = model.uses["first"]
    rows = [
        np.concatenate([r.detach().numpy().reshape(-1, 5), np.tile(ones, (r.numel() // 5, 1))], axis=1)
        for r, ones in ((x1, [1.0, 0.0]), (x2, [0.0, 1.0]))
    ]
    a = np.concatenate(rows)
    np.testing.assert_allclose(first.input_eigenvalues, floored(a.T @ a / N), rtol=1e-8)
    assert first.n_weights + out.n_weights == sum(p.numel() for p in model.parameters())


class Heads(Noted):
    """Bare parameters in products of every spelling."""

    def __init__(self, spelling):
        super().__init__()
        torch.manual_seed(0)
        self.spelling = spelling
        turned = spelling in ("addmm", "matmul", "@", "tensordot", "einsum io")
        self.up = nn.Parameter(torch.randn(5, 7) if turned else torch.randn(7, 5))
        self.bias = nn.Parameter(torch.randn(7))
        self.head = nn.Linear(7, 3)

    def product(self, x):
        rows = x.reshape(-1, 5)
        return {
            "addmm": lambda: torch.addmm(self.bias, rows, self.up).reshape(*x.shape[:-1], 7),
            "matmul": lambda: torch.matmul(x, self.up) + self.bias,
            "@": lambda: self.bias + x @ self.up,
            "tensordot": lambda: torch.tensordot(x, self.up, 1) + self.bias,
            "einsum io": lambda: torch.einsum("bti,io->bto", x, self.up) + self.bias,
            "einsum": lambda: torch.einsum("...i,oi", x, self.up) + self.bias,
            "linear": lambda: functional.linear(x, self.up, self.bias),
            "from the left": lambda: (self.up @ x.mT).mT.add(self.bias),
            "mm of a view": lambda: (rows.mm(self.up.view(7, 5).t()) + self.bias).unflatten(0, x.shape[:-1]),
        }[self.spelling]()

    def outputs(self, x):
        h = self.note("up", x, self.product(x))
        h = torch.tanh(h)
        return self.note("head", h, self.head(h))


@pytest.mark.parametrize(
    "spelling", ["addmm", "matmul", "@", "tensordot", "einsum io", "einsum", "linear", "mm of a view"]
)
def test_bare_matrices_have_the_block_of_a_linear_layer(spelling):
    found = check(Heads(spelling), data(4, 5))
    assert list(found) == ["up", "head"]
    assert sum(s.n_weights for s in found.values()) == 7 * 6 + 3 * 8


def test_a_weight_on_the_left_has_its_block_and_a_bias_that_comes_later_does_not_count():
    model = Heads("from the left")
    spectra = fisher_spectrum(model.double(), data(4, 5))
    assert [s.n_weights for s in spectra] == [35, 24]
    assert str(spectra.coverage) == "2 of 2 matrices, 89.4% of 66 weights"


class PerHead(nn.Module):
    """A weight a head: three matrices in one parameter."""

    def __init__(self, expanded=False):
        super().__init__()
        torch.manual_seed(0)
        self.weight, self.head = nn.Parameter(torch.randn(3, 4, 2)), nn.Linear(6, 3)

    def forward(self, x):
        self.x = x
        self.y = torch.einsum("bthi,hio->btho", x, self.weight)
        return self.head(torch.tanh(self.y).flatten(2).mean(1))


def test_a_batch_of_matrices_has_a_pair_of_factors_for_each():
    model, x, targets = PerHead().double(), data(5, 3, 4), torch.arange(N) % 3
    first, _ = fisher_spectrum(model, x, targets, fisher="empirical")
    gradient = torch.autograd.grad(cross_entropy(model(x), targets), model.y)[0]
    for h in range(3):
        a, g = x[:, :, h].reshape(-1, 4).numpy(), gradient[:, :, h].reshape(-1, 2).numpy()
        np.testing.assert_allclose(first.input_eigenvalues[h], floored(a.T @ a / N), rtol=1e-8)
        np.testing.assert_allclose(first.gradient_eigenvalues[h], floored(g.T @ g / len(g)), rtol=1e-8)
    assert (first.name, first.n_weights) == ("", 24)


class Wrapped(nn.Module):
    """One layer, made by the test, and a head."""

    def __init__(self, layer):
        super().__init__()
        self.layer, self.head = layer, nn.Linear(layer.out_features, 3)

    def forward(self, x):
        return self.head(torch.tanh(self.layer(x)))


def plain_copy(model):
    """The same function with the layer's effective weight in a plain layer."""
    copied = nn.Linear(5, 5).double()
    with torch.no_grad():
        copied.weight.copy_(model.layer.weight)
        copied.bias.copy_(model.layer.bias)
    plain = Wrapped(copied).double()
    plain.head.load_state_dict(model.head.state_dict())
    return plain


class Normalised(nn.Linear):
    """Cosine similarity, scaled: a subclass of Linear with a forward of its own."""

    def forward(self, x):
        return 4 * functional.linear(functional.normalize(x, dim=-1), functional.normalize(self.weight, dim=-1))


@pytest.mark.filterwarnings("ignore:`torch.nn.utils.weight_norm` is deprecated:FutureWarning")
@pytest.mark.parametrize(
    "wrap",
    [
        weight_norm,
        parametrizations.weight_norm,
        spectral_norm,
        parametrizations.spectral_norm,
        lambda layer: prune.random_unstructured(layer, "weight", 0.3),
    ],
    ids=["old weight norm", "weight norm", "old spectral norm", "spectral norm", "pruned"],
)
def test_a_reparametrised_weight_has_the_block_of_the_matrix_that_it_makes(wrap):
    torch.manual_seed(0)
    model = Wrapped(wrap(nn.Linear(5, 5))).double().eval()
    x, targets = data(5), torch.arange(N) % 3
    model(x)
    expected = fisher_spectrum(plain_copy(model).eval(), x, targets, fisher="empirical")
    found = fisher_spectrum(model, x, targets, fisher="empirical")
    assert [s.name for s in found] == [s.name for s in expected] == ["layer", "head"]
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a.log_eigenvalues(), b.log_eigenvalues(), rtol=1e-6)
    assert found.coverage.n_covered_weights == found.coverage.n_weights == sum(p.numel() for p in model.parameters())


@pytest.mark.filterwarnings("ignore:`torch.nn.utils.weight_norm` is deprecated:FutureWarning")
@pytest.mark.parametrize("wrap", [weight_norm, spectral_norm, parametrizations.spectral_norm])
def test_reparametrised_models_are_left_as_they_were_found(wrap):
    torch.manual_seed(0)
    model = Wrapped(wrap(nn.Linear(5, 5))).double().train()
    model(data(5))
    before, weight = copy.deepcopy(model.state_dict()), vars(model.layer).get("weight")
    first = fisher_spectrum(model, data(5))
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())
    assert vars(model.layer).get("weight") is weight
    second = fisher_spectrum(model, data(5))
    for a, b in zip(first, second, strict=True):
        np.testing.assert_array_equal(a.log_eigenvalues(), b.log_eigenvalues())


def test_a_subclass_of_linear_has_the_block_of_the_product_that_it_takes():
    torch.manual_seed(0)
    model, x, targets = Wrapped(Normalised(5, 5, bias=False)).double(), data(5), torch.arange(N) % 3
    first, _ = fisher_spectrum(model, x, targets, fisher="empirical")
    product = functional.linear(functional.normalize(x), functional.normalize(model.layer.weight)).detach()
    product.requires_grad_()
    loss = cross_entropy(model.head(torch.tanh(4 * product)), targets)
    rows, gradient = functional.normalize(x).numpy(), torch.autograd.grad(loss, product)[0].numpy()
    np.testing.assert_allclose(first.input_eigenvalues, floored(rows.T @ rows / N), rtol=1e-8)
    np.testing.assert_allclose(first.gradient_eigenvalues, floored(gradient.T @ gradient / N), rtol=1e-8)


class LowRank(nn.Module):
    """A frozen layer and two thin trained ones, added before or after the product."""

    out_features = 5

    def __init__(self, merged):
        super().__init__()
        self.base, self.merged = nn.Linear(5, 5), merged
        self.base.requires_grad_(False)
        self.down, self.up = nn.Parameter(torch.randn(2, 5)), nn.Parameter(torch.randn(5, 2))

    def forward(self, x):
        if self.merged:
            return functional.linear(x, self.base.weight + self.up @ self.down, self.base.bias)
        return self.base(x) + x @ self.down.t() @ self.up.t()


def test_thin_matrices_beside_a_frozen_layer_have_blocks_and_the_frozen_layer_none():
    torch.manual_seed(0)
    spectra = fisher_spectrum(Wrapped(LowRank(merged=False)).double(), data(5))
    assert {s.name: s.n_weights for s in spectra} == {"layer.down": 10, "layer.up": 10, "head": 18}
    assert spectra.coverage.share == 1


def test_a_weight_made_of_fewer_weights_than_it_has_is_named():
    torch.manual_seed(0)
    with pytest.warns(SkippedLayerWarning, match=r"layer.down \(linear by a matrix of fewer weights\), layer.up"):
        spectra = fisher_spectrum(Wrapped(LowRank(merged=True)).double(), data(5))
    assert [s.name for s in spectra] == ["head"]


class Autoencoder(nn.Module):
    """One weight, there and back."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(4, 5))

    def forward(self, x):
        return torch.tanh(functional.linear(x, self.weight)) @ self.weight


class TiedEmbedding(nn.Module):
    """A table of words that is the output layer too."""

    def __init__(self):
        super().__init__()
        self.words, self.mix, self.head = nn.Embedding(7, 5), nn.Linear(5, 5), nn.Linear(5, 7, bias=False)
        self.head.weight = self.words.weight

    def forward(self, tokens):
        return self.head(torch.tanh(self.mix(self.words(tokens))))


def test_other_ways_to_use_a_weight_are_named():
    torch.manual_seed(0)
    with pytest.warns(SkippedLayerWarning, match=r"uses that no block counts: weight \(another matmul\)$"):
        (spectrum,) = fisher_spectrum(Autoencoder().double(), data(5), likelihood="gaussian")
    assert spectrum.n_weights == 20
    with pytest.warns(SkippedLayerWarning, match=r"uses that no block counts: head \(embedding\)$"):
        spectra = fisher_spectrum(TiedEmbedding(), torch.randint(7, (N, 4)))
    assert {s.name: s.n_weights for s in spectra} == {"mix": 30, "head": 35}


class Blocks(nn.Module):
    """Three blocks, some of them checkpointed."""

    def __init__(self, checkpointed=(), reentrant=False):
        super().__init__()
        torch.manual_seed(0)
        self.words = nn.Embedding(9, 6)
        self.blocks = nn.ModuleList(nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 6)) for _ in range(3))
        self.out, self.checkpointed, self.reentrant = nn.Linear(6, 4), checkpointed, reentrant

    def forward(self, tokens):
        x = self.words(tokens)
        for i, block in enumerate(self.blocks):
            x = checkpoint(block, x, use_reentrant=self.reentrant) if i in self.checkpointed else block(x)
        return self.out(x)


@pytest.mark.filterwarnings("ignore::aquasurf_ray.workers.spectrum.SkippedLayerWarning")
@pytest.mark.parametrize("reentrant", [False, True])
@pytest.mark.parametrize("checkpointed", [(0,), (1,), (2,), (0, 1, 2)])
def test_checkpointed_blocks_have_the_spectrum_that_they_have_without(checkpointed, reentrant):
    tokens = torch.arange(5 * N).reshape(N, 5) % 9
    expected = fisher_spectrum(Blocks(), tokens)
    found = fisher_spectrum(Blocks(checkpointed, reentrant), tokens)
    assert [s.name for s in found] == [s.name for s in expected]
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a.log_eigenvalues(), b.log_eigenvalues(), atol=1e-4)


@pytest.mark.parametrize("reentrant", [False, True])
def test_checkpoints_within_checkpoints(reentrant):
    class Nested(nn.Module):
        def __init__(self, nested):
            super().__init__()
            torch.manual_seed(0)
            self.layers = nn.ModuleList(nn.Linear(6, 6) for _ in range(4))
            self.nested = nested

        def inner(self, x):
            return torch.tanh(self.layers[2](torch.tanh(self.layers[1](x))))

        def outer(self, x):
            return (checkpoint(self.inner, x, use_reentrant=reentrant) if self.nested else self.inner(x)).sin()

        def forward(self, x):
            x = torch.tanh(self.layers[0](x))
            x = checkpoint(self.outer, x, use_reentrant=reentrant) if self.nested else self.outer(x)
            return self.layers[3](x)

    expected, found = (fisher_spectrum(Nested(nested).double(), data(6)) for nested in (False, True))
    assert len(found) == 4
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a.log_eigenvalues(), b.log_eigenvalues(), rtol=1e-8)


class Forces(Noted):
    """Forces from an energy, and the energy itself where it is asked for."""

    def __init__(self, energy):
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second, self.third = nn.Linear(5, 7), nn.Linear(7, 7), nn.Linear(7, 1)
        self.energy = energy

    def outputs(self, x):
        x = x.detach().requires_grad_()
        a = self.note("first", x, self.first(x))
        h = torch.tanh(a)
        b = self.note("second", h, self.second(h))
        h = torch.tanh(b)
        energy = self.note("third", h, self.third(h))
        forces = -torch.autograd.grad(energy.sum(), x, create_graph=True)[0]
        return torch.cat([forces, energy], 1) if self.energy else forces


@pytest.mark.parametrize("energy", [False, True])
def test_a_derivative_in_the_forward_pass_does_not_count_and_is_named(energy):
    model, x = Forces(energy).double(), data(5)
    targets = torch.zeros_like(model(x))
    loss = (model(x) - targets).square().sum() / 2
    uses = model.uses
    gradients = torch.autograd.grad(loss, [uses[n][0][1] for n in uses], allow_unused=True)
    with pytest.warns(SkippedLayerWarning, match=r"no block counts: first \(derivative in forward\), second"):
        found = {s.name: s for s in fisher_spectrum(model, x, targets, fisher="empirical", likelihood="gaussian")}
    assert ("third" in found) == energy
    for (name, pairs), gradient in zip(uses.items(), gradients, strict=True):
        if gradient is not None:
            a, g = factors(pairs, [gradient], biased=True)
            np.testing.assert_allclose(found[name].input_eigenvalues, a, rtol=1e-8)
            np.testing.assert_allclose(found[name].gradient_eigenvalues, g, rtol=1e-8)


def test_hooks_of_the_users_own_keep_working_and_what_they_change_counts():
    torch.manual_seed(0)
    model, x, targets = (
        nn.Sequential(nn.Linear(5, 6), nn.Tanh(), nn.Linear(6, 3)).double(),
        data(5),
        torch.arange(N) % 3,
    )
    seen = []
    model[2].register_full_backward_hook(lambda module, inputs, outputs: seen.append(outputs[0].clone()))
    model[2].register_forward_hook(lambda module, args, output: 2 * output)
    _, last = fisher_spectrum(model, x, targets, fisher="empirical")
    assert len(seen) == 1
    gradient = 2 * seen[0].numpy()
    np.testing.assert_allclose(last.gradient_eigenvalues, floored(gradient.T @ gradient / N), rtol=1e-8, atol=1e-9)
    assert len(model[2]._forward_hooks) == len(model[2]._backward_hooks) == 1


def unfolded(layer, x):
    """Patches [rows, features] of a transposed or 3-D convolution, by the Jacobian of the layer's output."""
    weight = layer.weight.detach().clone()

    def output(w):
        return torch.func.functional_call(layer, {"weight": w}, (x,))

    jacobian = torch.func.jacrev(output)(weight)  # [n, o, positions..., weight...]
    o_axis = 1 if isinstance(layer, nn.modules.conv._ConvTransposeNd) else 0
    channel = jacobian[:, 0].select(-weight.dim() + o_axis, 0)  # patches seen by output channel 0
    return channel.flatten(0, layer.weight.dim() - 2).flatten(1)


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (nn.ConvTranspose1d(2, 3, 3, stride=2, padding=1, output_padding=1), (2, 4)),
        (nn.ConvTranspose2d(2, 3, (3, 2), stride=(2, 1), padding=(1, 0)), (2, 3, 4)),
        (nn.ConvTranspose2d(2, 3, 2, padding=2, dilation=2, bias=False), (2, 5, 5)),
        (nn.ConvTranspose2d(2, 3, 1, padding=1), (2, 4, 4)),
        (nn.Conv3d(2, 3, (2, 3, 2), stride=(1, 2, 1), padding=(1, 0, 1)), (2, 3, 5, 4)),
        (nn.Conv3d(2, 3, 2, padding="same", padding_mode="circular"), (2, 3, 3, 3)),
        (nn.ConvTranspose3d(2, 3, 2, stride=2), (2, 2, 2, 2)),
        (nn.Conv2d(2, 3, 3, padding=1, padding_mode="reflect", dilation=2), (2, 6, 6)),
    ],
    ids=str,
)
@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel:UserWarning")
def test_convolutions_of_every_kind_have_the_moment_of_the_patches_in_their_jacobian(layer, shape):
    torch.manual_seed(0)
    layer, x = layer.double(), data(*shape)
    outputs = layer(x)
    head = nn.Linear(outputs[0].numel(), 3).double()
    model = nn.Sequential(layer, nn.Tanh(), nn.Flatten(), head)
    targets = torch.arange(N) % 3
    first, _ = fisher_spectrum(model, x, targets, fisher="empirical")
    patches = unfolded(layer, x).numpy()
    if layer.bias is not None:
        patches = np.concatenate([patches, np.ones((len(patches), 1))], axis=1)
    y = layer(x).detach().requires_grad_()
    gradient = torch.autograd.grad(cross_entropy(head(torch.tanh(y).flatten(1)), targets), y)[0]
    rows = gradient.movedim(1, -1).reshape(-1, 3).numpy()
    np.testing.assert_allclose(first.input_eigenvalues, floored(patches.T @ patches / N), rtol=1e-7)
    np.testing.assert_allclose(first.gradient_eigenvalues, floored(rows.T @ rows / len(rows)), rtol=1e-7)
    assert first.n_weights == sum(p.numel() for p in layer.parameters())


class Named(nn.Module):
    """A module whose weights have no block, and a head."""

    def __init__(self, module, use):
        super().__init__()
        self.part, self.use, self.head = module, use, nn.Linear(4, 3)

    def forward(self, x):
        return self.head(torch.tanh(self.use(self.part, x)))


@pytest.mark.parametrize(
    ("module", "use", "named"),
    [
        (nn.Bilinear(5, 5, 4), lambda m, x: m(x, x), "part (bilinear)"),
        (nn.GRUCell(5, 4), lambda m, x: m(x), "part.weight_ih (gru_cell), part.weight_hh (gru_cell)"),
        (nn.LSTMCell(5, 4), lambda m, x: m(x)[0], "part.weight_ih (lstm_cell), part.weight_hh (lstm_cell)"),
        (nn.GRU(5, 4), lambda m, x: m(x)[0], "part.weight_ih_l0 (gru), part.weight_hh_l0 (gru)"),
        (nn.RNN(5, 4), lambda m, x: m(x)[0], "part.weight_ih_l0 (rnn_tanh), part.weight_hh_l0 (rnn_tanh)"),
        (nn.EmbeddingBag(9, 4), lambda m, x: m((x.abs() * 3).long().clamp(max=8)), "part (embedding_bag)"),
        (
            nn.Embedding(9, 4, padding_idx=0),
            lambda m, x: m((x[:, 0].abs() * 3).long().clamp(max=8)),
            "part (embedding)",
        ),
    ],
    ids=["bilinear", "gru cell", "lstm cell", "gru", "rnn", "embedding bag", "embedding"],
)
def test_weights_without_a_block_are_named_with_the_operation_that_uses_them(module, use, named):
    torch.manual_seed(0)
    with pytest.warns(SkippedLayerWarning) as caught:
        spectra = fisher_spectrum(Named(module, use).double(), data(5))
    assert f"left out of the spectrum: {named}" in str(caught[0].message)
    assert [s.name for s in spectra] == ["head"]
    assert set(spectra.coverage.left_out) == {f"part.{n}" for n, p in module.named_parameters() if p.dim() > 1}


def test_attention_with_other_keys_has_a_block_for_each_projection():
    torch.manual_seed(0)
    attention = nn.MultiheadAttention(6, 2, batch_first=True).double()

    class Cross(nn.Module):
        def __init__(self):
            super().__init__()
            self.attention, self.head = attention, nn.Linear(6, 3).double()

        def forward(self, x):
            return self.head(self.attention(x[:, :2], memory := x[:, 2:], memory)[0])

    x = data(5, 6)
    spectra = fisher_spectrum(Cross(), x, likelihood="gaussian")
    assert spectra.coverage.share == 1
    found = {s.name: s for s in spectra}
    assert [s.n_weights for s in spectra] == [6 * 7, 12 * 7, 6 * 7, 3 * 7]
    rows = np.concatenate([x[:, :2].reshape(-1, 6).numpy(), np.ones((2 * N, 1))], axis=1)
    np.testing.assert_allclose(
        found["attention.in_proj_weight[0]"].input_eigenvalues, floored(rows.T @ rows / N), rtol=1e-8
    )


def test_a_matrix_inside_torch_func_is_named():
    class Gradient(nn.Module):
        def __init__(self):
            super().__init__()
            self.energy, self.head = nn.Linear(5, 1), nn.Linear(5, 3)

        def forward(self, x):
            forces = torch.func.vmap(torch.func.grad(lambda one: torch.tanh(self.energy(one)).sum()))(x)
            return self.head(forces)

    with pytest.warns(SkippedLayerWarning, match=r"energy \(linear inside torch.func\)"):
        (head,) = fisher_spectrum(Gradient().double(), data(5))
    assert head.name == "head"


def test_padding_counts_nowhere_whatever_stands_there():
    """Right: the spectrum of the tokens alone, with padding of zeros, of ones or of noise behind them."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 6), nn.Tanh(), nn.Linear(6, 3)).double()
    x, labels = data(4, 5), torch.arange(4 * N).reshape(N, 4) % 3
    for fisher in ("empirical", "sampled"):
        key = "targets" if fisher == "empirical" else "like"
        expected = fisher_spectrum(model, x, **{key: labels}, fisher=fisher)
        for fill in (torch.zeros(N, 9, 5), torch.ones(N, 9, 5), data(9, 5, seed=3)):
            padded = torch.cat([labels, torch.full((N, 9), -100)], 1)
            found = fisher_spectrum(model, torch.cat([x, fill.double()], 1), **{key: padded}, fisher=fisher)
            for a, b in zip(found, expected, strict=True):
                np.testing.assert_allclose(a.input_eigenvalues, b.input_eigenvalues, rtol=1e-8)
                if fisher == "empirical":  # other draws otherwise
                    np.testing.assert_allclose(a.gradient_eigenvalues, b.gradient_eigenvalues, rtol=1e-8, atol=1e-8)


def test_padded_convolutions_count_the_positions_that_have_a_gradient():
    torch.manual_seed(0)
    model = nn.Conv1d(2, 3, 1).double()
    x, labels = data(2, 6), torch.arange(6 * N).reshape(N, 6) % 3
    padded = torch.where(torch.arange(6) < 4, labels, -100)
    (found,) = fisher_spectrum(model, x, padded, fisher="empirical")
    (expected,) = fisher_spectrum(model, x[:, :, :4], labels[:, :4], fisher="empirical")
    np.testing.assert_allclose(found.input_eigenvalues, expected.input_eigenvalues, rtol=1e-8)
    np.testing.assert_allclose(found.gradient_eigenvalues, expected.gradient_eigenvalues, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("form", ["labels", "column", "one-hot", "whole one-hot", "soft"])
def test_labels_of_every_form(form):
    torch.manual_seed(0)
    model, x, labels = nn.Sequential(nn.Linear(5, 3)).double(), data(5), torch.arange(N) % 3
    one_hot = functional.one_hot(labels, 3)
    targets = {
        "labels": labels,
        "column": labels[:, None],
        "one-hot": one_hot.double(),
        "whole one-hot": one_hot,
        "soft": 0.8 * one_hot.double() + 0.2 / 3,
    }[form]
    (found,) = fisher_spectrum(model, x, targets, fisher="empirical")
    y = 0.8 * one_hot + 0.2 / 3 if form == "soft" else one_hot.double()
    gradient = (model(x).softmax(-1) - y).detach().numpy()
    np.testing.assert_allclose(found.gradient_eigenvalues, floored(gradient.T @ gradient / N), rtol=1e-6)


@pytest.mark.parametrize("fisher", ["sampled", "empirical"])
@pytest.mark.parametrize("shape", [(4, 4), (7,), (3,)], ids=str)
def test_classes_in_dimension_one(shape, fisher):
    """G of the last layer, from the softmax over dimension 1; three positions and three classes fit both ways."""
    torch.manual_seed(0)
    conv = nn.Conv2d if len(shape) == 2 else nn.Conv1d
    model, x = conv(2, 3, 1).double(), data(2, *shape)
    labels = torch.randint(0, 3, (N, *shape), generator=torch.Generator().manual_seed(1))
    given = {"targets": labels} if fisher == "empirical" else {"like": labels}
    (found,) = fisher_spectrum(model, x, fisher=fisher, training_loss=functional.cross_entropy, **given)
    p = model(x).detach().softmax(1).movedim(1, -1).reshape(-1, 3)
    if fisher == "empirical":
        residual = p - functional.one_hot(labels, 3).reshape(-1, 3)
        np.testing.assert_allclose(
            found.gradient_eigenvalues, floored((residual.T @ residual / len(p)).numpy()), rtol=1e-8, atol=1e-9
        )
    else:
        assert found.gradient_eigenvalues[0] < 1e-6 * found.gradient_eigenvalues[-1]
        trace = (1 - p.square().sum(1)).mean().item()
        np.testing.assert_allclose(found.gradient_eigenvalues.sum(), trace, rtol=0.35)


def test_ruled_out_classes_are_classes_of_probability_zero():
    class Legal(nn.Module):
        def __init__(self, low):
            super().__init__()
            torch.manual_seed(0)
            self.low, self.layer = low, nn.Linear(5, 4)

        def forward(self, x):
            return self.layer(x).masked_fill(torch.arange(4) == 3, self.low)

    x, labels = data(5), torch.arange(N) % 3
    soft = functional.one_hot(labels, 4).double() * 0.9 + torch.tensor([1.0, 1, 1, 0]) * 0.1 / 3
    for targets in (None, labels, soft):
        fisher = "sampled" if targets is None else "empirical"
        (found,), (expected,) = (
            fisher_spectrum(Legal(low).double(), x, targets, fisher=fisher) for low in (-torch.inf, -1e9)
        )
        np.testing.assert_allclose(found.log_eigenvalues(), expected.log_eigenvalues(), rtol=1e-8)
    with pytest.raises(SpectrumInputError, match="name a class whose logit is minus infinity"):
        fisher_spectrum(Legal(-torch.inf).double(), x, torch.full((N,), 3), fisher="empirical")


def test_inputs_of_one_number_each_are_a_batch():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Embedding(5, 4), nn.Linear(4, 3))
    with pytest.warns(SkippedLayerWarning):
        (spectrum,) = fisher_spectrum(model, torch.arange(5))
    assert spectrum.n_weights == 15


def test_inputs_and_outputs_may_be_dictionaries():
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.layer = nn.Linear(5, 3)

        def forward(self, x, scale):
            return {"hidden": x, "logits": self.layer(x * scale)}

    model, x, scale = Model().double(), data(5), data(1, seed=1)
    (expected,) = fisher_spectrum(model.layer, x * scale)
    for inputs in ({"x": x, "scale": scale}, (x, scale)):
        (found,) = fisher_spectrum(model, inputs)
        np.testing.assert_allclose(found.log_eigenvalues(), expected.log_eigenvalues(), rtol=1e-8)


def test_parameters_gradients_inputs_and_precision_are_left_as_found():
    class Renormalises(nn.Module):
        """Changes its inputs and, by `max_norm`, its table in place, and draws from NumPy."""

        def __init__(self):
            super().__init__()
            self.words, self.out = nn.Embedding(9, 4, max_norm=0.1), nn.Linear(4, 3)

        def forward(self, tokens):
            tokens.clamp_(max=7)
            return self.out(self.words(tokens)) * float(np.random.rand())

    model, tokens = Renormalises(), torch.arange(9)
    model.words.weight.grad = torch.ones(9, 4)
    gradient, before = model.words.weight.grad, model.words.weight.detach().clone()
    places = [torch.backends.cudnn.conv, torch.backends.cudnn.rnn, torch.backends.cuda.matmul]
    precision, numpy = [place.fp32_precision for place in places], np.random.get_state()[1].copy()
    inside = []
    model.out.register_forward_hook(lambda *_: inside.append([place.fp32_precision for place in places]))
    with pytest.warns(SkippedLayerWarning):
        fisher_spectrum(model, tokens)
    assert torch.equal(model.words.weight, before)
    assert model.words.weight.grad is gradient
    assert (gradient == 1).all()
    assert tokens.tolist() == list(range(9))
    assert (np.random.get_state()[1] == numpy).all()
    assert [place.fp32_precision for place in places] == precision
    assert "tf32" not in inside[0]


def test_models_without_a_shape_yet_are_refused():
    with pytest.raises(SpectrumInputError, match=r"parameter '0.weight' has no shape yet; run the model once"):
        fisher_spectrum(nn.Sequential(nn.LazyLinear(3)), data(5))


def test_a_network_of_tables_alone_is_refused_by_name():
    with pytest.raises(NoLayers, match=r"left out: 0 \(embedding\)"):
        fisher_spectrum(nn.Sequential(nn.Embedding(5, 3)), torch.arange(5))


def test_compiled_modules_have_the_spectrum_that_they_have_uncompiled():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 6), nn.Tanh(), nn.Linear(6, 3)).double()
    compiled = nn.Sequential(model[0], torch.compile(nn.Sequential(*model[1:])))
    for a, b in zip(fisher_spectrum(compiled, data(5)), fisher_spectrum(model, data(5)), strict=True):
        np.testing.assert_array_equal(a.log_eigenvalues(), b.log_eigenvalues())


def test_a_network_that_differentiates_by_its_own_weights_is_refused_in_a_sentence():
    class InnerStep(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(5, 3)

        def forward(self, x):
            loss = self.layer(x).square().sum()
            (gradient,) = torch.autograd.grad(loss, self.layer.weight, create_graph=True)
            return functional.linear(x, self.layer.weight - 0.01 * gradient)

    with pytest.raises(SpectrumInputError, match="differentiates by its own weights"):
        fisher_spectrum(InnerStep(), data(5).float())


def test_a_reversible_function_of_the_users_own_counts_what_it_computes_again():
    class Again(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x, layer):
            ctx.layer = layer
            ctx.save_for_backward(x)
            return layer(x)

        @staticmethod
        def backward(ctx, gradient):
            with torch.enable_grad():
                x = ctx.saved_tensors[0].detach().requires_grad_()
                y = ctx.layer(x)
            torch.autograd.backward(y, gradient)
            return x.grad, None

    class Net(nn.Module):
        def __init__(self, again):
            super().__init__()
            torch.manual_seed(0)
            self.first, self.middle, self.last = nn.Linear(5, 6), nn.Linear(6, 6), nn.Linear(6, 3)
            self.again = again

        def forward(self, x):
            h = torch.tanh(self.first(x))
            h = Again.apply(h, self.middle) if self.again else self.middle(h)
            return self.last(torch.tanh(h))

    found, expected = (fisher_spectrum(Net(again).double(), data(5)) for again in (True, False))
    assert [s.name for s in found] == ["first", "middle", "last"]
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a.log_eigenvalues(), b.log_eigenvalues(), rtol=1e-8)


def test_a_layer_of_constants_has_a_block_and_weights_made_by_a_layer_do_too():
    """A network of positions, as relative attention has it, and one that makes a weight out of a learned code."""

    class Makes(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.register_buffer("grid", torch.randn(3, 2))
            self.positions, self.code, self.maker = nn.Linear(2, 5), nn.Parameter(torch.randn(3, 4)), nn.Linear(4, 5)

        def forward(self, x):
            return functional.linear(x, self.maker(self.code)) + (x @ self.positions(self.grid).T)

    with pytest.warns(SkippedLayerWarning, match=r"left out of the spectrum: code \(input of linear\)$"):
        spectra = fisher_spectrum(Makes().double(), data(5))
    assert [(s.name, s.n_weights) for s in spectra] == [("positions", 15), ("maker", 25)]
