"""The small tasks that run anywhere: their data are what they say, and generating them disturbs nothing."""

from __future__ import annotations

import gzip
import random

import numpy as np
import pytest
import torch
from synthetic_data import make_fashion_mnist
from torch import nn

from aquasurf_ray.tasks import TaskError, data_set_of, load_task
from aquasurf_ray.tasks.data_sets import fashion_mnist
from aquasurf_ray.tasks.networks import characters


@pytest.mark.parametrize(
    ("name", "shape", "outputs", "sizes"),
    [
        ("mnist1d", (1, 40), (10,), (4000, 2000, 2000)),
        ("friedman", (10,), (1,), (2000, 2000, 2000)),
        ("digits-vit", (1, 8, 8), (10,), (899, 449, 449)),
        ("characters", (48,), (48, 96), (6666, 833, 833)),
    ],
)
@pytest.mark.slow
def test_a_task_has_its_data_and_a_network_for_them(name, shape, outputs, sizes):
    task = load_task(name)
    splits = task.splits()
    assert tuple(map(len, (splits.train, splits.validation, splits.test))) == sizes
    x, y = splits.train[:4]
    assert x.shape == (4, *shape)
    assert task.network(nn.ReLU)(x).shape == (4, *outputs)
    assert task.objective.loss(task.network(nn.ReLU)(x), y).isfinite()
    assert data_set_of(name) is None, "nothing is to be fetched"


@pytest.mark.slow
def test_mnist1d_is_the_packages_own_and_leaves_the_generators_as_found(tmp_path, monkeypatch):
    monkeypatch.setenv("AQUASURF_CACHE", str(tmp_path))  # or they would be read instead of generated
    random.seed(3)
    np.random.seed(3)
    before = random.getstate(), np.random.get_state()[1].tolist()
    splits = load_task("mnist1d").splits()
    assert (random.getstate(), np.random.get_state()[1].tolist()) == before
    from mnist1d.data import get_dataset_args, make_dataset

    arguments = get_dataset_args()
    arguments.num_samples = 8000
    everything = make_dataset(arguments)
    signals = np.concatenate([everything["x"], everything["x_test"]]).astype(np.float32)
    assert np.array_equal(
        torch.cat([split.tensors[0] for split in vars(splits).values() if split]).numpy()[:, 0], signals
    )
    counts = torch.bincount(torch.cat([s.tensors[1] for s in (splits.train, splits.validation, splits.test)]))
    assert counts.tolist() == [800] * 10


def test_friedmans_targets_follow_his_formula_up_to_noise_of_deviation_one():
    from sklearn.datasets import make_friedman1

    columns, target = make_friedman1(6000, n_features=10, noise=1.0, random_state=0)
    a, b, c, d, e = columns.T[:5]
    noise = target - (10 * np.sin(np.pi * a * b) + 20 * (c - 0.5) ** 2 + 10 * d + 5 * e)
    assert noise.std() == pytest.approx(1, abs=0.05)
    splits = load_task("friedman").splits()
    scale = target[:2000].std(ddof=1)
    got = splits.test.tensors[1][:, 0].double().numpy() * scale + target[:2000].mean()
    assert np.allclose(got, target[4000:], atol=1e-5)


@pytest.mark.slow
def test_a_characters_targets_are_the_next_characters_and_no_piece_is_in_two_splits():
    splits = load_task("characters").splits()
    for split in (splits.train, splits.validation, splits.test):
        x, y = split.tensors
        assert torch.equal(x[:, 1:], y[:, :-1])
        assert torch.equal(x[1:, 0], y[:-1, -1])
    pieces = [{row.numpy().tobytes() for row in split.tensors[0]} for split in (splits.train, splits.validation)]
    assert len(pieces[0] & pieces[1]) < 0.02 * len(pieces[1]), "only what the text itself repeats"
    text = characters.reference_text()
    assert len(text) == characters.N_CHARACTERS
    assert [characters.VOCABULARY[i] for i in splits.train.tensors[0][0]] == list(text[:48])


@pytest.fixture
def fashion_files(tmp_path, monkeypatch):
    """The folder of archives in the published format with synthetic images, and (images, labels) of both parts."""
    monkeypatch.setenv("AQUASURF_DATA", str(tmp_path))
    return tmp_path / "FashionMNIST" / "raw", make_fashion_mnist(tmp_path, monkeypatch)


ON_FASHION_MNIST = ("all-cnn-c", "resnet56", "timm:mobilevitv2_050", "timm:coatnet_nano_rw_224")


@pytest.mark.parametrize("name", [f"{network}/fashion-mnist" for network in ON_FASHION_MNIST])
def test_fashion_mnist_is_read_held_out_and_standardised(fashion_files, name):
    _, content = fashion_files
    task = load_task(name)
    splits = task.splits()
    assert tuple(map(len, (splits.train, splits.validation, splits.test))) == (110, 10, 20)
    assert splits.train.tensors[0].mean().abs() < 1e-4
    assert splits.train.tensors[0].std(unbiased=False) == pytest.approx(1, abs=1e-4)
    inner = splits.test.tensors[0][:, 0, 2:-2, 2:-2]
    slope, offset = np.polyfit(content["t10k"][0].reshape(-1), inner.flatten(), 1)
    assert np.allclose(content["t10k"][0] * slope + offset, inner, atol=1e-4)
    assert torch.equal(splits.test.tensors[1], torch.from_numpy(content["t10k"][1]).long())
    assert task.network(nn.ReLU)(splits.test.tensors[0][:2]).shape == (2, 10)
    assert data_set_of(name) == "fashion-mnist"


def test_a_damaged_archive_is_named(fashion_files):
    folder, _ = fashion_files
    (folder / "train-labels-idx1-ubyte.gz").write_bytes(b"cut")
    with pytest.raises(TaskError, match=r"train-labels-idx1-ubyte\.gz is incomplete or damaged"):
        load_task("resnet56/fashion-mnist").splits()


@pytest.mark.skipif(not fashion_mnist.PACKAGED.is_dir(), reason="Debian's dataset-fashion-mnist is not installed")
@pytest.mark.slow
def test_the_small_task_has_the_published_images_at_half_their_size(tmp_path, monkeypatch):
    monkeypatch.setenv("AQUASURF_DATA", str(tmp_path))
    splits = load_task("fashion-small").splits()
    assert tuple(map(len, (splits.train, splits.validation, splits.test))) == (6000, 4000, 10_000)
    assert splits.train.tensors[0].shape == (6000, 1, 14, 14)
    assert torch.bincount(splits.train.tensors[1]).tolist() == [600] * 10
    assert torch.bincount(splits.validation.tensors[1]).tolist() == [400] * 10
    with gzip.open(fashion_mnist.PACKAGED / "t10k-images-idx3-ubyte.gz") as file:
        first = np.frombuffer(file.read(), np.uint8, 784, 16).reshape(14, 2, 14, 2).mean((1, 3)).round()
    got = splits.test.tensors[0][0, 0]
    slope, offset = np.polyfit(first.flatten(), got.flatten(), 1)
    assert np.allclose(first * slope + offset, got, atol=1e-4)
    assert load_task("fashion-small").network(nn.ReLU)(splits.train.tensors[0][:2]).shape == (2, 10)
