"""Second moments of rows in mixed precision, and their eigenvalues above a floor.

The format: data are *rows*, a matrix [n, d] with one position of one sample a row; a second moment is the float64
matrix sum_i x_i x_i' [d, d], or [d + 1, d + 1] where a homogeneous coordinate of 1 stands for a bias.

Precision. A spectrum spans seven decades (the floor below), and products that are summed in float32 err by about 1e-7
of the largest eigenvalue, so data are converted to float64 a block of rows at a time. (Rounding of float32 data
themselves does not matter: it moves log-eigenvalues above the floor by less than 1e-4.) `workers.fisher.patches` says
where float32 products do. Data are scaled by a power of two first where their squares would leave float32's range.
"""

from __future__ import annotations

import math

import numpy as np
import scipy.linalg
import torch
from numpy.typing import NDArray
from torch import Tensor

BLOCK_ROWS = 4096
SAFE_EXPONENT = 40
LARGEST_SCALE = 126

RELATIVE_FLOOR = 1e-7
"""Eigenvalues below this share of their factor's largest one count as zero.

Activations and gradients are float32 numbers: a relative rounding error of 6e-8 in the data moves a singular value by
about that share of the largest, so a singular value below 3e-4 of the largest (its square is this floor) is known
to fewer than four digits, and one below 1e-7 not at all.
"""

ABSOLUTE_FLOOR = math.exp(-100.0)
"""No eigenvalue of a factor is given as less, also where the factor is all zero.

-100 is the lower end of the range on which the seed's own features count log-eigenvalues.
"""


def power_of_two_scale(data: Tensor) -> float | None:
    """A power of two that brings the largest entry near 1 where squares would overflow or vanish, else 1.

    None when an entry is NaN or infinite. An empty or all-zero tensor has scale 1.
    """
    if data.numel() == 0:
        return 1.0
    low, high = torch.aminmax(data)
    largest = max(-low.item(), high.item())
    if not math.isfinite(largest) or not math.isfinite(low.item()):
        return None
    exponent = math.frexp(largest)[1] if largest > 0 else 0
    if abs(exponent) <= SAFE_EXPONENT:
        return 1.0
    return 2.0 ** max(-LARGEST_SCALE, min(LARGEST_SCALE, -exponent))


def row_moment(left: Tensor, right: Tensor | None = None) -> Tensor:
    """sum_i left_i right_i' in float64, of rows [n, c] and [n, d]; right is left by default."""
    n_right = left.shape[1] if right is None else right.shape[1]
    total = torch.zeros(left.shape[1], n_right, dtype=torch.float64, device=left.device)
    for start in range(0, len(left), BLOCK_ROWS):
        x = left[start : start + BLOCK_ROWS].double()
        total.addmm_(x.T, x if right is None else right[start : start + BLOCK_ROWS].double())
    return total


class SecondMoment:
    """The growing second moment of rows with `dim` features, plus a homogeneous coordinate if `with_bias`.

    While it has seen fewer rows than features it keeps the rows themselves, because the small Gram matrix has the same
    non-zero eigenvalues: a dense layer with 25,088 inputs and a batch of 128 costs a 128-square matrix, not 5 GB.
    """

    def __init__(self, dim: int, *, with_bias: bool) -> None:
        self.dim = dim
        self.with_bias = with_bias
        self._kept: list[Tensor] = []
        self._n_kept = 0
        self._matrix: Tensor | None = None

    @property
    def size(self) -> int:
        """Features, the homogeneous coordinate included."""
        return self.dim + self.with_bias

    def keeps(self, n_rows: int) -> bool:
        """Whether `n_rows` further rows would still be fewer than the features."""
        return self._matrix is None and self._n_kept + n_rows < self.size

    def add_rows(self, rows: Tensor, scale: float = 1.0) -> None:
        """Add rows [n, dim], which are `scale` times the data."""
        if self.keeps(len(rows)):
            self._kept.append(rows.to(torch.float64, copy=True) / scale)
            self._n_kept += len(rows)
        else:
            self.add_sums(row_moment(rows), self._sums(rows), len(rows), scale)

    def _sums(self, rows: Tensor) -> Tensor:
        """The sum of rows [n, dim], which only a bias needs: [dim] float64, else empty."""
        return (rows if self.with_bias else rows[:, :0]).sum(0, dtype=torch.float64)

    def add_sums(self, products: Tensor, sums: Tensor, n_rows: int, scale: float = 1.0) -> None:
        """Add sum_i x_i x_i' [dim, dim] and sum_i x_i [dim], float64, of n rows x_i that are `scale` times the data.

        Without a bias the sums are not read.
        """
        matrix = self._own_matrix(products.device)
        d = self.dim
        matrix[:d, :d].add_(products, alpha=scale**-2)
        if self.with_bias:
            matrix[:d, d] += sums / scale
            matrix[d, :d] += sums / scale
            matrix[d, d] += n_rows

    def _own_matrix(self, device: torch.device) -> Tensor:
        if self._matrix is None:
            self._matrix = torch.zeros(self.size, self.size, dtype=torch.float64, device=device)
            kept, self._kept = self._kept, []
            for rows in kept:
                self.add_sums(row_moment(rows), self._sums(rows), len(rows))
        return self._matrix

    def eigenvalues(self, divisor: float) -> NDArray[np.float64]:
        """All `size` eigenvalues of the moment divided by `divisor`, ascending, raised to the floor."""
        if self._matrix is not None:
            found = symmetric_eigenvalues(self._matrix)
        elif self._kept:
            rows = torch.cat(self._kept)
            found = symmetric_eigenvalues(rows @ rows.T + float(self.with_bias))
        else:
            found = np.zeros(0)
        return floored(np.concatenate([np.zeros(self.size - len(found)), found / divisor]))


def symmetric_eigenvalues(matrix: Tensor) -> NDArray[np.float64]:
    """Eigenvalues of a symmetric float64 matrix [d, d], ascending; computed on the CPU."""
    array = matrix.detach().cpu().numpy()
    values: NDArray[np.float64] = scipy.linalg.eigh(array, eigvals_only=True, check_finite=False, driver="evr")
    return values


def floored(eigenvalues: NDArray[np.float64]) -> NDArray[np.float64]:
    """The eigenvalues, ascending, with those below the floor raised to it."""
    floor = max(RELATIVE_FLOOR * float(eigenvalues.max(initial=0.0)), ABSOLUTE_FLOOR)
    return np.sort(np.maximum(eigenvalues, floor))
