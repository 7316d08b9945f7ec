"""The augmentation of a batch does what a slow one does for each image, and draws evenly."""

from __future__ import annotations

from collections import Counter
from functools import partial

import numpy as np
import torch

from aquasurf_ray.tasks import load_task
from aquasurf_ray.tasks.data_sets.augmentation import flip_and_shift
from aquasurf_ray.tasks.objective import name_of


def slow(image, flipped, down, right):
    """One image (c, h, w), flipped or not, then moved pixel by pixel; zeros come in."""
    source = image[:, :, ::-1] if flipped else image
    out = np.zeros_like(image)
    _, height, width = image.shape
    for y in range(height):
        for x in range(width):
            if 0 <= y - down < height and 0 <= x - right < width:
                out[:, y, x] = source[:, y - down, x - right]
    return out


def test_every_image_is_one_of_the_slow_transformations_and_all_are_equally_likely():
    pixels, n = 2, 5000
    image = np.arange(1, 2 * 5 * 6 + 1, dtype=np.float32).reshape(2, 5, 6)
    moves = [(f, d, r) for f in (False, True) for d in range(-2, 3) for r in range(-2, 3)]
    expected = {slow(image, *move).tobytes(): move for move in moves}
    assert len(expected) == 50
    batch = torch.from_numpy(image).expand(n, 2, 5, 6)
    out = flip_and_shift(batch, torch.Generator().manual_seed(0), pixels=pixels)
    counts = Counter(expected[one.numpy().tobytes()] for one in out)
    assert len(counts) == 50
    statistic = sum((count - n / 50) ** 2 / (n / 50) for count in counts.values())
    assert statistic < 85  # chi-square of 49 degrees of freedom: beyond that once in a thousand


def test_images_stay_apart_and_channels_in_order():
    batch = torch.arange(1, 9.0).reshape(4, 2, 1, 1).expand(4, 2, 8, 8)
    out = flip_and_shift(batch, torch.Generator().manual_seed(1), pixels=3)
    for i in range(4):
        for c in range(2):
            assert set(out[i, c].unique().tolist()) <= {0.0, batch[i, c, 0, 0].item()}
            assert out[i, c, 4, 4] == batch[i, c, 0, 0]


def test_the_generator_decides_and_the_input_stays():
    batch = torch.randn(6, 3, 32, 32)
    before = batch.clone()
    torch.manual_seed(0)
    first = flip_and_shift(batch, torch.Generator().manual_seed(2), pixels=4)
    torch.manual_seed(1)
    assert torch.equal(flip_and_shift(batch, torch.Generator().manual_seed(2), pixels=4), first)
    assert not torch.equal(flip_and_shift(batch, torch.Generator().manual_seed(3), pixels=4), first)
    assert torch.equal(batch, before)
    assert first.is_contiguous()


def test_memory_format_changes_nothing():
    batch = torch.randn(6, 3, 32, 32)
    last = batch.contiguous(memory_format=torch.channels_last)
    draw = partial(flip_and_shift, pixels=4)
    assert torch.equal(draw(batch, torch.Generator().manual_seed(0)), draw(last, torch.Generator().manual_seed(0)))


def test_the_shift_of_a_recipe_is_in_the_tasks_identity():
    assert name_of(load_task("all-cnn-c/cifar10").augment) == "flip_and_shift(pixels=5)"
    assert name_of(load_task("resnet56/cifar10").augment) == "flip_and_shift(pixels=4)"
