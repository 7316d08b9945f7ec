"""Data sets are read from their own formats, split without leaks, and refused where they are not whole."""

from __future__ import annotations

import shutil
import tarfile
from collections import Counter
from functools import partial
from hashlib import md5
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import numpy as np
import pytest
import torch
from PIL import Image
from synthetic_data import make_image_tree, make_imagenette
from torchvision import datasets

from aquasurf_ray.tasks import TaskError, data_set_of, load_task
from aquasurf_ray.tasks.data_sets import DATA_SETS, data_folder, download, task_data
from aquasurf_ray.tasks.data_sets.cifar import channel_statistics
from aquasurf_ray.tasks.data_sets.held_out import held_out
from aquasurf_ray.tasks.data_sets.image_folders import image_folder_splits
from aquasurf_ray.tasks.data_sets.preparation import Preparation


def splits_of(task):
    return load_task(task).splits()


def rows(split):
    return {tensor.numpy().tobytes() for tensor in split.tensors[0]}


@pytest.mark.parametrize(
    ("task", "sizes", "n_classes"),
    [("resnet56/cifar10", (180, 20, 20), 10), ("all-cnn-c/cifar100", (300, 100, 100), 100)],
)
def test_cifar_is_read_held_out_by_class_and_standardised(synthetic_data, task, sizes, n_classes):
    splits = splits_of(task)
    train, validation, test = splits.train, splits.validation, splits.test
    assert tuple(map(len, (train, validation, test))) == sizes
    assert train.tensors[0].dtype == torch.float32
    assert train.tensors[0].is_contiguous()
    assert train.tensors[1].dtype == torch.int64
    for split in (train, validation, test):
        counts = torch.bincount(split.tensors[1], minlength=n_classes)
        assert counts.min() == counts.max() == len(split) // n_classes
    assert len(rows(train) | rows(validation) | rows(test)) == sum(sizes)
    assert torch.allclose(train.tensors[0].mean((0, 2, 3)), torch.zeros(3), atol=1e-4)
    assert torch.allclose(train.tensors[0].std((0, 2, 3), unbiased=False), torch.ones(3), atol=1e-4)


def test_cifar_images_are_those_of_the_files(synthetic_data):
    test = splits_of("resnet56/cifar10").test.tensors[0]
    train = splits_of("resnet56/cifar10").train.tensors[0]
    raw = datasets.CIFAR10(synthetic_data, train=False)
    pixels = torch.stack([torch.from_numpy(np.array(image)).permute(2, 0, 1).float() for image, _ in raw])
    slope = (test[0, 0, 0, 0] - test[0, 0, 0, 1]) / (pixels[0, 0, 0, 0] - pixels[0, 0, 0, 1])
    for channel in range(3):
        fit = np.polyfit(pixels[:, channel].flatten(), test[:, channel].flatten(), 1)
        assert np.allclose(np.polyval(fit, pixels[:, channel]), test[:, channel], atol=1e-4)
    assert slope > 0
    assert train.shape[1:] == (3, 32, 32)


def test_channel_statistics_are_the_plain_ones():
    images = torch.randint(0, 256, (7, 3, 5, 4), dtype=torch.uint8)
    mean, std = channel_statistics(images)
    as_array = images.numpy().astype(np.float64)
    assert np.allclose(mean, as_array.mean((0, 2, 3)))
    assert np.allclose(std, as_array.std((0, 2, 3)))


def test_held_out_is_stratified_disjoint_complete_and_seeded():
    labels = torch.tensor([0] * 50 + [3] * 30 + [1] * 2)[torch.randperm(82)]
    train, out = held_out(labels, 0.1)
    assert torch.equal(torch.cat([train, out]).sort().values, torch.arange(82))
    assert Counter(labels[out].tolist()) == {0: 5, 3: 3, 1: 1}
    assert torch.equal(held_out(labels, 0.1)[1], out)
    assert not torch.equal(held_out(labels, 0.1, seed=1)[1], out)
    with pytest.raises(TaskError, match="class 1 has one training example"):
        held_out(torch.tensor([0, 0, 1]), 0.5)


def test_5000_images_of_cifar_are_held_out():
    for n_classes in (10, 100):
        train, out = held_out(torch.arange(50_000) % n_classes, 0.1)
        assert (len(train), len(out)) == (45_000, 5_000)


@pytest.mark.parametrize(("task", "n_classes"), [("mobilevitv2-050/imagenette", 10), ("resnet50/imagenet", 3)])
def test_image_trees_hold_out_training_images_and_test_on_the_published_validation(synthetic_data, task, n_classes):
    splits = splits_of(task)
    names = {s: {splits.train.images.samples[i][0] for i in getattr(splits, s).chosen} for s in ("train", "validation")}
    assert not names["train"] & names["validation"]
    assert len(names["train"] | names["validation"]) == len(splits.train.images)
    assert torch.bincount(splits.validation.labels).tolist() == [1] * n_classes
    assert len(splits.test) == 2 * n_classes
    assert all("/val/" in path for path, _ in splits.test.images.samples)
    assert torch.equal(splits.unaugmented.chosen, splits.train.chosen)


