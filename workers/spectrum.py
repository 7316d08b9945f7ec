"""The Fisher spectrum of an untrained network: per-layer eigenvalues of the Fisher information matrix.

The matrix F = E[grad L grad L'] over inputs and targets is approximated by one block a layer, and each block by a
Kronecker product A (x) G (K-FAC: Martens and Grosse 2015, arXiv 1503.05671; Grosse and Martens 2016, arXiv
1602.01407). So a layer's eigenvalues are the pairwise products of its factors' eigenvalues, and a `LayerSpectrum`
holds the factors' only: 1,921 numbers instead of 331,968 for the largest layer of All-CNN-C.

`workers.fisher.factors` fixes the normalisation and which layers have a block; `workers.fisher.moments` the floor.
Knows neither Ray nor SQL. `surrogate.spectra` makes the features that are stored and compared.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from aquasurf_ray.activations import lean_factory
from aquasurf_ray.tasks import Splits, Task
from aquasurf_ray.tasks.objective import Likelihood
from aquasurf_ray.workers.fisher.capture import collect_factors
from aquasurf_ray.workers.fisher.errors import (
    NoLayers,
    NonFiniteSpectrum,
    SkippedLayerWarning,
    SpectrumError,
    SpectrumInputError,
)
from aquasurf_ray.workers.fisher.factors import LayerFactors
from aquasurf_ray.workers.fisher.likelihood import likelihood_named
from aquasurf_ray.workers.network import spectrum_batch, untrained_network

__all__ = [
    "LayerSpectrum",
    "NoLayers",
    "NonFiniteSpectrum",
    "SkippedLayerWarning",
    "SpectrumError",
    "SpectrumInputError",
    "fisher_spectrum",
    "task_spectrum",
]

Fisher = Literal["sampled", "empirical"]


@dataclass(frozen=True, eq=False)
class LayerSpectrum:
    """The spectrum of one layer's Fisher block.

    Attributes:
        name: the layer's name in the model.
        n_weights: trained weights and biases, which is the number of eigenvalues.
        input_eigenvalues: of A, ascending, float64, positive: [a], or [groups, a] of a grouped convolution.
        gradient_eigenvalues: of G likewise: [g], or [groups, g]. n_weights = (groups) a g.

    Example:
        >>> layer = LayerSpectrum("fc", 4, np.array([1.0, 2.0]), np.array([1.0, 4.0]))
        >>> np.exp(layer.log_eigenvalues()).round(6).tolist()
        [1.0, 2.0, 4.0, 8.0]
    """

    name: str
    n_weights: int
    input_eigenvalues: NDArray[np.float64]
    gradient_eigenvalues: NDArray[np.float64]

    def log_eigenvalues(self) -> NDArray[np.float64]:
        """Natural logarithms of the block's eigenvalues, sorted: [n_weights] float64. Pairwise sums, so no overflow."""
        a = np.log(np.atleast_2d(self.input_eigenvalues))
        g = np.log(np.atleast_2d(self.gradient_eigenvalues))
        return np.sort((a[:, :, None] + g[:, None, :]).ravel())


