"""Tasks of the paper, of timm and of installed packages are found by name, listed, and the same everywhere."""

from __future__ import annotations

import json
import math
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from aquasurf_ray.activations import Activation
from aquasurf_ray.tasks import Splits, TaskError, data_set_of, load_task, task_descriptions, task_names
from aquasurf_ray.tasks.data_sets import DATA_SETS
from aquasurf_ray.tasks.registry import BUILT_IN

SEED_TASKS = {
    "all-cnn-c/cifar10",
    "all-cnn-c/cifar100",
    "coatnet/imagenette",
    "digits",
    "mobilevitv2-050/imagenet",
    "mobilevitv2-050/imagenette",
    "resnet50/imagenet",
    "resnet56/cifar10",
    "resnet56/cifar100",
}


def test_every_task_of_the_seed_is_listed_with_a_line_about_it():
    assert set(task_names()) >= SEED_TASKS
    assert list(task_descriptions()) == task_names()
    for text in task_descriptions().values():
        assert 20 < len(text) < 80
        assert "\n" not in text


@pytest.mark.parametrize("name", [*BUILT_IN, "timm:resnet18/cifar100"])
def test_every_task_has_its_name_and_is_made_without_data(name, tmp_path, monkeypatch):
    monkeypatch.setenv("AQUASURF_DATA", str(tmp_path))
    task = load_task(name)
    assert task.name == name
    classifies = name not in BUILT_IN or BUILT_IN[name].classifies
    assert (task.objective.metric.name == "accuracy") is classifies, "imports know the metric without making the task"
    assert data_set_of(name) in ({None} if name in NOTHING_TO_FETCH else DATA_SETS)
    assert pickle.loads(pickle.dumps(task)).recipe == task.recipe


@pytest.mark.parametrize(
    "name", ["all-cnn-c/cifar100", "resnet56/cifar10", "mobilevitv2-050/imagenette", "timm:resnet10t/cifar10"]
)
@pytest.mark.slow
def test_the_network_of_a_task_takes_its_inputs_and_has_its_classes(synthetic_data, name):
    task = load_task(name)
    splits = task.splits()
    assert isinstance(splits, Splits)
    inputs = torch.stack([splits.for_spectrum()[i][0] for i in range(2)])
    labels = [int(splits.test[i][1]) for i in range(len(splits.test))]
    outputs = task.network(lambda: Activation("swish(x)"))(inputs)
    assert outputs.shape[0] == 2
    assert outputs.shape[1] == len(set(labels)) == max(labels) + 1


def test_the_recipes_are_those_of_the_papers():
    recipe = load_task("resnet56/cifar10").recipe
    steps = recipe.epochs * math.ceil(45_000 / recipe.batch_size)
    assert abs(steps - 64_000) < 352
    assert [m * 64_000 for m in recipe.milestones] == [32_000, 48_000]
    recipe = load_task("resnet50/imagenet").recipe
    assert [m * recipe.epochs for m in recipe.milestones] == [30, 60]
    recipe = load_task("mobilevitv2-050/imagenet").recipe
    steps = recipe.epochs * 1_281_167 * 0.96 / recipe.batch_size
    assert recipe.warmup_fraction * steps == pytest.approx(20_000, rel=0.02)
    assert recipe.learning_rate * recipe.final_fraction == pytest.approx(2e-4)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("timm:resnet18", "'timm:resnet18' must be timm:NETWORK/DATASET, with one of the data sets cifar10"),
        ("timm:resnet18/cifar11", "must be timm:NETWORK/DATASET"),
        ("timm:/digits", "must be timm:NETWORK/DATASET"),
        ("timm:resnet81/digits", "timm has no network 'resnet81'; did you mean"),
        ("resnet56/cifar", "unknown task 'resnet56/cifar'; did you mean 'resnet56/cifar1"),
    ],
)
def test_names_that_are_not_tasks_are_refused(name, text):
    with pytest.raises(TaskError, match=text):
        load_task(name)


FIXTURES = str(Path(__file__).parents[1] / "fixtures")
NOTHING_TO_FETCH = {"digits", "digits-mlp", "digits-vit", "mnist1d", "characters", "friedman"}
DIGESTS = """
import json, sys
sys.path.insert(0, {tests!r})
from aquasurf_ray.tasks import load_task
print(json.dumps([load_task(name).digest for name in {names!r}]))
"""


@pytest.mark.slow
def test_digests_are_the_same_in_another_process(synthetic_data):
    names = ["mobilevitv2-050/imagenette", "timm:seresnet18/digits"]
    code = DIGESTS.format(tests=FIXTURES, names=names)
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=200)
    assert json.loads(run.stdout) == [load_task(name).digest for name in names]


def install(folder, **entries):
    """A package that is installed as far as entry points can tell."""
    info = folder / "my_tasks-2.1.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: my-tasks\nVersion: 2.1\n")
    lines = "\n".join(f"{name} = {value}" for name, value in entries.items())
    (info / "entry_points.txt").write_text(f"[aquasurf_ray.tasks]\n{lines}\n")
    (folder / "installed_tasks.py").write_text(
        "from aquasurf_ray.tasks import Task, load_task\n"
        "from dataclasses import replace\n"
        "def mine(): return replace(load_task('digits'), name='mine')\n"
        "def failing(): raise RuntimeError('no such file')\n"
        "wrong = 7\n"
    )


def test_tasks_of_installed_packages_are_found_listed_and_blamed(tmp_path, monkeypatch):
    install(
        tmp_path,
        mine="installed_tasks:mine",
        digits="installed_tasks:failing",
        broken="no_such_module_here:make",
        failing="installed_tasks:failing",
        wrong="installed_tasks:wrong",
        absent="installed_tasks:absent",
    )
    monkeypatch.syspath_prepend(tmp_path)
    assert set(task_names()) == {*BUILT_IN, "mine", "broken", "failing", "wrong", "absent"}
    assert task_descriptions()["broken"] == "from the installed package my-tasks 2.1"
    assert "installed_tasks" not in sys.modules
    assert load_task("mine").name == "mine"
    assert load_task("digits").name == "digits"
    assert data_set_of("mine") is data_set_of("timm:resnet18/digits") is None
    with pytest.raises(
        TaskError,
        match=r"task 'broken' of the installed package my-tasks 2\.1 cannot be imported from no_such_module_here:make:"
        " ModuleNotFoundError",
    ):
        load_task("broken")
    with pytest.raises(TaskError, match=r"task 'absent' of the installed package my-tasks 2\.1 .*AttributeError"):
        load_task("absent")
    with pytest.raises(TaskError, match="task 'failing' could not be created: RuntimeError: no such file"):
        load_task("failing")
    with pytest.raises(TaskError, match="'installed_tasks:wrong' must be a function that returns a Task, got int"):
        load_task("wrong")
    with pytest.raises(TaskError, match="unknown task 'mines'; did you mean 'mine'"):
        load_task("mines")
