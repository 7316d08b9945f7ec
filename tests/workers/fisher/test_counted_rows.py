"""Rows of padding count nowhere, whatever the layout of the rows: held against rows that are written down by hand.

The expected factors are sums over the rows of the targets that count, in float64, with gradients by
`torch.autograd.grad`. Which rows those are is known without any gradient where a layer only moves rows: the mask of the
targets is moved in the same way. Where rows mix, as in attention, each target that counts is differentiated by itself.
"""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from aquasurf_ray.workers.fisher.moments import ABSOLUTE_FLOOR, RELATIVE_FLOOR
from aquasurf_ray.workers.spectrum import SpectrumInputError, UncertainRowsWarning, fisher_spectrum

CLASSES, WIDTH, HIDDEN = 3, 5, 3


def data(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def built(make, *args):
    torch.manual_seed(0)
    return make(*args).double()


def up_to_a_length(n, t):
    """Labels (n, t) with padding at the end; one sample has nothing else."""
    lengths = torch.arange(n) % (t + 1)
    return torch.where(torch.arange(t) < lengths[:, None], torch.arange(n * t).reshape(n, t) % CLASSES, -100)


def scattered(n, t):
    return torch.where(torch.arange(n * t).reshape(n, t) % 7 < 3, -100, torch.arange(n * t).reshape(n, t) % CLASSES)


def unlabelled_samples(n, t):
    labels = torch.arange(n * t).reshape(n, t) % CLASSES
    return torch.where((torch.arange(n) % 3 == 0)[:, None], -100, labels)


def order(n):
    return torch.randperm(n, generator=torch.Generator().manual_seed(3))


# A layout is what moves data (n, t, d) into a list of tensors [..., d], one for each use of a layer, and what moves
# them back.


def whole(there, back):
    return lambda x: [there(x)], lambda parts, n, t: back(parts[0], n, t)


LAYOUTS = {
    "samples first": whole(lambda x: x, lambda y, n, t: y),
    "flat": whole(lambda x: x.flatten(0, 1), lambda y, n, t: y.unflatten(0, (n, t))),
    "positions first": whole(lambda x: x.transpose(0, 1), lambda y, n, t: y.transpose(0, 1)),
    "positions first, flat": whole(
        lambda x: x.transpose(0, 1).flatten(0, 1), lambda y, n, t: y.unflatten(0, (t, n)).transpose(0, 1)
    ),
    "a dimension of one between": whole(lambda x: x[:, None], lambda y, n, t: y[:, 0]),
    "a dimension of one before": whole(lambda x: x[None].transpose(1, 2), lambda y, n, t: y.transpose(1, 2)[0]),
    "positions permuted": whole(lambda x: x[:, order(x.shape[1])], lambda y, n, t: y[:, order(t).argsort()]),
    "samples permuted": whole(lambda x: x[order(len(x))], lambda y, n, t: y[order(n).argsort()]),
    "all permuted": whole(
        lambda x: x.flatten(0, 1)[order(x.shape[0] * x.shape[1])],
        lambda y, n, t: y[order(n * t).argsort()].unflatten(0, (n, t)),
    ),
    "two views": whole(lambda x: torch.cat([x, x]), lambda y, n, t: (y[:n] + y[n:]) / 2),
    "two views in turn": whole(lambda x: x.repeat_interleave(2, 0), lambda y, n, t: (y[::2] + y[1::2]) / 2),
    "two views of positions": whole(lambda x: torch.cat([x, x], 1), lambda y, n, t: (y[:, :t] + y[:, t:]) / 2),
    "steps": (lambda x: list(x.unbind(1)), lambda parts, n, t: torch.stack(parts, 1)),
    "steps backwards": (lambda x: list(x.unbind(1))[::-1], lambda parts, n, t: torch.stack(parts[::-1], 1)),
    "steps in chunks": (lambda x: list(x.split(2, 1)), lambda parts, n, t: torch.cat(parts, 1)),
    "chunks of the batch": (lambda x: list(x.split(3)), lambda parts, n, t: torch.cat(parts)),
    "a sample at a time": (lambda x: list(x.unbind(0)), lambda parts, n, t: torch.stack(parts)),
    "a row at a time": (
        lambda x: list(x.flatten(0, 1).unbind(0)),
        lambda parts, n, t: torch.stack(parts).unflatten(0, (n, t)),
    ),
    "every second sample": (
        lambda x: [x[::2], x[1::2]],
        lambda parts, n, t: torch.cat(parts)[torch.cat([torch.arange(n)[::2], torch.arange(n)[1::2]]).argsort()],
    ),
    "two passes": (lambda x: [x, x], lambda parts, n, t: (parts[0] + parts[1]) / 2),
    "two passes, one positions first": (
        lambda x: [x, x.transpose(0, 1)],
        lambda parts, n, t: (parts[0] + parts[1].transpose(0, 1)) / 2,
    ),
}
CHECKPOINTS = {"plain": None, "checkpointed": False, "checkpointed, reentrant": True}


class Moved(nn.Module):
    """Two layers on rows in a layout, each part of it checkpointed or not."""

    def __init__(self, layout, activation, reentrant=None):
        super().__init__()
        self.inner, self.head = nn.Linear(WIDTH, HIDDEN), nn.Linear(HIDDEN, CLASSES)
        self.there, self.back = LAYOUTS[layout]
        self.activation, self.reentrant = activation, reentrant

    def part(self, rows):
        return self.head(self.activation(self.inner(rows)))

    def forward(self, x):
        if self.reentrant is None:
            parts = [self.part(rows) for rows in self.there(x)]
        else:
            x = x.detach().requires_grad_()
            parts = [checkpoint(self.part, rows, use_reentrant=self.reentrant) for rows in self.there(x)]
        return self.back(parts, *x.shape[:2])

    def uses(self, x):
        """Return the outputs, and of both layers the (input, output) of each use."""
        inner = [(rows, self.inner(rows)) for rows in self.there(x)]
        head = [(h, self.head(h)) for h in (self.activation(y) for _, y in inner)]
        return self.back([y for _, y in head], *x.shape[:2]), {"inner": inner, "head": head}


def floored(matrix):
    values = np.linalg.eigvalsh(matrix.detach().numpy())
    return np.sort(np.maximum(values, max(RELATIVE_FLOOR * values.max(), ABSOLUTE_FLOOR)))


def expected_factors(outputs, labels, uses, masks, n):
    """Eigenvalues of A and G of each block, of the rows that count."""
    loss = functional.cross_entropy(outputs.reshape(-1, CLASSES), labels.reshape(-1), reduction="sum")
    found = {}
    for name, pairs in uses.items():
        gradients = torch.autograd.grad(loss, [y for _, y in pairs], retain_graph=True, allow_unused=True)
        counted = torch.cat([mask.flatten() for mask in masks[name]])
        x = torch.cat([x.reshape(-1, x.shape[-1]) for x, _ in pairs])[counted]
        g = torch.cat(
            [
                (torch.zeros_like(y) if d is None else d).reshape(-1, y.shape[-1])
                for d, (_, y) in zip(gradients, pairs, strict=True)
            ]
        )
        x = torch.cat([x, torch.ones(len(x), 1)], 1)
        found[name] = floored(x.T @ x / n), floored(g.T @ g / int(counted.sum()))
    return found


def assert_factors(spectrum, expected):
    found = {s.name: s for s in spectrum}
    for name, (a, g) in expected.items():
        np.testing.assert_allclose(found[name].input_eigenvalues, a, rtol=1e-6, err_msg=f"A of {name}")
        np.testing.assert_allclose(found[name].gradient_eigenvalues, g, rtol=1e-6, atol=1e-14, err_msg=f"G of {name}")


@pytest.mark.parametrize("activation", [torch.tanh, torch.relu], ids=["tanh", "relu"])
@pytest.mark.parametrize("padded", [up_to_a_length, scattered, unlabelled_samples])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.slow
def test_rows_of_targets_that_count_alone_count_in_every_layout(layout, padded, activation):
    """With ReLU, about one row in eight has no unit that is on, and counts as if it had."""
    for n, t in ((9, 4), (5, 5)):
        labels, x = padded(n, t), data(n, t, WIDTH)
        model = built(Moved, layout, activation)
        outputs, uses = model.uses(x)
        masks = [mask[..., 0] for mask in model.there((labels != -100)[..., None])]
        expected = expected_factors(outputs, labels, uses, {"inner": masks, "head": masks}, n)
        assert_factors(fisher_spectrum(model, x, labels, fisher="empirical"), expected)


@pytest.mark.parametrize("reentrant", [False, True], ids=["not reentrant", "reentrant"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_checkpointed_layers_have_the_rows_of_plain_ones(layout, reentrant):
    labels, x = up_to_a_length(9, 4), data(9, 4, WIDTH)
    plain, checkpointed = built(Moved, layout, torch.relu), built(Moved, layout, torch.relu, reentrant)
    for kind in ({"targets": labels, "fisher": "empirical"}, {"like": labels}):
        for a, b in zip(fisher_spectrum(plain, x, **kind), fisher_spectrum(checkpointed, x, **kind), strict=True):
            assert a.name == b.name
            np.testing.assert_allclose(a.input_eigenvalues, b.input_eigenvalues, rtol=1e-9)
            np.testing.assert_allclose(a.gradient_eigenvalues, b.gradient_eigenvalues, rtol=1e-9)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_what_stands_in_padding_changes_nothing(layout):
    labels, x = scattered(9, 4), data(9, 4, WIDTH)
    other = torch.where((labels == -100)[..., None], 100.0, x)
    model = built(Moved, layout, torch.tanh)
    for a, b in zip(fisher_spectrum(model, x, like=labels), fisher_spectrum(model, other, like=labels), strict=True):
        np.testing.assert_allclose(a.input_eigenvalues, b.input_eigenvalues, rtol=1e-9)


class Attention(nn.Module):
    """Self-attention that may see padding, written out, with positions first or samples first."""

    def __init__(self, positions_first, sees_padding):
        super().__init__()
        self.q, self.k, self.v = (nn.Linear(WIDTH, 4) for _ in range(3))
        self.head = nn.Linear(4, CLASSES)
        self.positions_first, self.sees_padding = positions_first, sees_padding

    def forward(self, x, is_padding):
        return self.run(x, is_padding)[0]

    def run(self, x, is_padding):
        rows = x.transpose(0, 1) if self.positions_first else x
        uses = {name: [(rows, layer(rows))] for name, layer in (("q", self.q), ("k", self.k), ("v", self.v))}
        q, k, v = (uses[name][0][1].transpose(0, 1) if self.positions_first else uses[name][0][1] for name in "qkv")
        scores = q @ k.mT
        if not self.sees_padding:
            scores = scores.masked_fill(is_padding[:, None], -1e9)
        h = scores.softmax(-1) @ v
        uses["head"] = [(h, self.head(h))]
        return uses["head"][0][1], uses


def rows_reached(outputs, labels, uses):
    """Differentiate each target that counts by itself."""
    masks = {name: [torch.zeros(y.shape[:-1], dtype=torch.bool) for _, y in pairs] for name, pairs in uses.items()}
    for place in (labels != -100).nonzero().tolist():
        weights = data(CLASSES, seed=1)
        for name, pairs in uses.items():
            gradients = torch.autograd.grad(
                outputs[tuple(place)] @ weights, [y for _, y in pairs], retain_graph=True, allow_unused=True
            )
            for mask, g in zip(masks[name], gradients, strict=True):
                if g is not None:
                    mask |= (g != 0).any(-1)
    return masks


@pytest.mark.parametrize("positions_first", [False, True], ids=["samples first", "positions first"])
@pytest.mark.parametrize("sees_padding", [False, True], ids=["masked", "seen"])
@pytest.mark.parametrize(("n", "t"), [(7, 4), (5, 5)])
def test_padding_counts_in_a_block_only_where_attention_reads_it(positions_first, sees_padding, n, t):
    labels, x = up_to_a_length(n, t), data(n, t, WIDTH)
    is_padding = labels == -100
    model = built(Attention, positions_first, sees_padding)
    outputs, uses = model.run(x, is_padding)
    masks = rows_reached(outputs, labels, uses)
    for name in "qk":  # a token that reads itself alone gives them no gradient, and has its row
        masks[name][0] |= ~is_padding.T if positions_first else ~is_padding
    n_real = int((~is_padding).sum())
    assert int(masks["v"][0].sum()) == (int((~is_padding).any(1).sum()) * t if sees_padding else n_real)
    expected = expected_factors(outputs, labels, uses, masks, n)
    assert_factors(fisher_spectrum(model, (x, is_padding), labels, fisher="empirical"), expected)


class WordModel(nn.Module):
    """An LSTM with positions first, and a decoder on all words in one dimension."""

    def __init__(self):
        super().__init__()
        self.table, self.recurrent, self.decoder = nn.Embedding(10, 8), nn.LSTM(8, 6), nn.Linear(6, CLASSES)

    def run(self, ids):
        states, _ = self.recurrent(self.table(ids.T))
        rows = states.flatten(0, 1)
        logits = self.decoder(rows)
        return logits.unflatten(0, ids.T.shape).transpose(0, 1), {"decoder": [(rows, logits)]}

    def forward(self, ids):
        return self.run(ids)[0]


def test_the_decoder_of_a_word_model_has_the_rows_of_words_that_count():
    ids = torch.arange(12 * 9).reshape(12, 9) * 7 % 10
    labels = up_to_a_length(12, 9)
    model = built(WordModel)
    outputs, uses = model.run(ids)
    masks = {"decoder": [(labels != -100).T]}
    expected = expected_factors(outputs, labels, uses, masks, len(ids))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        spectrum = fisher_spectrum(model, ids, labels, fisher="empirical")
    assert_factors(spectrum, expected)


class Encoder(nn.Module):
    def __init__(self, batch_first):
        super().__init__()
        layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=batch_first)
        self.encoder, self.head = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False), nn.Linear(8, CLASSES)
        self.batch_first = batch_first

    def forward(self, x, is_padding):
        rows = x if self.batch_first else x.transpose(0, 1)
        outputs = self.head(self.encoder(rows, src_key_padding_mask=is_padding))
        return outputs if self.batch_first else outputs.transpose(0, 1)


@pytest.mark.parametrize(("n", "t"), [(7, 5), (6, 6)])
def test_pytorchs_encoder_has_one_spectrum_in_both_layouts(n, t):
    labels, x = up_to_a_length(n, t), data(n, t, 8)
    labels[:, 0] = 0  # attention to nothing at all is NaN
    first, second = (
        fisher_spectrum(built(Encoder, batch_first), (x, labels == -100), labels, fisher="empirical")
        for batch_first in (True, False)
    )
    for a, b in zip(first, second, strict=True):
        np.testing.assert_allclose(a.input_eigenvalues, b.input_eigenvalues, rtol=1e-6)
        np.testing.assert_allclose(a.gradient_eigenvalues, b.gradient_eigenvalues, rtol=1e-6, atol=1e-14)


def test_a_row_whose_gradient_happens_to_be_zero_counts():
    """Inputs of zero have the logit 0, and a target of one half has no gradient there."""
    model = nn.Linear(WIDTH, 1, bias=False).double()
    x = torch.cat([torch.zeros(4, WIDTH, dtype=torch.float64), data(8, WIDTH)])
    targets = torch.full((12, 1), 0.5, dtype=torch.float64)
    targets[10:] = -100
    (found,) = fisher_spectrum(model, x, targets, fisher="empirical", likelihood="bernoulli")
    g = (model(x).sigmoid() - 0.5)[:10]
    assert g[:4].abs().max() == 0
    np.testing.assert_allclose(found.gradient_eigenvalues, [(g.square().sum() / 10).item()], rtol=1e-9)
    np.testing.assert_allclose(found.input_eigenvalues, floored(x[:10].T @ x[:10] / 12), rtol=1e-9)


def test_layers_before_a_weight_of_zero_have_the_rows_in_whose_place_targets_count():
    labels, x = up_to_a_length(9, 4), data(9, 4, WIDTH)
    model = built(Moved, "positions first, flat", torch.tanh)
    nn.init.zeros_(model.head.weight)
    outputs, uses = model.uses(x)
    masks = [(labels != -100).T]
    expected = expected_factors(outputs, labels, uses, {"inner": masks, "head": masks}, 9)
    spectrum = fisher_spectrum(model, x, labels, fisher="empirical")
    np.testing.assert_allclose(spectrum[0].input_eigenvalues, expected["inner"][0], rtol=1e-6)
    assert_factors(spectrum[1:], {"head": expected["head"]})


def test_generators_are_left_as_found_and_further_passes_change_no_draw():
    """Dropout has the masks that it has without padding, so the factors of all rows but one are the same."""
    model = nn.Sequential(nn.Linear(WIDTH, 6), nn.Dropout(0.5), nn.Linear(6, CLASSES)).double()
    x, labels = data(8, WIDTH), torch.arange(8) % CLASSES
    before = torch.get_rng_state()
    _, last = fisher_spectrum(model, x, torch.where(torch.arange(8) == 7, -100, labels), fisher="empirical")
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(0)
    h = model[:2](x)
    rows = torch.cat([h, torch.ones(8, 1)], 1)[:7]
    np.testing.assert_allclose(last.input_eigenvalues, floored(rows.T @ rows / 8), rtol=1e-6)


class Counter(nn.Module):
    """Has one more layer each time that it runs."""

    def __init__(self):
        super().__init__()
        self.layer, self.head, self.runs = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, CLASSES), [0]

    def part(self, x):
        self.runs[0] += 1
        for _ in range(self.runs[0]):
            x = self.layer(x)
        return x

    def forward(self, x):
        return self.head(checkpoint(self.part, x.detach().requires_grad_(), use_reentrant=True))


