"""Random transformations of a whole batch at once, on its device, with separate draws for each image."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def flip_and_shift(inputs: Tensor, generator: torch.Generator, *, pixels: int) -> Tensor:
    """Mirror each image with probability 1/2, then shift it by up to `pixels` in each direction, filling with zeros.

    This equals a flip, padding by `pixels` on all sides and a random crop. The result is contiguous.

    Args:
        inputs: images (n, c, h, w).
        generator: a generator on the CPU, so that all devices draw the same: first the flips, then the shifts.
        pixels: the largest shift; all shifts from -pixels to pixels are equally likely.
    """
    n, _, height, width = inputs.shape
    flips = torch.rand(n, generator=generator) < 0.5
    shifts = torch.randint(0, 2 * pixels + 1, (2, n, 1), generator=generator)
    rows = torch.arange(height) + shifts[0]
    columns = torch.arange(width) + shifts[1]
    # A mirrored image reads the padded one from its other end.
    columns = torch.where(flips[:, None], width - 1 + 2 * pixels - columns, columns)
    padded = functional.pad(inputs, (pixels,) * 4)
    image = torch.arange(n, device=inputs.device)[:, None, None]
    rows, columns = rows.to(inputs.device), columns.to(inputs.device)
    # two index arrays around the channels' slice put the channels last: one gather, then back
    return padded[image, :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2).contiguous()
