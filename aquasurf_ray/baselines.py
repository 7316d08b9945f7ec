"""The functions that every search trains first, and the one that all others are compared with.

Both are plain names, so that code which needs only the names does not import PyTorch.
"""

from __future__ import annotations

from typing import Literal

BASELINES: tuple[str, ...] = (
    "elu(x)",
    "relu(x)",
    "selu(x)",
    "sigmoid(x)",
    "softplus(x)",
    "softsign(x)",
    "swish(x)",
    "tanh(x)",
)
"""The eight baselines of the paper (Bingham and Miikkulainen 2023), in the order in which they are trained."""

BaselineSet = Literal["paper", "zoo"]
"""The eight baselines of the paper, or these and all other functions of the zoo: `activations.zoo.baseline_names`."""

REFERENCE = "relu(x)"
"""The baseline that gains, costs and gradients are relative to."""
