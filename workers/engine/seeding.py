"""Random numbers that depend on nothing but seed, epoch and purpose, and leave the global generators alone."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

NUMPY_SEEDS = 2**32


def stream_seed(*key: int | str) -> int:
    """A seed of 63 bits for a stream of its own, from any numbers and words.

    >>> stream_seed(0, 1, "augment") == stream_seed(0, 1, "augment") != stream_seed(0, 2, "augment")
    True
    """
    digest = hashlib.blake2b(repr(key).encode(), digest_size=8).digest()
    return int.from_bytes(digest) >> 1


@contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """The global generators of torch (CPU and `device`), NumPy and Python set to `seed`, then as they were again."""
    gpus = [device] if device.type == "cuda" else []
    python, numpy = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=gpus):
        torch.default_generator.manual_seed(seed)
        np.random.seed(seed % NUMPY_SEEDS)
        random.seed(seed)
        if gpus:
            with torch.cuda.device(device):
                torch.cuda.manual_seed(seed)
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)
