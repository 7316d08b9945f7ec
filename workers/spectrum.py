"""The Fisher spectrum of an untrained network: per-layer eigenvalues of the Fisher information matrix.

The matrix F = E[grad L grad L'] over inputs and targets is approximated by one block for each weight, and each block
by a Kronecker product A (x) G (K-FAC: Martens and Grosse 2015, arXiv 1503.05671; Grosse and Martens 2016, arXiv
1602.01407). So a layer's eigenvalues are the pairwise products of its factors' eigenvalues, and a `LayerSpectrum`
holds the factors' only: 1,921 numbers instead of 331,968 for the largest layer of All-CNN-C.

`workers.fisher.factors` fixes the normalisation, `workers.fisher.products` which weights have a block, and
`workers.fisher.moments` the floor.
Knows neither Ray nor SQL. `surrogate.spectra` makes the features that are stored and compared.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from aquasurf_ray.activations import lean_factory
from aquasurf_ray.tasks import Splits, Task, TaskError
from aquasurf_ray.tasks.inputs import Inputs, form_of, refuse_other_layouts, tensors_of
from aquasurf_ray.tasks.objective import Likelihood
from aquasurf_ray.tasks.targets import Loss
from aquasurf_ray.workers.engine.precision import Arithmetic
from aquasurf_ray.workers.fisher.batch_loss import BatchLoss
from aquasurf_ray.workers.fisher.blocks import Block
from aquasurf_ray.workers.fisher.capture import collect_blocks
from aquasurf_ray.workers.fisher.coverage import Coverage
from aquasurf_ray.workers.fisher.errors import (
    AssumedClassesWarning,
    NoLayers,
    NonFiniteSpectrum,
    SkippedLayerWarning,
    SpectrumError,
    SpectrumInputError,
    UncertainRowsWarning,
)
from aquasurf_ray.workers.network import sized_network, spectrum_batch

__all__ = [
    "AssumedClassesWarning",
    "Coverage",
    "FisherSpectrum",
    "LayerSpectrum",
    "NoLayers",
    "NonFiniteSpectrum",
    "SkippedLayerWarning",
    "SpectrumError",
    "SpectrumInputError",
    "UncertainRowsWarning",
    "fisher_spectrum",
    "task_spectrum",
]

Fisher = Literal["sampled", "empirical"]


@dataclass(frozen=True, eq=False)
class LayerSpectrum:
    """The spectrum of one weight's Fisher block.

    Attributes:
        name: the module that owns the weight, or the weight's own name if that is not `weight`.
        n_weights: trained weights and biases, which is the number of eigenvalues.
        input_eigenvalues: the eigenvalues of A, ascending, float64, positive: [a], or [groups, a] if it is grouped.
        gradient_eigenvalues: those of G likewise: [g], or [groups, g]. n_weights = (groups) a g.
        parameters: the names of the parameters that the block covers, biases included.

    Example:
        >>> layer = LayerSpectrum("fc", 4, np.array([1.0, 2.0]), np.array([1.0, 4.0]))
        >>> np.exp(layer.log_eigenvalues()).round(6).tolist()
        [1.0, 2.0, 4.0, 8.0]
    """

    name: str
    n_weights: int
    input_eigenvalues: NDArray[np.float64]
    gradient_eigenvalues: NDArray[np.float64]
    parameters: tuple[str, ...] = ()

    def log_eigenvalues(self) -> NDArray[np.float64]:
        """Return natural logarithms of the eigenvalues, sorted: [n_weights] float64. Pairwise sums, so no overflow."""
        # Eigenvalues of a Kronecker product are the products of its factors'; in logarithms, sums.
        a = np.log(np.atleast_2d(self.input_eigenvalues))
        g = np.log(np.atleast_2d(self.gradient_eigenvalues))
        return np.sort((a[:, :, None] + g[:, None, :]).ravel())


class FisherSpectrum(list[LayerSpectrum]):
    """The spectra of a network's weights, in the network's order, and what they cover.

    Attributes:
        coverage: the share of the trained weights that has a block, and the names of the others.
    """

    def __init__(self, layers: Iterable[LayerSpectrum], coverage: Coverage) -> None:
        super().__init__(layers)
        self.coverage = coverage

    def __reduce__(self) -> tuple[Any, ...]:
        return FisherSpectrum, (list(self), self.coverage)


def fisher_spectrum(
    model: nn.Module,
    inputs: Inputs,
    targets: Tensor | None = None,
    *,
    fisher: Fisher = "sampled",
    seed: int = 0,
    likelihood: Likelihood = "categorical",
    like: Tensor | None = None,
    training_loss: Loss | None = None,
) -> FisherSpectrum:
    """Return the spectra of all trained weights that are used in matrix products or convolutions.

    A block belongs to a weight, whatever modules or functions use it: `workers.fisher.products` lists the operations,
    `workers.fisher.weight_uses` says what counts as a use. What has no block (tables that are read, recurrent layers,
    norms) is left out; `coverage` of the result counts and names it, and a warning names the matrices among it.

    The model is used in the mode it is given, normally training mode (batch norm then normalises by the batch), and is
    left as it was found: parameters, gradients, buffers and hooks; so are the global generators of torch, NumPy and
    Python. The spectrum is of the network's weights: the learned parameters of its activations have no block, and count
    as little in the coverage as frozen weights.

    Args:
        model: returns outputs [n, ..., c], or [n, c, ...] if the targets say so, or a tuple, dictionary or dataclass
            with them (`aquasurf_ray.tasks.outputs`); all other dimensions are positions (tokens, pixels).
        inputs: one batch: a tensor [n, ...], a tuple for several arguments, or a dictionary for keyword arguments.
        targets: for "empirical" only. Categorical: int64 labels [n, ...], one-hot or probabilities like the outputs;
            otherwise numbers shaped as the outputs.
        fisher: "sampled" draws the targets from the model's own prediction, which is the Fisher information matrix;
            "empirical" takes them from `targets`.
        seed: the seed of the drawn targets and of dropout masks. One seed, one result.
        likelihood: what the outputs are. "categorical": logits; "gaussian": means, of variance 1 each; "bernoulli":
            each the logit of a yes. `workers.fisher.likelihood` fixes the scale.
        like: for "sampled" only, the targets of the data: their shape says which dimension holds the classes, and
            where they do not count (-100), the drawn ones do not either.
        training_loss: decides where the shape of the targets fits two dimensions, and which label does not count.

    Returns:
        One `LayerSpectrum` a weight, in the order of `model.named_parameters()`. Eigenvalues are not below 1e-7 of
        their factor's largest one, nor e^-100.

    Warns:
        SkippedLayerWarning: matrices without a block, or with uses that their block does not count, named; or less
            than half of the weights covered.
        AssumedClassesWarning: classes may be in dimension 1 or the last, and nothing tells which.
        UncertainRowsWarning: some targets do not count, and nothing tells whether some rows of a block do.

    Raises:
        SpectrumInputError: wrong or missing targets, an empty batch, outputs that the likelihood does not take.
        NoLayers: no weight has a block with a gradient.
        NonFiniteSpectrum: the network overflows; says where.

    Example:
        >>> model = nn.Sequential(nn.Linear(8, 4), nn.Tanh(), nn.Linear(4, 3))
        >>> spectra = fisher_spectrum(model, torch.randn(16, 8))
        >>> [(s.name, s.n_weights) for s in spectra], str(spectra.coverage)
        ([('0', 36), ('2', 15)], '2 of 2 matrices, 100% of 51 weights')
    """
    given = _checked_targets(targets, fisher, like)
    sizes = _sizes(inputs)
    loss = BatchLoss(likelihood, given, training_loss, is_drawn=fisher == "sampled", seed=seed)
    blocks, coverage = collect_blocks(model, inputs, loss, seed=seed, padding=loss.padding)
    n_samples = _n_samples(sizes, loss.n_outputs if given is None else len(given), inputs)
    text = coverage.warning()
    if text is not None:
        warnings.warn(text, SkippedLayerWarning, stacklevel=2)
    return FisherSpectrum([_spectrum(block, n_samples) for block in blocks], coverage)


def task_spectrum(
    task: Task, splits: Splits, function: str, *, seed: int, device: torch.device, fisher: Fisher = "sampled"
) -> FisherSpectrum:
    """Return the spectrum of the task's untrained network with a function on its spectrum batch, drawn from `seed`.

    Images have the memory format that the recipe trains in.

    Raises:
        SpectrumError, torch.OutOfMemoryError, TaskError, and whatever the function raises.
    """
    # The lean form keeps less memory; spectra of several workers may share one GPU.
    network = sized_network(task, splits, lean_factory(function), seed=seed, device=device)
    inputs, targets = spectrum_batch(task, splits, seed=seed, device=device)
    arithmetic = Arithmetic(task.recipe, device)
    network, inputs = arithmetic.prepared(network), arithmetic.formatted(inputs)
    # Sampled targets are drawn, but still padded where the data's are.
    empirical = fisher == "empirical"
    return fisher_spectrum(
        network,
        inputs,
        targets if empirical else None,
        fisher=fisher,
        seed=seed,
        likelihood=task.objective.likelihood,
        like=None if empirical else targets,
        training_loss=task.objective.on(device).loss,
    )


def _checked_targets(targets: Tensor | None, fisher: str, like: Tensor | None) -> Tensor | None:
    """Return the given targets if the arguments fit together, or the examples that drawn targets must resemble."""
    if fisher not in ("sampled", "empirical"):
        raise SpectrumInputError(f"fisher must be 'sampled' or 'empirical', got {fisher!r}")
    if fisher == "empirical" and targets is None:
        raise SpectrumInputError("fisher='empirical' needs targets, got None")
    if fisher == "sampled" and targets is not None:
        raise SpectrumInputError(
            "fisher='sampled' draws its own targets, got some; leave them out, or pass them as like"
        )
    if fisher == "empirical" and like is not None:
        raise SpectrumInputError("like is for fisher='sampled'; fisher='empirical' takes the targets themselves")
    return targets if targets is not None else like


def _sizes(inputs: Inputs) -> set[int]:
    """Return the first dimensions of the inputs; scalars have none, and an input that all samples share has its own."""
    try:
        refuse_other_layouts(inputs, "inputs")
    except TaskError as error:
        raise SpectrumInputError(str(error)) from error
    tensors = tensors_of(inputs)
    other = next((t for t in tensors if not isinstance(t, Tensor)), None)
    sizes = {len(t) for t in tensors if isinstance(t, Tensor) and t.dim() > 0}
    if other is not None or not sizes or 0 in sizes:
        got = form_of(inputs) if tensors and other is None else type(inputs if other is None else other).__name__
        raise SpectrumInputError(f"inputs must be a non-empty batch (n, ...), got {got}")
    return sizes


def _n_samples(sizes: set[int], likely: int, inputs: Inputs) -> int:
    """Return the number of samples: the inputs' first dimension or, where they differ, that of targets or outputs."""
    if len(sizes) > 1 and likely not in sizes:
        raise SpectrumInputError(
            f"an input must have the {likely} samples of the targets in dimension 0, got {form_of(inputs)}"
        )
    return likely if likely in sizes else max(sizes)


def _spectrum(block: Block, n_samples: int) -> LayerSpectrum:
    factors = block.factors
    return LayerSpectrum(
        name=factors.name,
        n_weights=factors.n_weights,
        input_eigenvalues=factors.input_eigenvalues(n_samples),
        gradient_eigenvalues=factors.gradient_eigenvalues(),
        parameters=tuple(block.names),
    )
