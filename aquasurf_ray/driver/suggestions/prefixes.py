"""The number of candidates that a suggestion chooses from.

The embedding is computed for growing prefixes of the candidate list, so that the search starts before all spectra are
known: a quarter of the candidates (32 at least, 256 at most) for the first eight suggestions, then twice as many for
each further eight, until all are included. The prefix for suggestion i depends only on i, not on timing, so that one
worker and one seed give one sequence of suggestions.
"""

from __future__ import annotations

import math

FIRST_PREFIX_AT_LEAST = 32
FIRST_PREFIX_AT_MOST = 256
SUGGESTIONS_A_STAGE = 8


def prefix_length(suggestion: int, n_candidates: int, first: int | None = None) -> int:
    """Return how many candidates the suggestion with this number (from 0) chooses from.

    `first` is the length for the first suggestions. With `first` equal to the number of candidates, all spectra come
    first, which is the procedure of the paper.

    >>> [prefix_length(i, 200) for i in (0, 7, 8, 16, 40)]
    [50, 50, 100, 200, 200]
    >>> [prefix_length(i, 2799) for i in (0, 8, 16, 24, 32)]
    [256, 512, 1024, 2048, 2799]
    """
    if first is None:
        first = min(max(FIRST_PREFIX_AT_LEAST, math.ceil(n_candidates / 4)), FIRST_PREFIX_AT_MOST)
    stage = min(suggestion // SUGGESTIONS_A_STAGE, 32)  # more doublings than any list of candidates needs
    return min(n_candidates, first << stage)
