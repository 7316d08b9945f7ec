"""From the uses of a weight to the Kronecker factors of its Fisher block.

The Fisher block of a weight is approximated by A (x) G (Martens and Grosse 2015; Grosse and Martens 2016, equations 25
and 30-32). With n samples in the batch, and one row for every sample, position (pixel, token) and use of the weight:

    A = (1 / n) sum over rows of a a'           a: input or patch, with a 1 for the bias: summed over positions
    G = (1 / rows) sum over rows of g g'        g: gradient of the summed loss by the output of the product

    product                A                                          G
    matrix                 [in (+1)]                                  [out]
    convolution            [in * taps (+1)]                           [out]
    depthwise              [taps (+1)], mean over the channels        [out]
    groups otherwise       a pair a group: [in / groups * taps (+1)]  [out / groups]

`workers.fisher.products` says which operations are such products and which dimensions are rows.

A weight that is used several times has one row a use: further uses count as further positions. This is the expand
setting of Eschenhagen, Immer, Turner, Schneider and Hennig (2023, arXiv 2311.00636), which holds when gradients at
different positions are uncorrelated, and it keeps one formula for shared weights of every kind (convolution, tokens,
recurrence, tied layers). Uses with different biases have a 1 each, in rows of their own. A use whose output does not
reach the loss has zero gradients.
"""

from __future__ import annotations

from collections.abc import Hashable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from aquasurf_ray.workers.fisher.errors import NonFiniteSpectrum
from aquasurf_ray.workers.fisher.moments import SecondMoment, power_of_two_scale
from aquasurf_ray.workers.fisher.patches import Geometry, patch_moment, patch_rows, samples_at_once
from aquasurf_ray.workers.fisher.products import Contraction, Convolution, Layout, Product

Eigenvalues = NDArray[np.float64]


class BlockFactors:
    """The growing Kronecker factors of one weight, over all its uses in one pass through the network.

    Args:
        name: the weight's name, for errors.
        product: the weight's first use, whose shape all further ones have.
    """

    def __init__(self, name: str, product: Product) -> None:
        self.name = name
        self.biases: list[Hashable] = []
        self.has_gradient = False
        self.n_rows = 0
        layout = product.layout
        groups, outputs, inputs = layout.shape(product.weight)
        depthwise = isinstance(layout, Convolution) and layout.is_depthwise(product.weight)
        self._averaged_channels = groups if depthwise else 1
        self._n_pairs = groups // self._averaged_channels
        self._n_outputs = outputs * self._averaged_channels
        self._inputs = [SecondMoment(inputs) for _ in range(self._n_pairs)]
        self._gradients = [SecondMoment(self._n_outputs) for _ in range(self._n_pairs)]

    @property
    def n_weights(self) -> int:
        """The number of eigenvalues: elements of the weight and of the biases that are added to its products."""
        return self._n_pairs * self._n_outputs * (self._inputs[0].dim + len(self.biases))

    def add_bias(self, bias: Hashable) -> None:
        """Add a bias to the block unless it has it."""
        if bias not in self.biases:
            self.biases.append(bias)

    def rename(self, constant: Hashable, bias: Hashable) -> None:
        """Add a bias that the network added after the product; `constant` stood for it in the rows."""
        self.add_bias(bias)
        for moment in self._inputs:
            moment.rename(constant, bias)

    @torch.no_grad()
    def add_inputs(self, product: Product, n_rows: int, constant: Hashable, rows: Tensor | None = None) -> None:
        """Add the input of one use, with a constant for its bias.

        Args:
            n_rows: the product's number of rows.
            rows: booleans [rows] or [n, positions], those that count; by default all.
        """
        x, scale = self._scaled(product.input.detach(), "input")
        if rows is not None and bool(rows.all()):
            rows = None
        self.n_rows += n_rows if rows is None else int(rows.sum())
        if isinstance(product.layout, Contraction):
            arranged = product.layout.input_rows(x)
            for moment, group in zip(self._inputs, arranged, strict=True):
                moment.add_rows(group if rows is None else group[rows], scale, constant, len(self.biases))
            return
        images, geometry = product.layout.images(x, product.weight)
        if self._averaged_channels > 1:
            rows = None if rows is None else rows.repeat_interleave(images.shape[1], dim=0)
            images = images.reshape(-1, 1, *images.shape[2:])
        for moment, group in zip(self._inputs, images.chunk(len(self._inputs), dim=1), strict=True):
            add_patches(moment, group, geometry, scale, constant, len(self.biases), rows)

    @torch.no_grad()
    def add_gradient(self, layout: Layout, gradient: Tensor) -> None:
        """Add the gradient of the summed loss by the output of one use, shaped as the output."""
        self.has_gradient = True
        gradient, scale = self._scaled(gradient.detach(), "gradient")
        for rows in layout.gradient_rows(gradient, self._n_pairs):
            for moment, group in zip(self._gradients, rows, strict=True):
                moment.add_rows(group, scale)

    def _scaled(self, data: Tensor, what: str) -> tuple[Tensor, float]:
        """Return the data in float32 or float64, times a scale that keeps their squares in range, and the scale."""
        scale = power_of_two_scale(data)
        if scale is None:
            raise NonFiniteSpectrum(self.name, what)
        if data.dtype not in (torch.float32, torch.float64):
            data = data.float()
        return (data if scale == 1.0 else data * scale), scale

    def input_eigenvalues(self, n_samples: int) -> Eigenvalues:
        """Return the eigenvalues of A, ascending: [size], or [groups, size]."""
        return _stacked([m.eigenvalues(n_samples * self._averaged_channels, self.biases) for m in self._inputs])

    def gradient_eigenvalues(self) -> Eigenvalues:
        """Return the eigenvalues of G, ascending: [size], or [groups, size]."""
        return _stacked([m.eigenvalues(max(1, self.n_rows)) for m in self._gradients])


def _stacked(pairs: list[Eigenvalues]) -> Eigenvalues:
    return pairs[0] if len(pairs) == 1 else np.stack(pairs)


def add_patches(
    moment: SecondMoment,
    images: Tensor,
    geometry: Geometry,
    scale: float,
    constant: Hashable,
    n_constants: int,
    counted: Tensor | None,
) -> None:
    """Add the patches of images [n, c, ...], which are `scale` times the data, by the cheaper way.

    Args:
        counted: booleans [n, positions], the patches that count; by default all.
    """
    n_patches = len(images) * geometry.n_outputs
    if counted is None and geometry.shares_products() and not moment.keeps(n_patches, n_constants):
        for chunk in torch.split(images, samples_at_once(images)):
            products, sums = patch_moment(chunk, geometry)
            moment.add_sums(products, sums, len(chunk) * geometry.n_outputs, scale, constant)
        return
    start = 0
    for rows in patch_rows(images, geometry):
        mask = None if counted is None else counted.flatten()[start : start + len(rows)]
        start += len(rows)
        moment.add_rows(rows if mask is None else rows[mask], scale, constant, n_constants)
