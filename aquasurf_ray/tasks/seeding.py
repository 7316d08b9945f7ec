"""The global random generators of a process, set for one piece of work and left as they were found."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

NUMPY_SEEDS = 2**32  # NumPy's global generator takes smaller seeds only


@contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Set the global generators of torch (CPU and `device`), NumPy and Python to `seed`; afterwards restore them."""
    gpus = [device] if device.type == "cuda" else []
    python, numpy = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=gpus):
        # Not torch.manual_seed, which would set the generators of all GPUs, too.
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
