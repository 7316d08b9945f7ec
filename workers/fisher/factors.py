"""From a layer's input and output gradient to its Kronecker factors, for every layer kind that has a Fisher block.

The Fisher block of a layer is approximated by A (x) G (Martens and Grosse 2015; Grosse and Martens 2016, equations 25
and 30-32). With n samples in the batch, and one row for every sample and position (pixel, token, use of the layer):

    A = (1 / n) sum over rows of a a'           a: input or patch, with a 1 for the bias: summed over positions
    G = (1 / rows) sum over rows of g g'        g: gradient of the summed loss by the layer's output

    kind                   A                                          G
    Linear                 [in (+1)]                                  [out]
    Conv1d, Conv2d         [in * taps (+1)]                           [out]
    depthwise              [taps (+1)], mean over the channels        [out]
    groups otherwise       a pair a group: [in / groups * taps (+1)]  [out / groups]

A layer that is used several times has one row a use: further uses count as further positions. That is what K-FAC's
assumptions say when gradients at different positions are uncorrelated, and it keeps one formula for shared weights of
every kind (convolution, tokens, recurrence). A use whose output does not reach the loss has zero gradients.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from aquasurf_ray.workers.fisher.errors import NonFiniteSpectrum, SpectrumInputError
from aquasurf_ray.workers.fisher.moments import SecondMoment, power_of_two_scale
from aquasurf_ray.workers.fisher.patches import (
    CHUNK_ELEMENTS,
    Axis,
    Geometry,
    patch_moment,
    patch_rows,
    positions_first,
)

Layer = nn.Linear | nn.Conv1d | nn.Conv2d
Eigenvalues = NDArray[np.float64]


def is_depthwise(layer: Layer) -> bool:
    """Every input channel has its own filters and sees no other channel."""
    return not isinstance(layer, nn.Linear) and layer.groups > 1 and layer.groups == layer.in_channels


def trains_bias(layer: Layer) -> bool:
    """Whether the layer has a bias that is trained, hence a homogeneous coordinate."""
    return layer.bias is not None and layer.bias.requires_grad


def n_weights(layer: Layer) -> int:
    """Trained weights and biases of the layer."""
    return layer.weight.numel() + (layer.weight.shape[0] if trains_bias(layer) else 0)


class LayerFactors:
    """The growing Kronecker factors of one layer, over all its uses in one pass through the network.

    Args:
        name: the layer's name in the model, for errors.
        layer: read before the pass; its parameters' `requires_grad` tells whether there is a bias to train.
    """

    def __init__(self, name: str, layer: Layer) -> None:
        self.name = name
        self.layer = layer
        self.n_weights = n_weights(layer)
        self.has_gradient = False
        self.n_rows = 0
        groups = 1 if isinstance(layer, nn.Linear) else layer.groups
        n_pairs = 1 if is_depthwise(layer) else groups
        outputs, inputs = layer.weight.shape[0], layer.weight[0].numel()
        self._inputs = [SecondMoment(inputs, with_bias=trains_bias(layer)) for _ in range(n_pairs)]
        self._gradients = [SecondMoment(outputs // n_pairs, with_bias=False) for _ in range(n_pairs)]
        self._averaged_channels = groups // n_pairs

    @torch.no_grad()
    def add_use(self, x: Tensor, output: Tensor) -> None:
        """Take the layer's input at one use, and its output to count the positions; both as the layer has them."""
        n_rows = output.numel() // self.layer.weight.shape[0]
        x, scale = self._scaled(x.detach(), "input")
        if isinstance(self.layer, nn.Linear):
            self._inputs[0].add_rows(x.reshape(-1, x.shape[-1]), scale)
        else:
            images = padded_images(self.layer, x)
            self._add_images(images, geometry_of(self.layer, images), n_rows, scale)
        self.n_rows += n_rows

    def _add_images(self, images: Tensor, geometry: Geometry, n_rows: int, scale: float) -> None:
        if len(images) * geometry.n_outputs != n_rows:
            raise SpectrumInputError(
                f"layer '{self.name}' has {n_rows} output positions, its settings give"
                f" {len(images) * geometry.n_outputs}; pad in a layer of its own"
            )
        if is_depthwise(self.layer):
            images = images.reshape(-1, 1, *images.shape[2:])
        for moment, group in zip(self._inputs, images.chunk(len(self._inputs), dim=1), strict=True):
            add_patches(moment, group, geometry, scale)

    @torch.no_grad()
    def add_gradient(self, gradient: Tensor) -> None:
        """Take the gradient of the summed loss by the layer's output at one use, shaped as the output."""
        self.has_gradient = True
        gradient, scale = self._scaled(gradient.detach(), "gradient")
        for rows in _rows(self.layer, gradient):
            for moment, group in zip(self._gradients, rows.chunk(len(self._gradients), dim=1), strict=True):
                moment.add_rows(group, scale)

    def _scaled(self, data: Tensor, what: str) -> tuple[Tensor, float]:
        """The data in float32 or float64, times a scale that keeps their squares in range, and the scale."""
        scale = power_of_two_scale(data)
        if scale is None:
            raise NonFiniteSpectrum(self.name, what)
        if data.dtype not in (torch.float32, torch.float64):
            data = data.float()
        return (data if scale == 1.0 else data * scale), scale

    def input_eigenvalues(self, n_samples: int) -> Eigenvalues:
        """Eigenvalues of A, ascending: [size], or [groups, size]."""
        return _stacked([m.eigenvalues(n_samples * self._averaged_channels) for m in self._inputs])

    def gradient_eigenvalues(self) -> Eigenvalues:
        """Eigenvalues of G, ascending: [size], or [groups, size]."""
        return _stacked([m.eigenvalues(max(1, self.n_rows)) for m in self._gradients])


