"""What to do next, as pure decisions: which candidates, how many of them must have a spectrum by when.

The embedding is computed for growing prefixes of the candidate list, so that the search starts before all spectra are
known: a quarter of the candidates (32 at least, 256 at most) for the first eight suggestions, then twice as many for
each further eight, until all are in. The prefix that suggestion i uses depends on i alone, not on timing, so that one
worker and one seed give one sequence of suggestions.
"""

from __future__ import annotations

import math

FIRST_PREFIX_AT_LEAST = 32
FIRST_PREFIX_AT_MOST = 256
SUGGESTIONS_A_STAGE = 8


def prefix_length(suggestion: int, n_candidates: int, first: int | None = None) -> int:
    """How many candidates the embedding for the suggestion with this number (from 0) covers.

    `first` is the number for the first suggestions; as many as there are candidates gives the paper's way, all
    spectra first.

    >>> [prefix_length(i, 200) for i in (0, 7, 8, 16, 40)]
    [50, 50, 100, 200, 200]
    >>> [prefix_length(i, 2799) for i in (0, 8, 16, 24, 32)]
    [256, 512, 1024, 2048, 2799]
    """
    if first is None:
        first = min(max(FIRST_PREFIX_AT_LEAST, math.ceil(n_candidates / 4)), FIRST_PREFIX_AT_MOST)
    stage = min(suggestion // SUGGESTIONS_A_STAGE, 32)
    return min(n_candidates, first << stage)


def batch_size(seconds_a_function: float | None, n_open: int, n_workers: int) -> int:
    """How many spectra to give a worker at once: about one second's work, and no more than its share of the rest."""
    if seconds_a_function is None:
        return 1
    affordable = int(1.0 / max(seconds_a_function, 1e-3))
    return max(1, min(affordable, math.ceil(n_open / n_workers), 64))
