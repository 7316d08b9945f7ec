"""Importing the package starts nothing heavy, and its public names are there."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

HEAVY = ("torch", "ray", "umap", "numba", "sklearn", "pandas", "sqlalchemy", "matplotlib")


def loaded_after(code: str) -> set[str]:
    return {name.partition(".")[0] for name in modules_after(code)}


def modules_after(code: str) -> set[str]:
    script = f"{code}\nimport json, sys; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout))


def test_importing_the_package_loads_nothing_heavy() -> None:
    assert loaded_after("import aquasurf_ray; aquasurf_ray.__version__; dir(aquasurf_ray)").isdisjoint(HEAVY)


@pytest.mark.slow
def test_the_expression_language_loads_neither_ray_nor_umap() -> None:
    loaded = loaded_after("from aquasurf_ray import Activation, SearchSpace, parse; parse('relu(x)')")
    assert "torch" in loaded
    assert loaded.isdisjoint({"ray", "umap", "numba", "sklearn", "sqlalchemy", "matplotlib"})


def test_a_function_is_read_and_printed_without_torch() -> None:
    code = "from aquasurf_ray.activations import BASELINES, latex, parse, words; latex(parse('mul(x,erf(x))'))"
    assert loaded_after(code).isdisjoint(HEAVY)


def test_the_names_of_all_tasks_are_listed_without_torch() -> None:
    loaded = loaded_after("from aquasurf_ray.tasks import data_set_of, task_descriptions; task_descriptions()")
    assert loaded.isdisjoint({*HEAVY, "timm", "torchvision", "numpy", "PIL"})


@pytest.mark.slow
def test_custom_tasks_and_spectra_need_neither_timm_nor_torchvision() -> None:
    code = """
import sys
sys.modules["timm"] = sys.modules["torchvision"] = None  # importing them is an error now
from aquasurf_ray.tasks import Task, load_task, network_from, replace_activations
import aquasurf_ray.workers.spectrum
from torch import nn
assert load_task("digits").network(nn.ReLU) is not None
assert replace_activations(nn.Sequential(nn.ReLU()), nn.Tanh).replaced == ("0",)
"""
    assert "torch" in loaded_after(code)


@pytest.mark.parametrize("module", ["activations.forms.choice", "workers.actor", "driver.verbs.search"])
@pytest.mark.slow
def test_the_compiler_is_not_loaded_before_something_is_compiled(module: str) -> None:
    """It takes longer to import than the rest of PyTorch, in each worker and in each command."""
    loaded = modules_after(f"import aquasurf_ray.{module}")
    assert "torch" in loaded
    assert loaded.isdisjoint({"torch._dynamo", "torch._inductor", "sympy"})


def test_public_names() -> None:
    from aquasurf_ray import Activation, SearchSpace, Task, parse
    from aquasurf_ray.activations import Activation as ActivationOfTheRoom

    assert Activation is ActivationOfTheRoom
    assert callable(parse)
    assert callable(SearchSpace)
    assert callable(Task)
    import aquasurf_ray.tasks

    assert all(hasattr(aquasurf_ray.tasks, name) for name in aquasurf_ray.tasks.__all__)
    assert set(aquasurf_ray.tasks.__all__) <= set(dir(aquasurf_ray.tasks))
    assert set(aquasurf_ray.__all__) <= set(dir(aquasurf_ray))
    assert aquasurf_ray.__version__[0].isdigit()
    with pytest.raises(AttributeError, match="Activatoin"):
        _ = aquasurf_ray.Activatoin


def test_a_worker_that_only_answers_loads_neither_torch_nor_ray() -> None:
    loaded = loaded_after(
        "import aquasurf_ray.workers.messages, aquasurf_ray.workers.result, aquasurf_ray.workers.engine.stopping;"
        "import aquasurf_ray.surrogate.spectra"
    )
    assert loaded.isdisjoint({"torch", "ray", "umap", "sqlalchemy"})
