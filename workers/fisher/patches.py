"""The second moment of a convolution's input patches, without making the patches.

A patch holds, for one output position y, the inputs x[s y + u] under the kernel's taps u; its second moment is a
matrix of blocks A[u, v] = sum_y x[s y + u] x[s y + v]', each channels by channels. Blocks with the same difference
v - u (and the same u modulo the stride s) add up the same products of pixels, and differ only in which pixels at the
borders take part. So the products of each such *class* are formed once, in cells cut along the borders, and every
block is a sum of cells: a 3x3 kernel of stride 1 needs 13 products of images instead of 81, and no copy of the input
nine times its size. Zero padding is not stored: a pixel outside the image simply takes part in no cell.

Precision. With many channels, products of float32 images are formed in float32 over one row of pixels of a chunk of
samples, and added up in float64: the errors are random, so that they grow with the square root of a matrix's size and
the largest eigenvalue with the size itself, and log-eigenvalues above the floor keep an error below 0.01. With few
channels, and on other devices than a CPU (where float32 may mean TensorFloat-32), everything is float64.

Features are ordered by tap, then channel: [tap_y, tap_x, channel]. A 1-D convolution is a two-dimensional one of
height 1. The slow path, `patch_rows`, makes the patches in small chunks of samples, for any number of axes; it serves
3-D convolutions, short images with many channels, and kernels whose taps share nothing, such as patch embeddings.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations_with_replacement, pairwise, product
from math import prod

import torch
from torch import Tensor
from torch.nn import functional

from aquasurf_ray.workers.fisher.moments import row_moment

CHUNK_ELEMENTS = 1 << 23  # 64 MB in float64
LONG_ROW = 512  # pixels in a row of all samples, from which on one float32 product a row is worth its call
SINGLE_PRECISION_CHANNELS = 64


@dataclass(frozen=True)
class Axis:
    """A convolution along one axis: input pixels, kernel taps, and zero padding before and after."""

    size: int
    taps: int
    stride: int = 1
    dilation: int = 1
    before: int = 0
    after: int = 0

    @property
    def outputs(self) -> int:
        """The number of output positions along this axis."""
        return (self.size + self.before + self.after - self.dilation * (self.taps - 1) - 1) // self.stride + 1

    def phase_and_shift(self, tap: int) -> tuple[int, int]:
        """Return (r, q) such that the tap reads pixel stride * (y + q) + r for output y."""
        shift, phase = divmod(self.dilation * tap - self.before, self.stride)
        return phase, shift

    def pixels(self, phase: int) -> int:
        """Return the number of pixels of the image that keeps every stride-th one from `phase` on."""
        return max(0, -(-(self.size - phase) // self.stride))


@dataclass(frozen=True)
class Geometry:
    """The axes of a convolution, two or three."""

    axes: tuple[Axis, ...]

    @property
    def y(self) -> Axis:
        return self.axes[-2]

    @property
    def x(self) -> Axis:
        return self.axes[-1]

    @property
    def n_taps(self) -> int:
        return prod(axis.taps for axis in self.axes)

    @property
    def n_outputs(self) -> int:
        return prod(axis.outputs for axis in self.axes)

    def shares_products(self) -> bool:
        """Return whether there are two axes, and classes few enough for `patch_moment` to be cheaper than patches."""
        if len(self.axes) > 2:
            return False
        pairs = self.n_taps * (self.n_taps + 1) // 2
        return self.n_taps == 1 or len(tap_classes(self)) < 0.8 * pairs


# One axis of a class: the phases of both taps and the shift between them.
Relation = tuple[int, int, int]
# A span of pixels of the first tap's phase image, start and end.
Span = tuple[int, int]


def relation(axis: Axis, u: int, v: int) -> Relation:
    """Return what all pairs of taps have in common that sum the same products along an axis."""
    (phase_u, shift_u), (phase_v, shift_v) = axis.phase_and_shift(u), axis.phase_and_shift(v)
    return phase_u, phase_v, shift_v - shift_u


def span(axis: Axis, u: int, v: int) -> Span:
    """Return the pixels of tap u's phase image whose partners under tap v exist, over all outputs."""
    (phase_u, start), (phase_v, shift_v) = axis.phase_and_shift(u), axis.phase_and_shift(v)
    offset = shift_v - start
    low = max(start, 0, -offset)
    high = min(start + axis.outputs, axis.pixels(phase_u), axis.pixels(phase_v) - offset)
    return low, max(low, high)


