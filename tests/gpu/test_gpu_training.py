"""What the training engine must hold on a GPU: the same figures however data get there, and each precision.

Skipped where PyTorch sees no GPU. Needs neither Ray nor a database.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

from aquasurf_ray.activations import Activation
from aquasurf_ray.tasks import Splits, load_task
from aquasurf_ray.workers.engine import batches
from aquasurf_ray.workers.engine.batches import batch_source
from aquasurf_ray.workers.engine.checkpoints import CheckpointFolder
from aquasurf_ray.workers.engine.feed import TrainingFeed
from aquasurf_ray.workers.engine.form import named_form
from aquasurf_ray.workers.engine.health import HealthLimits
from aquasurf_ray.workers.engine.loop import TrainingLoop
from aquasurf_ray.workers.engine.ranks import Alone
from aquasurf_ray.workers.training import train

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="PyTorch sees no GPU")

GPU = torch.device("cuda", 0)
SWISH = Activation("swish(x)")
ON_TWO = """
import sys, pickle
import torch, torch.distributed as dist
from aquasurf_ray.activations import Activation
from aquasurf_ray.tasks import load_task
from aquasurf_ray.workers.engine.ranks import Ranks
from aquasurf_ray.workers.training import train
rank, folder = int(sys.argv[1]), sys.argv[2]
torch.cuda.set_device(rank)
dist.init_process_group("nccl", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
result = train(load_task("digits"), Activation("swish(x)"), ranks=Ranks(rank, 2, torch.device("cuda", rank)))
pickle.dump(result, open(f"{folder}/{rank}.pkl", "wb"))
dist.destroy_process_group()
"""


@pytest.fixture(scope="module")
def digits():
    return load_task("digits")


def with_recipe(task, **recipe):
    return replace(task, recipe=replace(task.recipe, **recipe))


class Listed(Dataset):
    def __init__(self, tensors):
        self.examples = tensors

    def __len__(self):
        return len(self.examples)

    def __getitem__(self, index):
        return self.examples[index]


def test_data_that_fit_are_moved_once_and_others_batch_by_batch_with_the_same_figures(digits, monkeypatch):
    splits = digits.splits()
    resident = next(iter(batch_source(splits.train, 64, GPU).in_order()))
    assert resident.inputs.device == GPU
    given = with_recipe(digits, deterministic=True, epochs=2)
    whole = train(given, SWISH, splits=splits, device=GPU)
    monkeypatch.setattr(batches, "RESIDENT_SHARE", 0.0)
    assert train(given, SWISH, splits=splits, device=GPU).val_loss == whole.val_loss
    listed = Splits(*(Listed(s) for s in (splits.train, splits.validation, splits.test)))
    read = train(given, SWISH, splits=listed, device=GPU, loader_workers=2)
    assert read.val_loss == pytest.approx(whole.val_loss, rel=1e-5)
    own = replace(splits, validation=DataLoader(splits.validation, batch_size=100, pin_memory=True))
    assert train(given, SWISH, splits=own, device=GPU).val_loss == pytest.approx(whole.val_loss, rel=1e-5)


@pytest.mark.parametrize(
    "recipe", [{"precision": "auto"}, {"precision": "bfloat16"}, {"tf32": True}, {"channels_last": True}], ids=str
)
def test_each_way_to_compute_learns_digits(digits, recipe):
    result = train(with_recipe(digits, **recipe), SWISH, device=GPU, gate=HealthLimits())
    low = recipe.get("precision") == "bfloat16" or (
        recipe.get("precision") == "auto" and torch.cuda.is_bf16_supported(including_emulation=False)
    )
    assert result.precision == ("bfloat16" if low else "float32")
    assert result.score > 0.85
    assert result.examples_per_second > 100


class Interrupted(Exception):
    pass


def stop_in_the_third(epoch):
    if epoch.epoch == 3:
        raise Interrupted


def with_dropout(activation):
    return nn.Sequential(
        nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), activation(), nn.Dropout(0.2), nn.Flatten(), nn.Linear(288, 10)
    )


def test_a_deterministic_training_resumes_bit_for_bit(digits, tmp_path):
    pytest.importorskip("torchvision")
    recipe = {
        "epochs": 4,
        "optimizer": "adamw",
        "learning_rate": 0.01,
        "mixup": 0.2,
        "ema_decay": 0.9,
        "clip_norm": 1.0,
    }
    given = replace(with_recipe(digits, deterministic=True, precision="auto", **recipe), network=with_dropout)
    whole = train(given, SWISH, device=GPU)
    folder = CheckpointFolder(str(tmp_path), {})
    with pytest.raises(Interrupted):
        train(given, SWISH, device=GPU, checkpoints=folder, checkpoint_interval=0.0, on_epoch=stop_in_the_third)
    resumed = train(given, SWISH, device=GPU, checkpoints=folder)
    assert [{**asdict(e), "seconds": 0} for e in resumed.epochs] == [{**asdict(e), "seconds": 0} for e in whole.epochs]
    assert resumed.test_loss == whole.test_loss


def test_steps_do_not_wait_for_the_device(digits):
    given = with_recipe(digits, epochs=1, clip_norm=1.0, ema_decay=0.9, precision="auto")
    loop = TrainingLoop(TrainingFeed(given, given.splits(), GPU, seed=0), named_form(SWISH), Alone())
    steps = loop.feed.epoch(1, loop.order, loop.network)
    for _ in range(2):
        loop.step(loop.network, next(steps))
    torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in range(3):
            loop.step(loop.network, next(steps))
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")
def test_two_gpus_give_the_figures_of_one(digits, tmp_path):
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-c", ON_TWO]
    processes = [subprocess.Popen([*command, str(rank), str(tmp_path)], env=env) for rank in range(2)]
    assert [p.wait(timeout=300) for p in processes] == [0, 0]
    alone = train(digits, SWISH, device=GPU)
    first = pickle.loads((tmp_path / "0.pkl").read_bytes())
    assert first.n_devices == 2
    assert first.epochs[0].train_loss == pytest.approx(alone.epochs[0].train_loss, rel=0.01)
    assert first.score == pytest.approx(alone.score, abs=0.03)
