"""Targets that do not count have no rows: held against the spectrum of the samples or positions that count, alone.

Dead rows are no padding: a ReLU that is off and a pooling that takes another position keep their rows.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from aquasurf_ray.workers.fisher.padding import Padding
from aquasurf_ray.workers.spectrum import SpectrumInputError, fisher_spectrum

N = 12


def data(*shape, seed=0):
    return torch.randn(N, *shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def built(make):
    torch.manual_seed(0)
    return make().double()


def pooled(pool):
    return nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), pool(1), nn.Flatten(), nn.Linear(4, 3))


class FirstToken(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(5, 6), nn.ReLU(), nn.Linear(6, 6), nn.ReLU())
        self.head = nn.Linear(6, 3)

    def forward(self, x):
        return self.head(self.layers(x)[:, 0])


class PositionsFirst(FirstToken):
    def forward(self, x):
        return self.head(self.layers(x.transpose(0, 1))[0])


class Flat(FirstToken):
    def forward(self, x):
        rows = self.layers(x.flatten(0, 1))
        return self.head(rows.unflatten(0, x.shape[:2])[:, 0])


class Recurrent(nn.Module):
    """A step at a time, with a state that is nothing at first."""

    def __init__(self):
        super().__init__()
        self.inner, self.state, self.head = nn.Linear(5, 6), nn.Linear(6, 6, bias=False), nn.Linear(6, 3)

    def forward(self, x):
        outputs, h = [], None
        for step in x.unbind(1):
            own = self.inner(step)
            h = torch.relu(own if h is None else own + self.state(h))
            outputs.append(self.head(h))
        return torch.stack(outputs, 1)


def assert_padding_counts_nowhere(model, x, labels, padded, alone, share):
    """The factors of `padded` are those of the samples that count, but for n, the whole batch, in A."""
    expected = fisher_spectrum(model, x[alone], labels[alone], fisher="empirical")
    found = fisher_spectrum(model, x, padded, fisher="empirical")
    assert [s.name for s in found] == [s.name for s in expected]
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a.input_eigenvalues, b.input_eigenvalues * share, rtol=1e-6, err_msg=a.name)
        np.testing.assert_allclose(a.gradient_eigenvalues, b.gradient_eigenvalues, rtol=1e-6, err_msg=a.name)


@pytest.mark.parametrize(
    ("make", "shape"),
    [
        (lambda: pooled(nn.AdaptiveMaxPool2d), (1, 6, 6)),
        (lambda: pooled(nn.AdaptiveAvgPool2d), (1, 6, 6)),
        (FirstToken, (4, 5)),
        (PositionsFirst, (4, 5)),
        (Flat, (4, 5)),
    ],
    ids=["max pooling", "average pooling", "first token", "positions first", "flat"],
)
def test_samples_without_a_label_count_nowhere_and_rows_without_a_gradient_do(make, shape):
    labels = torch.arange(N) % 3
    padded = torch.where(torch.arange(N) < N - 5, labels, -100)
    assert_padding_counts_nowhere(built(make), data(*shape), labels, padded, slice(0, N - 5), (N - 5) / N)


def test_one_label_less_changes_the_factors_by_one_sample_at_most():
    """It does not switch between two ways to count."""
    model, x, labels = built(lambda: pooled(nn.AdaptiveMaxPool2d)), data(1, 12, 12), torch.arange(N) % 3
    whole, _ = fisher_spectrum(model, x, labels, fisher="empirical")
    one_less, _ = fisher_spectrum(model, x, torch.where(torch.arange(N) == 3, -100, labels), fisher="empirical")
    ratio = one_less.input_eigenvalues.sum() / whole.input_eigenvalues.sum()
    assert 1 - 3 / N < ratio < 1


@pytest.mark.parametrize("n_last", [0, 2])
def test_a_custom_recurrent_network_has_the_rows_of_the_steps_that_count(n_last):
    """Right: rows written down step by step, with those of the samples that are still within their length."""
    model, x = built(Recurrent), data(4, 5)
    lengths = torch.where(torch.arange(N) < 5, 4, max(1, n_last))
    counted = torch.arange(4) < lengths[:, None]
    padded = torch.where(counted, torch.arange(4 * N).reshape(N, 4) % 3, -100)
    found = {s.name: s for s in fisher_spectrum(model, x, padded, fisher="empirical")}
    inner, states, outputs, h = [], [], [], None
    for step in x.unbind(1):
        inner.append(model.inner(step))
        states.append((h, model.state(h)) if h is not None else None)
        h = torch.relu(inner[-1] if h is None else inner[-1] + states[-1][1])
        outputs.append(model.head(h))
    loss = functional.cross_entropy(torch.stack(outputs, 1).flatten(0, 1), padded.flatten(), reduction="sum")
    gradients = torch.autograd.grad(loss, [*inner, *(y for _, y in states[1:])])
    x_rows = torch.cat([x[:, t][counted[:, t]] for t in range(4)])
    x_rows = torch.cat([x_rows, torch.ones(len(x_rows), 1)], 1)
    h_rows = torch.cat([states[t][0][counted[:, t]] for t in range(1, 4)]).detach()
    g_inner = torch.cat([gradients[t][counted[:, t]] for t in range(4)])
    g_state = torch.cat([gradients[3 + t][counted[:, t]] for t in range(1, 4)])
    for name, rows, g in (("inner", x_rows, g_inner), ("state", h_rows, g_state)):
        for eigenvalues, matrix in (
            (found[name].input_eigenvalues, rows.T @ rows / N),
            (found[name].gradient_eigenvalues, g.T @ g / len(g)),
        ):
            expected = torch.linalg.eigvalsh(matrix).numpy()
            np.testing.assert_allclose(eigenvalues, expected, rtol=1e-6, atol=1e-7 * expected.max(), err_msg=name)


@pytest.mark.slow
def test_answers_that_do_not_count_enter_neither_the_drawn_nor_the_given_fisher():
    """Right: the block of the outputs that count alone, from their logits. The answers are yes or no, or -100."""
    model, x = built(lambda: nn.Linear(5, 4)), data(5)
    answers = (torch.arange(4 * N).reshape(N, 4) % 3 == 0).long()
    counted = torch.arange(4) < 2
    padded = torch.where(counted, answers, -100)
    chance = model(x).sigmoid().detach()
    for targets in (padded, padded.double(), padded.float()):
        (given,) = fisher_spectrum(model, x, targets, fisher="empirical", likelihood="bernoulli")
        g = torch.where(counted, chance - answers, 0.0)
        expected = torch.linalg.eigvalsh(g.T @ g / N).numpy()
        np.testing.assert_allclose(given.gradient_eigenvalues[2:], expected[2:], rtol=1e-7)
        assert given.gradient_eigenvalues[:2].max() <= 1e-6 * expected.max()
        traces = [
            fisher_spectrum(model, x, like=targets, likelihood="bernoulli", seed=seed)[0].gradient_eigenvalues.sum()
            for seed in range(400)
        ]
        variance = (chance * (1 - chance))[:, :2].sum(1).mean().item()
        assert np.mean(traces) == pytest.approx(variance, rel=0.05)


def test_answers_of_another_shape_and_none_that_counts_are_refused():
    model, x = nn.Linear(5, 4).double(), data(5)
    padded = torch.full((N, 4), -100)
    with pytest.raises(SpectrumInputError, match="must not all be -100"):
        fisher_spectrum(model, x, padded, fisher="empirical", likelihood="bernoulli")
    with pytest.raises(SpectrumInputError, match=r"must have shape \(12, 4\) as these outputs, got \(12, 3\)"):
        fisher_spectrum(model, x, like=padded[:, :3], likelihood="bernoulli")


@pytest.mark.parametrize(
    ("targets", "rows", "values", "expected"),
    [
        ((2, 1), (2, 3), False, [[1, 1, 1], [0, 0, 0]]),
        ((2, 3), (2, 3), False, [[1, 0, 0], [0, 0, 0]]),
        ((2, 3), (2, 2, 3), False, [[[1, 0, 0]] * 2, [[0, 0, 0]] * 2]),
        ((2, 3), (3, 2), False, [[1, 0], [0, 0], [0, 0]]),
        ((2, 3), (6,), False, [1, 0, 0, 0, 0, 0]),
        ((2, 4), (2, 2), False, [[1, 0], [0, 0]]),
        ((2, 4), (2, 2), True, [[1, 1], [0, 0]]),
        ((2, 4), (2,), False, [1, 0]),
        ((2, 3), (5,), False, None),
        ((2, 1, 2, 2), (2, 4, 4), False, [[[1, 1, 0, 0]] * 2 + [[0] * 4] * 2, [[0] * 4] * 4]),
    ],
)
def test_the_first_guess_by_shapes_in_every_form(targets, rows, values, expected):
    """Of the targets, the first position of the first sample counts."""
    counted = torch.zeros(targets, dtype=torch.bool)
    counted.view(-1)[0] = True
    guesses = [mask for masks in Padding(counted, values).guesses(rows) for mask in masks]
    assert (guesses[0].int().tolist() if guesses else None) == expected