Tap = tuple[int, int]


def tap_classes(geometry: Geometry) -> dict[tuple[Relation, Relation], list[tuple[Tap, Tap]]]:
    """Group the pairs of taps (u, v) by their relations; every unordered pair is in exactly one group, in one order."""
    taps = list(product(range(geometry.y.taps), range(geometry.x.taps)))
    classes: dict[tuple[Relation, Relation], list[tuple[Tap, Tap]]] = defaultdict(list)
    for u, v in combinations_with_replacement(taps, 2):
        key, pair = max((_key(geometry, u, v), (u, v)), (_key(geometry, v, u), (v, u)))
        classes[key].append(pair)
    return dict(classes)


def _key(geometry: Geometry, u: Tap, v: Tap) -> tuple[Relation, Relation]:
    return relation(geometry.y, u[0], v[0]), relation(geometry.x, u[1], v[1])


def patch_moment(images: Tensor, geometry: Geometry) -> tuple[Tensor, Tensor]:
    """Return the second moment [t c, t c] and the sum [t c] of all patches, float64, for t taps and c channels.

    Args:
        images: [n, c, height, width], float32 or float64.
        geometry: two axes, sizes equal to height and width.
    """
    n_taps, channels = geometry.n_taps, images.shape[1]
    blocks = torch.zeros(n_taps, channels, n_taps, channels, dtype=torch.float64, device=images.device)
    phases = _phase_images(images, geometry, _product_type(images, geometry))
    for members in tap_classes(geometry).values():
        for u, v, block in _class_blocks(phases, geometry, members):
            i, j = _flat(geometry, u), _flat(geometry, v)
            blocks[i, :, j] = block
            blocks[j, :, i] = block.T
    features = n_taps * channels
    return blocks.reshape(features, features), _patch_sum(images, geometry)


def _flat(geometry: Geometry, tap: Tap) -> int:
    return tap[0] * geometry.x.taps + tap[1]


PhaseImages = dict[tuple[int, int], Tensor]


def _product_type(images: Tensor, geometry: Geometry) -> torch.dtype:
    single = images.device.type == "cpu" and images.shape[1] >= SINGLE_PRECISION_CHANNELS and geometry.n_taps > 1
    return images.dtype if single else torch.float64


def _phase_images(images: Tensor, geometry: Geometry, dtype: torch.dtype) -> PhaseImages:
    """Return the images [height, width, n, c] that keep every stride-th pixel from each phase that a tap reads."""

    def phases(axis: Axis) -> set[int]:
        return {axis.phase_and_shift(tap)[0] for tap in range(axis.taps)}

    return {
        (r, q): positions_first(images[:, :, r :: geometry.y.stride, q :: geometry.x.stride]).to(dtype)
        for r, q in product(phases(geometry.y), phases(geometry.x))
    }


def positions_first(images: Tensor) -> Tensor:
    """Return images [n, c, height, width] as contiguous [height, width, n, c]: rows of channels, by position."""
    n, channels, height, width = images.shape
    if images.stride(1) == 1:  # channels last already: blocks of channels move as they are
        return images.permute(2, 3, 0, 1).contiguous()
    return images.reshape(n * channels, height * width).t().contiguous().view(height, width, n, channels)