def test_only_training_images_are_transformed_at_random(synthetic_data):
    splits = splits_of("mobilevitv2-050/imagenette")
    image, label = splits.train[0]
    assert image.shape == (3, 256, 256)
    assert image.dtype == torch.float32
    assert label.dtype == torch.int64
    assert not torch.equal(splits.train[0][0], image)
    assert torch.equal(splits.unaugmented[0][0], splits.unaugmented[0][0])
    assert torch.equal(splits.validation[3][0], splits.validation[3][0])
    torch.manual_seed(5)
    first = splits.train[1][0]
    torch.manual_seed(5)
    assert torch.equal(splits.train[1][0], first)


def test_evaluation_is_a_resize_and_the_centre():
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (60, 90, 3)).astype(np.uint8))
    preparation = Preparation(size=20, resize=30, mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4))
    small = np.asarray(picture.resize((45, 30), Image.Resampling.BILINEAR)) / 255
    expected = (small[5:25, 12:32] - [0.5, 0.4, 0.3]) / [0.2, 0.3, 0.4]
    got = preparation.evaluation()(picture)
    assert np.allclose(got, expected.transpose(2, 0, 1), atol=1e-5)


def test_every_setting_of_a_preparation_changes_the_training_image():
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (300, 400, 3)).astype(np.uint8))

    def drawn(**settings):
        torch.manual_seed(3)
        return Preparation(size=32, resize=40, **settings).training()(picture)

    changes = [
        {"crop_scale": (0.5, 1.0)},
        {"interpolation": "bicubic"},
        {"rand_augment": (2, 15)},
        {"erasing": 1.0},
        {"mean": (0, 0, 0)},
        {"std": (1, 1, 1)},
    ]
    assert torch.equal(drawn(), drawn())
    for change in changes:
        assert not torch.equal(drawn(**change), drawn()), change


def test_a_preparation_is_part_of_the_tasks_version():
    small = task_data("imagenette", "t", Preparation(size=64)).version
    assert small != task_data("imagenette", "t", Preparation(size=64, erasing=0.1)).version
    assert load_task("mobilevitv2-050/imagenette").version != load_task("coatnet/imagenette").version


def message_of(task):
    with pytest.raises(TaskError) as raised:
        splits_of(task)
    text = str(raised.value)
    assert len(text.splitlines()) <= 2
    assert f"aquasurf task check {task} --download" in text
    return text


@pytest.mark.parametrize("task", ["resnet56/cifar10", "all-cnn-c/cifar100", "coatnet/imagenette", "resnet50/imagenet"])
def test_absent_data_say_what_where_and_how(tmp_path, monkeypatch, task):
    monkeypatch.setenv("AQUASURF_DATA", str(tmp_path / "nowhere"))
    text = message_of(task)
    assert str(tmp_path / "nowhere") in text
    assert f"'{data_set_of(task)}'" in text
    assert not (tmp_path / "nowhere").exists()


def test_data_are_looked_for_in_the_working_folder_by_default(tmp_path, monkeypatch):
    monkeypatch.delenv("AQUASURF_DATA", raising=False)
    monkeypatch.chdir(tmp_path)
    assert data_folder() == tmp_path / "data"


def test_a_missing_and_a_truncated_cifar_file_are_named(synthetic_data):
    batch = synthetic_data / "cifar-10-batches-py" / "data_batch_3"
    whole = batch.read_bytes()
    batch.write_bytes(whole[:-1000])
    assert "file data_batch_3 is incomplete or damaged" in message_of("resnet56/cifar10")
    batch.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    assert "file data_batch_3 is incomplete or damaged" in message_of("resnet56/cifar10")
    batch.unlink()
    assert "no file data_batch_3" in message_of("resnet56/cifar10")
    (synthetic_data / "cifar-100-python" / "meta").unlink()
    assert "no file meta" in message_of("all-cnn-c/cifar100")


def test_a_truncated_image_is_named_when_it_is_read(synthetic_data):
    splits = splits_of("resnet50/imagenet")
    path = Path(splits.train.images.samples[int(splits.train.chosen[2])][0])
    path.write_bytes(path.read_bytes()[:400])
    with pytest.raises(TaskError, match=f"image {path} is damaged: .*[Tt]runcated"):
        splits.train[2]
    path.write_bytes(b"no image at all")
    with pytest.raises(TaskError, match=f"image {path} is damaged"):
        splits.train[2]
    path.unlink()
    with pytest.raises(TaskError, match=f"image {path} is damaged: .*No such file"):
        splits.train[2]


