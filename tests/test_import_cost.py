"""Importing the package starts nothing heavy, and its public names are there."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

import aquasurf_ray

HEAVY = ("torch", "ray", "umap", "numba", "sklearn", "pandas", "sqlalchemy", "matplotlib")


def loaded_after(code: str) -> set[str]:
    script = f"{code}\nimport json, sys; print(json.dumps(sorted({{name.partition('.')[0] for name in sys.modules}})))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout))


def test_importing_the_package_loads_nothing_heavy() -> None:
    assert loaded_after("import aquasurf_ray; aquasurf_ray.__version__; dir(aquasurf_ray)").isdisjoint(HEAVY)


def test_the_expression_language_loads_neither_ray_nor_umap() -> None:
    loaded = loaded_after("from aquasurf_ray import Activation, SearchSpace, parse; parse('relu(x)')")
    assert "torch" in loaded
    assert loaded.isdisjoint({"ray", "umap", "numba", "sklearn", "sqlalchemy", "matplotlib"})


def test_public_names() -> None:
    from aquasurf_ray import Activation, SearchSpace, Task, parse
    from aquasurf_ray.activations import Activation as ActivationOfTheRoom

    assert Activation is ActivationOfTheRoom
    assert callable(parse)
    assert callable(SearchSpace)
    assert callable(Task)
    assert set(aquasurf_ray.__all__) <= set(dir(aquasurf_ray))
    assert aquasurf_ray.__version__[0].isdigit()
    with pytest.raises(AttributeError, match="has no attribute 'Activatoin'"):
        _ = aquasurf_ray.Activatoin