def fisher_spectrum(
    model: nn.Module,
    inputs: Tensor,
    targets: Tensor | None = None,
    *,
    fisher: Fisher = "sampled",
    seed: int = 0,
    likelihood: Likelihood = "categorical",
) -> list[LayerSpectrum]:
    """The spectra of all Linear, Conv1d and Conv2d layers, in the order of `model.named_modules()`.

    Other weights have no block, so they are left out: embeddings, norms, parameters that a module holds beside its
    layers. Layers of torch that multiply by a matrix and have no block all the same (transposed convolutions,
    recurrent layers, `nn.MultiheadAttention`) are named by the warning.

    The model is used in the mode it is given, normally training mode (batch norm then normalises by the batch), and is
    left as it was found: parameters, gradients, buffers, hooks, and torch's global generators.

    Args:
        model: returns outputs [n, ..., c]; every dimension between is a position (tokens).
        inputs: one batch [n, ...].
        targets: for "empirical" only. Categorical: int64 labels [n, ...]; otherwise numbers shaped as the outputs.
        fisher: "sampled" draws the targets from the model's own prediction, which is the Fisher information matrix;
            "empirical" takes them from `targets`.
        seed: of the drawn targets and of dropout masks. One seed, one result.
        likelihood: what the outputs are. "categorical": logits over the last dimension; "gaussian": means, of
            variance 1 each; "bernoulli": each the logit of a yes. `workers.fisher.likelihood` fixes the scale.

    Returns:
        One `LayerSpectrum` a layer, eigenvalues not below 1e-7 of their factor's largest one, nor e^-100.

    Warns:
        SkippedLayerWarning: layers that get no gradient, or have no block, named.

    Raises:
        SpectrumInputError: wrong or missing targets, an empty batch, outputs that the likelihood does not take.
        NoLayers: no layer gets a gradient.
        NonFiniteSpectrum: the network overflows; says where.

    Example:
        >>> model = nn.Sequential(nn.Linear(8, 4), nn.Tanh(), nn.Linear(4, 3))
        >>> [(s.name, s.n_weights) for s in fisher_spectrum(model, torch.randn(16, 8))]
        [('0', 36), ('2', 15)]
    """
    _check(inputs, targets, fisher)
    distribution = likelihood_named(likelihood)

    def loss(outputs: Tensor) -> Tensor:
        if targets is not None:
            return distribution.loss(outputs, targets)
        return distribution.loss(outputs, distribution.sample(outputs, torch.Generator().manual_seed(seed)))

    return [_spectrum(factors, len(inputs)) for factors in collect_factors(model, inputs, loss, seed=seed)]


def task_spectrum(
    task: Task, splits: Splits, function: str, *, seed: int, device: torch.device, fisher: Fisher = "sampled"
) -> list[LayerSpectrum]:
    """The spectrum of the task's untrained network with a function, on its spectrum batch, all drawn from `seed`.

    Images have the memory format that the recipe trains in.

    Raises:
        SpectrumError, torch.OutOfMemoryError, TaskError, and whatever the function raises.
    """
    network = untrained_network(task, lean_factory(function), seed=seed, device=device)
    inputs, targets = spectrum_batch(task, splits, seed=seed, device=device)
    if task.recipe.channels_last and inputs.dim() == 4:
        network = network.to(memory_format=torch.channels_last)
        inputs = inputs.contiguous(memory_format=torch.channels_last)
    labels = targets if fisher == "empirical" else None
    return fisher_spectrum(network, inputs, labels, fisher=fisher, seed=seed, likelihood=task.objective.likelihood)


def _check(inputs: Tensor, targets: Tensor | None, fisher: str) -> None:
    if fisher not in ("sampled", "empirical"):
        raise SpectrumInputError(f"fisher must be 'sampled' or 'empirical', got {fisher!r}")
    if fisher == "empirical" and targets is None:
        raise SpectrumInputError("fisher='empirical' needs targets, got None")
    if fisher == "sampled" and targets is not None:
        raise SpectrumInputError("fisher='sampled' draws its own targets, got some; leave them out")
    if not isinstance(inputs, Tensor) or inputs.dim() < 2 or inputs.numel() == 0:
        got = tuple(inputs.shape) if isinstance(inputs, Tensor) else type(inputs).__name__
        raise SpectrumInputError(f"inputs must be a non-empty batch (n, ...), got {got}")


def _spectrum(factors: LayerFactors, n_samples: int) -> LayerSpectrum:
    return LayerSpectrum(
        name=factors.name,
        n_weights=factors.n_weights,
        input_eigenvalues=factors.input_eigenvalues(n_samples),
        gradient_eigenvalues=factors.gradient_eigenvalues(),
    )