def test_trees_that_are_not_whole_are_refused(tmp_path):
    preparation = Preparation(size=16, resize=16)
    with pytest.raises(TaskError, match=r"no folder .*train"):
        image_folder_splits(tmp_path, preparation)
    make_image_tree(tmp_path, ("a", "b"), {"train": 2, "val": 1})
    assert len(image_folder_splits(tmp_path, preparation, held_out_share=0.5).train) == 2
    with pytest.raises(TaskError, match="has 2 classes, expected at most 1"):
        image_folder_splits(tmp_path, preparation, n_classes=1)
    shutil.rmtree(tmp_path / "val" / "b")
    with pytest.raises(TaskError, match="same classes; in one only: b"):
        image_folder_splits(tmp_path, preparation)
    (tmp_path / "val" / "b").mkdir()
    with pytest.raises(TaskError, match="Found no valid file for the classes b"):
        image_folder_splits(tmp_path, preparation)
    shutil.rmtree(tmp_path / "val")
    with pytest.raises(TaskError, match=r"no folder .*val"):
        image_folder_splits(tmp_path, preparation)


@pytest.mark.slow
def test_a_digest_reads_a_few_images_and_none_of_the_test_split(synthetic_data, monkeypatch):
    task = load_task("mobilevitv2-050/imagenette")
    splits = task.splits()
    read = []
    for images in (splits.train.images, splits.test.images):
        monkeypatch.setattr(images, "loader", lambda path, load=images.loader: read.append(path) or load(path))
    assert len(task.digest) == 32
    assert 0 < len(read) <= 16
    assert not [path for path in read if "/val/" in path]


@pytest.fixture
def shelf(tmp_path):
    """A folder, and the address at which a server on this machine hands out its files."""
    folder = tmp_path / "shelf"
    folder.mkdir()
    handler = partial(SimpleHTTPRequestHandler, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield folder, f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture
def archive(synthetic_data, shelf, monkeypatch):
    """CIFAR-10's archive at a local address, its files gone from the data folder."""
    folder, address = shelf
    packed = folder / "cifar-10-python.tar.gz"
    with tarfile.open(packed, "w:gz") as tar:
        tar.add(synthetic_data / "cifar-10-batches-py", "cifar-10-batches-py")
    shutil.rmtree(synthetic_data / "cifar-10-batches-py")
    monkeypatch.setattr(datasets.CIFAR10, "url", f"{address}/{packed.name}")
    monkeypatch.setattr(datasets.CIFAR10, "tgz_md5", md5(packed.read_bytes()).hexdigest())
    return packed


def test_a_download_fetches_checks_and_unpacks(synthetic_data, archive, capfd):
    assert "no file data_batch_1" in message_of("resnet56/cifar10")
    download("cifar10")
    assert "100%" in capfd.readouterr().err
    assert len(splits_of("resnet56/cifar10").train) == 180
    archive.unlink()
    download("cifar10")


def test_a_damaged_download_is_refused(synthetic_data, archive):
    archive.write_bytes(archive.read_bytes()[:-50])
    with pytest.raises(TaskError, match=r"cannot fetch data set 'cifar10' into .*corrupted"):
        download("cifar10", synthetic_data)
    archive.unlink()
    with pytest.raises(TaskError, match=r"cannot fetch data set 'cifar10' into .*Not Found|404"):
        download("cifar10", synthetic_data / "elsewhere")


def test_imagenette_is_downloaded_into_the_layout_that_is_read(shelf, tmp_path, monkeypatch):
    folder, address = shelf
    make_imagenette(tmp_path / "made")
    packed = folder / "imagenette2-320.tgz"
    with tarfile.open(packed, "w:gz") as tar:
        tar.add(tmp_path / "made" / "imagenette2-320", "imagenette2-320")
    entry = (f"{address}/{packed.name}", md5(packed.read_bytes()).hexdigest())
    monkeypatch.setitem(datasets.Imagenette._ARCHIVES, "320px", entry)
    monkeypatch.setenv("AQUASURF_DATA", str(tmp_path / "data"))
    download("imagenette")
    assert len(splits_of("coatnet/imagenette").test) == 20


def test_imagenet_cannot_be_fetched_from_nowhere(tmp_path):
    with pytest.raises(TaskError, match=r"ILSVRC2012_devkit_t12.tar.gz is not present"):
        download("imagenet", tmp_path)
    download("digits", tmp_path)
    with pytest.raises(TaskError, match="data set must be one of cifar10"):
        download("cifar11", tmp_path)


def test_every_registered_data_set_supplies_what_a_network_must_know():
    for name in DATA_SETS:
        source = task_data(name, "a task")
        assert source.n_classes >= 10
        assert len(source.shape) == 3