def test_checkpoints_that_run_differently_each_time_are_refused_beside_padding():
    with pytest.raises(SpectrumInputError, match="run differently in each backward pass, at 'layer', so the rows"):
        fisher_spectrum(built(Counter), data(6, WIDTH), torch.tensor([0, 1, 2, 0, 1, -100]), fisher="empirical")


class Chosen(nn.Module):
    """Moves some rows into one dimension, from which no sample can be found again."""

    def __init__(self):
        super().__init__()
        self.inner, self.head = nn.Linear(WIDTH, 2), nn.Linear(2, CLASSES)

    def forward(self, x):
        chosen = x.flatten(0, 1)[: x.shape[0] * x.shape[1] - 1]
        h = torch.relu(self.inner(chosen))
        h = torch.cat([h, torch.zeros_like(h[:1])]).unflatten(0, x.shape[:2])
        return self.head(h)


def test_rows_of_which_nothing_tells_whether_they_count_are_named():
    labels, x = scattered(7, 3), data(7, 3, WIDTH)
    with pytest.warns(UncertainRowsWarning, match="which are counted, of: inner$"):
        fisher_spectrum(built(Chosen), x, labels, fisher="empirical")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fisher_spectrum(built(Chosen), x, scattered(7, 3).clamp(min=0), fisher="empirical")


