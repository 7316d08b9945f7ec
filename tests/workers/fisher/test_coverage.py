"""Which share of the trained weights a spectrum covers: numbers counted by hand."""

from __future__ import annotations

import pickle

import pytest
import torch
from torch import nn

from aquasurf_ray.workers.fisher.coverage import Coverage
from aquasurf_ray.workers.spectrum import SkippedLayerWarning, fisher_spectrum


class Language(nn.Module):
    """A table of 7 words, a bare position table, a norm, a layer that is half frozen, and one that nothing reads."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.words, self.positions = nn.Embedding(7, 4), nn.Parameter(torch.zeros(3, 4))
        self.norm, self.layer, self.unused, self.frozen = (
            nn.LayerNorm(4),
            nn.Linear(4, 5),
            nn.Linear(4, 4),
            nn.Linear(5, 5),
        )
        self.frozen.requires_grad_(False)

    def forward(self, tokens):
        return self.frozen(torch.tanh(self.layer(self.norm(self.words(tokens) + self.positions))))


def test_trained_weights_are_counted_and_matrices_without_a_block_are_named():
    with pytest.warns(SkippedLayerWarning) as caught:
        spectra = fisher_spectrum(Language(), torch.randint(7, (8, 3)))
    coverage = spectra.coverage
    n_weights = 28 + 12 + 8 + 25 + 20
    assert (coverage.n_matrices, coverage.n_covered_matrices) == (4, 1)
    assert (coverage.n_weights, coverage.n_covered_weights) == (n_weights, 25)
    assert coverage.left_out == {
        "words.weight": "embedding",
        "positions": "add",
        "unused.weight": "no gradient",
    }
    assert coverage.is_small
    assert str(caught[0].message) == (
        "the spectrum covers less than half of the weights: 1 of 4 matrices, 26.9% of 93 weights; "
        "left out of the spectrum: positions (add), words (embedding), unused (no gradient)"
    )


def test_a_whole_network_has_no_warning_and_its_share_is_one():
    spectra = fisher_spectrum(nn.Linear(3, 2), torch.randn(5, 3))
    assert spectra.coverage == Coverage(1, 1, 8, 8, {}, {})
    assert spectra.coverage.warning() is None


def test_a_share_is_never_rounded_up_to_all():
    assert str(Coverage(9, 9, 100_000, 99_999, {}, {})) == "9 of 9 matrices, 99.9% of 100,000 weights"


def test_spectra_with_their_coverage_can_be_pickled():
    spectra = fisher_spectrum(nn.Linear(3, 2), torch.randn(5, 3))
    again = pickle.loads(pickle.dumps(spectra))
    assert isinstance(again, list)
    assert (again.coverage, again[0].name, len(again)) == (spectra.coverage, "", 1)
