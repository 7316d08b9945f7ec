"""Second moments of rows in mixed precision, and their eigenvalues above a floor.

The format: data are *rows*, a matrix [n, d] with one position of one sample a row; a second moment is the float64
matrix sum_i x_i x_i' [d, d], or [d + b, d + b] where homogeneous coordinates of 1 stand for b biases.

Precision. A spectrum spans seven decades (the floor below), and products that are summed in float32 err by about 1e-7
of the largest eigenvalue, so data are converted to float64 a block of rows at a time. (Rounding of float32 data
themselves does not matter: it moves log-eigenvalues above the floor by less than 1e-4.) `workers.fisher.patches` says
where float32 products do. Data are scaled by a power of two first where their squares would leave float32's range.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence

import numpy as np
import scipy.linalg
import torch
from numpy.typing import NDArray
from torch import Tensor

BLOCK_ROWS = 4096
SAFE_EXPONENT = 40  # squares up to 2^80: float32 ends at 2^127, so 2^47 of them can be added up
LARGEST_SCALE = 126  # 2^-126 is float32's smallest normal number

RELATIVE_FLOOR = 1e-7
"""Eigenvalues below this share of their factor's largest one count as zero.

Activations and gradients are float32 numbers: a relative rounding error of 6e-8 in the data moves a singular value by
about that share of the largest, so a singular value below 3e-4 of the largest (its square is this floor) is known
to fewer than four digits, and one below 1e-7 not at all.
"""

ABSOLUTE_FLOOR = math.exp(-100.0)
"""No eigenvalue of a factor is given as less, also where the factor is all zero.

-100 is the lower end of the range on which the paper's own features count log-eigenvalues.
"""


def power_of_two_scale(data: Tensor) -> float | None:
    """Return a power of two that brings the largest entry near 1 where squares would overflow or vanish, else 1.

    Return None when an entry is NaN or infinite. An empty or all-zero tensor has scale 1.
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
    """Return sum_i left_i right_i' [c, d] in float64, of rows [n, c] and [n, d]; right is left by default."""
    n_right = left.shape[1] if right is None else right.shape[1]
    total = torch.zeros(left.shape[1], n_right, dtype=torch.float64, device=left.device)
    for start in range(0, len(left), BLOCK_ROWS):
        x = left[start : start + BLOCK_ROWS].double()
        total.addmm_(x.T, x if right is None else right[start : start + BLOCK_ROWS].double())
    return total


class SecondMoment:
    """The growing second moment of rows with `dim` features, and of constants of 1 that stand for biases.

    Rows may carry a constant: a coordinate that is 1 in them and 0 in all rows without it. A bias is the constant of
    the rows that it is added to, so a weight that is used with two biases has two.

    While it has seen fewer rows than features it keeps the rows themselves, because the small Gram matrix has the same
    non-zero eigenvalues: a dense layer with 25,088 inputs and a batch of 128 costs a 128-square matrix, not 5 GB.
    """

    def __init__(self, dim: int) -> None:
        self.dim = dim
        self._kept: list[tuple[Tensor, Hashable]] = []
        self._n_kept = 0
        self._products: Tensor | None = None
        self._sums: dict[Hashable, Tensor] = {}
        self._counts: dict[Hashable, int] = {}

    def keeps(self, n_rows: int, n_constants: int) -> bool:
        """Return whether `n_rows` further rows would still be fewer than the features, constants included."""
        return self._products is None and self._n_kept + n_rows < self.dim + n_constants

    def add_rows(self, rows: Tensor, scale: float = 1.0, constant: Hashable = None, n_constants: int = 0) -> None:
        """Add rows [n, dim], which are `scale` times the data, with a constant unless it is None."""
        if self.keeps(len(rows), n_constants):
            self._kept.append((rows.to(torch.float64, copy=True) / scale, constant))
            self._n_kept += len(rows)
        else:
            sums = None if constant is None else rows.sum(0, dtype=torch.float64)
            self.add_sums(row_moment(rows), sums, len(rows), scale, constant)

    def add_sums(
        self, products: Tensor, sums: Tensor | None, n_rows: int, scale: float = 1.0, constant: Hashable = None
    ) -> None:
        """Add sum_i x_i x_i' [dim, dim] and sum_i x_i [dim], float64, of n rows x_i that are `scale` times the data.

        Without a constant the sums are not read.
        """
        self._own_products(products.device).add_(products, alpha=scale**-2)
        if constant is not None and sums is not None:
            self._sums[constant] = self._sums.get(constant, 0) + sums / scale
            self._counts[constant] = self._counts.get(constant, 0) + n_rows

    def _own_products(self, device: torch.device) -> Tensor:
        if self._products is None:
            self._products = torch.zeros(self.dim, self.dim, dtype=torch.float64, device=device)
            kept, self._kept = self._kept, []
            for rows, constant in kept:
                self.add_sums(row_moment(rows), rows.sum(0), len(rows), constant=constant)
        return self._products

    def rename(self, constant: Hashable, name: Hashable) -> None:
        """Give the rows with a constant another one: the bias that was added to them later."""
        self._kept = [(rows, name if known == constant else known) for rows, known in self._kept]
        if constant in self._sums:
            self._sums[name] = self._sums.get(name, 0) + self._sums.pop(constant)
            self._counts[name] = self._counts.get(name, 0) + self._counts.pop(constant)

    def eigenvalues(self, divisor: float, constants: Sequence[Hashable] = ()) -> NDArray[np.float64]:
        """Return all eigenvalues of the moment of rows with these constants, divided by `divisor`: ascending, not below
        the floor, [dim + constants]."""
        if self._products is not None:
            found = symmetric_eigenvalues(self._bordered(self._products, constants))
        elif self._kept:
            rows = torch.cat([rows for rows, _ in self._kept])
            gram = rows @ rows.T
            for constant in constants:
                # The constant is one more feature of the rows, so it adds its outer product to their Gram matrix.
                ones = torch.cat([rows.new_full((len(rows),), float(known == constant)) for rows, known in self._kept])
                gram += ones[:, None] * ones
            found = symmetric_eigenvalues(gram)
        else:
            found = np.zeros(0)
        # The Gram matrix of fewer rows than features lacks zeros, that of more has some too many.
        size = self.dim + len(constants)
        return floored(np.concatenate([np.zeros(max(0, size - len(found))), found[-size:] / divisor]))

    def _bordered(self, products: Tensor, constants: Sequence[Hashable]) -> Tensor:
        d = self.dim
        matrix = products.new_zeros(d + len(constants), d + len(constants))
        matrix[:d, :d] = products
        for i, constant in enumerate(constants, d):
            if constant in self._sums:
                matrix[:d, i] = matrix[i, :d] = self._sums[constant]
                matrix[i, i] = self._counts[constant]
        return matrix


def symmetric_eigenvalues(matrix: Tensor) -> NDArray[np.float64]:
    """Return the eigenvalues of a symmetric float64 matrix [d, d], ascending; computed on the CPU."""
    array = matrix.detach().cpu().numpy()
    values: NDArray[np.float64] = scipy.linalg.eigh(array, eigvals_only=True, check_finite=False, driver="evr")
    return values


def floored(eigenvalues: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the eigenvalues, ascending, with those below the floor raised to it."""
    floor = max(RELATIVE_FLOOR * float(eigenvalues.max(initial=0.0)), ABSOLUTE_FLOOR)
    return np.sort(np.maximum(eigenvalues, floor))