class FirstOfEach(nn.Module):
    """Reads one sample at a time, and classifies it by its first position."""

    def __init__(self):
        super().__init__()
        self.inner, self.head = nn.Linear(WIDTH, HIDDEN), nn.Linear(HIDDEN, CLASSES)

    def forward(self, x):
        return torch.stack([self.head(torch.tanh(self.inner(sample))[0]) for sample in x])


def test_positions_that_no_gradient_reaches_count_with_their_sample_if_its_rows_are_a_use_of_their_own():
    x = data(7, 4, WIDTH)
    labels = torch.tensor([0, -100, 2, 0, -100, 2, 1])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        inner, _ = fisher_spectrum(built(FirstOfEach), x, labels, fisher="empirical")
    rows = torch.cat([x[labels != -100].flatten(0, 1), torch.ones(20, 1)], 1)
    np.testing.assert_allclose(inner.input_eigenvalues, floored(rows.T @ rows / 7), rtol=1e-6)
    with pytest.warns(UncertainRowsWarning, match="which are counted, of: inner$"):
        fisher_spectrum(built(FirstOfEach), data(4, 4, WIDTH), labels[:4], fisher="empirical")


class Energies(nn.Module):
    """Returns energies and adds the forces, derivatives of all energies by the positions, to them."""

    def __init__(self):
        super().__init__()
        self.inner, self.head = nn.Linear(WIDTH, HIDDEN), nn.Linear(HIDDEN, CLASSES)

    def forward(self, x):
        x = x.detach().requires_grad_()
        h = torch.tanh(self.inner(x))
        forces = torch.autograd.grad(h.square().sum(), x, create_graph=True)[0]
        return self.head(h + forces[..., :HIDDEN])


def test_networks_that_differentiate_in_their_forward_pass_have_the_rows_that_count():
    x, labels = data(9, WIDTH), torch.tensor([0, 1, -100, 2, 0, -100, 1, 2, 0])
    k = labels != -100
    model = built(Energies)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = fisher_spectrum(model, x, labels, fisher="empirical")
        alone = fisher_spectrum(model, x[k], labels[k], fisher="empirical")
    for a, b in zip(found, alone, strict=True):
        np.testing.assert_allclose(a.input_eigenvalues, b.input_eigenvalues * 7 / 9, rtol=1e-6)
        np.testing.assert_allclose(a.gradient_eigenvalues, b.gradient_eigenvalues, rtol=1e-6, atol=1e-14)
