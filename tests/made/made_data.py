"""Tiny data sets in the exact on-disk formats of the real ones, for whatever test needs a task's data.

    from made_data import made_data        # a fixture: all sets in one folder, which AQUASURF_DATA then names

Every image shows its class as a colour with some noise, so that a network can learn it. The MD5 lists of torchvision's
CIFAR classes are patched to the made files, in this process only.
"""

from __future__ import annotations

import hashlib
import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from torchvision import datasets

IMAGENET_CLASSES = ("n01440764", "n01443537", "n01484850")
IMAGENETTE_CLASSES = tuple(sorted(datasets.Imagenette._WNID_TO_CLASS))


def colours(n_classes: int) -> np.ndarray:
    """(n_classes, 3) in [0, 255], all different."""
    return np.random.default_rng(1).integers(40, 216, (n_classes, 3))


def images_of(labels: np.ndarray, n_classes: int, height: int, width: int, seed: int) -> np.ndarray:
    """(n, height, width, 3) uint8."""
    noise = np.random.default_rng(seed).integers(-40, 40, (len(labels), height, width, 3))
    return (colours(n_classes)[labels][:, None, None, :] + noise).astype(np.uint8)


def write_pickle(path: Path, content: object) -> str:
    """Writes the file and returns its MD5."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(pickle.dumps(content))
    return hashlib.md5(path.read_bytes()).hexdigest()


def write_batch(path: Path, labels: np.ndarray, n_classes: int, key: str, seed: int) -> str:
    """One batch of CIFAR's: rows of 3,072 bytes, channel by channel, beside a list of labels."""
    images = images_of(labels, n_classes, 32, 32, seed)
    rows = images.transpose(0, 3, 1, 2).reshape(len(labels), 3072)
    names = [f"{i}.png" for i in range(len(labels))]
    return write_pickle(path, {"data": rows, key: labels.tolist(), "filenames": names})


def make_cifar10(folder: Path, patch: pytest.MonkeyPatch, n_a_batch: int = 40, n_test: int = 20) -> None:
    """`cifar-10-batches-py`: five training batches, a test batch and the class names."""
    kind, base = datasets.CIFAR10, folder / datasets.CIFAR10.base_folder
    lists = {"train_list": n_a_batch, "test_list": n_test}
    for attribute, n in lists.items():
        made = []
        for seed, (name, _) in enumerate(getattr(kind, attribute)):
            made.append([name, write_batch(base / name, np.arange(n) % 10, 10, "labels", seed=n + seed)])
        patch.setattr(kind, attribute, made)
    names = [f"class {i}" for i in range(10)]
    patch.setattr(kind, "meta", kind.meta | {"md5": write_pickle(base / "batches.meta", {"label_names": names})})


def make_cifar100(folder: Path, patch: pytest.MonkeyPatch, n_train: int = 400, n_test: int = 100) -> None:
    """`cifar-100-python`: one training and one test file, and the class names."""
    kind, base = datasets.CIFAR100, folder / datasets.CIFAR100.base_folder
    for attribute, name, n in (("train_list", "train", n_train), ("test_list", "test", n_test)):
        md5 = write_batch(base / name, np.arange(n) % 100, 100, "fine_labels", n)
        patch.setattr(kind, attribute, [[name, md5]])
    names = [f"class {i}" for i in range(100)]
    patch.setattr(kind, "meta", kind.meta | {"md5": write_pickle(base / "meta", {"fine_label_names": names})})


def make_image_tree(folder: Path, classes: tuple[str, ...], counts: dict[str, int], suffix: str = "JPEG") -> None:
    """`folder/SPLIT/CLASS/CLASS_i.JPEG`, with `counts[SPLIT]` images a class, of several sizes."""
    for split, n in counts.items():
        for label, name in enumerate(classes):
            place = folder / split / name
            place.mkdir(parents=True)
            for i in range(n):
                height, width = 40 + 4 * i, 60 - 4 * i
                image = images_of(np.array([label]), len(classes), height, width, seed=100 * label + i)[0]
                Image.fromarray(image).save(place / f"{name}_{i}.{suffix}", format="JPEG")


def make_imagenette(folder: Path) -> None:
    """`imagenette2-320`, with its ten class folders."""
    make_image_tree(folder / "imagenette2-320", IMAGENETTE_CLASSES, {"train": 4, "val": 2})


def make_imagenet(folder: Path) -> None:
    """`imagenet`, with three of its thousand class folders."""
    make_image_tree(folder / "imagenet", IMAGENET_CLASSES, {"train": 5, "val": 2})


@pytest.fixture
def made_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with all data sets, which is where tasks look for theirs during the test."""
    folder = tmp_path / "data"
    make_cifar10(folder, monkeypatch)
    make_cifar100(folder, monkeypatch)
    make_imagenette(folder)
    make_imagenet(folder)
    monkeypatch.setenv("AQUASURF_DATA", str(folder))
    return folder