def _stacked(pairs: list[Eigenvalues]) -> Eigenvalues:
    return pairs[0] if len(pairs) == 1 else np.stack(pairs)


def add_patches(moment: SecondMoment, images: Tensor, geometry: Geometry, scale: float) -> None:
    """Add the patches of images [n, c, height, width], which are `scale` times the data, by the cheaper way."""
    if geometry.shares_products() and not moment.keeps(len(images) * geometry.n_outputs):
        for chunk in torch.split(images, samples_at_once(images)):
            products, sums = patch_moment(chunk, geometry)
            moment.add_sums(products, sums, len(chunk) * geometry.n_outputs, scale)
    else:
        for rows in patch_rows(images, geometry):
            moment.add_rows(rows, scale)


def samples_at_once(data: Tensor) -> int:
    """How many samples [n, ...] make a chunk of bounded size."""
    return max(1, CHUNK_ELEMENTS * len(data) // max(1, data.numel()))


def _rows(layer: Layer, output: Tensor) -> Iterator[Tensor]:
    """What is shaped as a layer's output, as rows [m, out], in no particular order."""
    if isinstance(layer, nn.Linear):
        yield output.reshape(-1, output.shape[-1])
    else:
        images = as_images(layer, output)
        for chunk in torch.split(images, samples_at_once(images)):
            yield positions_first(chunk).flatten(0, 2)


def padding_of(layer: nn.Conv1d | nn.Conv2d) -> list[tuple[int, int]]:
    """Padding (before, after) of every position dimension."""
    if layer.padding == "valid":
        return [(0, 0)] * len(layer.kernel_size)
    if layer.padding == "same":
        totals = [d * (k - 1) for d, k in zip(layer.dilation, layer.kernel_size, strict=True)]
        return [(total // 2, total - total // 2) for total in totals]
    return [(int(p), int(p)) for p in layer.padding]


def padded_images(layer: nn.Conv1d | nn.Conv2d, x: Tensor) -> Tensor:
    """The input as [n, c, height, width], with its padding if that is other than zeros."""
    if layer.padding_mode != "zeros":
        ends = [end for both in reversed(padding_of(layer)) for end in both]
        x = functional.pad(x, ends, mode=layer.padding_mode)
    return as_images(layer, x)


def as_images(layer: nn.Conv1d | nn.Conv2d, x: Tensor) -> Tensor:
    """A layer's input or output, with or without a batch dimension, as [n, c, height, width]."""
    n_positions = len(layer.kernel_size)
    if x.dim() == n_positions + 1:
        x = x.unsqueeze(0)
    return x.unsqueeze(2) if n_positions == 1 else x


def geometry_of(layer: nn.Conv1d | nn.Conv2d, images: Tensor) -> Geometry:
    """How the layer's taps read images that came from `padded_images`."""
    zeros = padding_of(layer) if layer.padding_mode == "zeros" else [(0, 0)] * len(layer.kernel_size)
    sizes = images.shape[-len(layer.kernel_size) :]
    settings = zip(sizes, layer.kernel_size, layer.stride, layer.dilation, zeros, strict=True)
    axes = [Axis(size, k, s, d, before, after) for size, k, s, d, (before, after) in settings]
    return Geometry(axes[0], axes[1]) if len(axes) == 2 else Geometry(Axis(size=1, taps=1), axes[0])