def _class_blocks(
    phases: PhaseImages, geometry: Geometry, members: list[tuple[Tap, Tap]]
) -> Iterator[tuple[Tap, Tap, Tensor]]:
    """Yield (u, v, A[u, v]) for every member of one class."""
    # Any member: its key is that of the whole class.
    (u, v) = members[0]
    (from_y, to_y, shift_y), (from_x, to_x, shift_x) = _key(geometry, u, v)
    left, right = phases[from_y, from_x], phases[to_y, to_x]
    y_spans = [span(geometry.y, a[0], b[0]) for a, b in members]
    x_spans = [span(geometry.x, a[1], b[1]) for a, b in members]
    cells = {
        (rows, columns): _cell(left, right, rows, columns, (shift_y, shift_x))
        for rows, columns in product(cut(y_spans), cut(x_spans))
    }
    for (a, b), y_span, x_span in zip(members, y_spans, x_spans, strict=True):
        block = left.new_zeros(left.shape[-1], left.shape[-1], dtype=torch.float64)
        for (rows, columns), cell in cells.items():
            if _inside(rows, y_span) and _inside(columns, x_span):
                block += cell
        yield a, b, block


def cut(spans: list[Span]) -> list[Span]:
    """Return the coarsest cut of the line such that every span is a union of pieces.

    >>> cut([(0, 8), (1, 8), (0, 7)])
    [(0, 1), (1, 7), (7, 8)]
    """
    ends = sorted({end for s in spans if s[0] < s[1] for end in s})
    return list(pairwise(ends))


def _inside(piece: Span, whole: Span) -> bool:
    return whole[0] <= piece[0] and piece[1] <= whole[1]


def _cell(left: Tensor, right: Tensor, rows: Span, columns: Span, shift: tuple[int, int]) -> Tensor:
    """Return the sum of left[y, x] right[y + shift, x + shift]' over a rectangle of all samples, [c, c] float64."""
    a = left[rows[0] : rows[1], columns[0] : columns[1]]
    b = right[rows[0] + shift[0] : rows[1] + shift[0], columns[0] + shift[1] : columns[1] + shift[1]]
    channels = a.shape[-1]
    if a.shape[1] * a.shape[2] < LONG_ROW:
        return row_moment(a.reshape(-1, channels), b.reshape(-1, channels))
    total = torch.zeros(channels, channels, dtype=torch.float64, device=left.device)
    rows_at_once = max(1, CHUNK_ELEMENTS // channels**2)
    for x, y in zip(torch.split(a, rows_at_once), torch.split(b, rows_at_once), strict=True):
        total += torch.bmm(x.flatten(1, 2).mT, y.flatten(1, 2)).sum(0, dtype=torch.float64)
    return total


def _patch_sum(images: Tensor, geometry: Geometry) -> Tensor:
    """Return the sum of all patches over outputs and samples, [t c] float64."""
    # Summed over samples first: a patch's sum needs no single image.
    summed = _padded(images.sum(0, dtype=torch.float64, keepdim=True), geometry)
    return torch.stack([w.sum((0, 2, 3)) for w in _windows(summed, geometry)]).reshape(-1)


def _padded(images: Tensor, geometry: Geometry) -> Tensor:
    return functional.pad(images, [end for axis in reversed(geometry.axes) for end in (axis.before, axis.after)])


def _windows(padded: Tensor, geometry: Geometry) -> Iterator[Tensor]:
    """Yield the pixels that each tap reads: [n, c, outputs of each axis]."""
    for taps in product(*(range(axis.taps) for axis in geometry.axes)):
        reads = (_reads(axis, tap) for axis, tap in zip(geometry.axes, taps, strict=True))
        yield padded[(slice(None), slice(None), *reads)]


def _reads(axis: Axis, tap: int) -> slice:
    first = axis.dilation * tap
    return slice(first, first + axis.stride * (axis.outputs - 1) + 1, axis.stride)


def samples_at_once(data: Tensor) -> int:
    """Return how many samples [n, ...] make a chunk of bounded size."""
    return max(1, CHUNK_ELEMENTS * len(data) // max(1, data.numel()))


def patch_rows(images: Tensor, geometry: Geometry) -> Iterator[Tensor]:
    """Yield the patches of images [n, c, ...] as rows [m, t c], ordered by sample, then position: some samples at a
    time."""
    features = geometry.n_taps * images.shape[1]
    for chunk in torch.split(images, max(1, CHUNK_ELEMENTS // max(1, geometry.n_outputs * features))):
        windows = torch.stack(list(_windows(_padded(chunk, geometry), geometry)))
        yield windows.flatten(3).permute(1, 3, 0, 2).reshape(-1, features)
