"""Every import of ours is declared in pyproject.toml, and every declared version is pinned in constraints.txt.

Packages that another dependency happens to bring are not ours to use: a later version of it may stop bringing them.
"""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions

import pytest
from our_imports import ROOT, Import, developers_imports, imports, our_imports

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
FOR_DEVELOPERS = {"dev", "docs"}
DISTRIBUTIONS = packages_distributions()
RAY_EXTRAS = {"ray.tune": "ray[tune]", "ray.train": "ray[train]", "ray.job_submission": "ray[default]"}


def distribution(module: str) -> str | None:
    """The requirement that brings a module; None for the standard library and for ourselves.

    >>> distribution("sklearn.tree"), distribution("ray.tune.search.Searcher"), distribution("os.path")
    ('scikit-learn', 'ray[tune]', None)
    """
    top = module.partition(".")[0]
    if top in sys.stdlib_module_names or top == "aquasurf_ray":
        return None
    for prefix, extra in RAY_EXTRAS.items():
        if f"{module}.".startswith(f"{prefix}."):
            return extra
    return _normal(DISTRIBUTIONS.get(top, [top])[0])


def declared(requirements: list[str]) -> set[str]:
    """The names of requirements, and one name for each of their extras.

    >>> sorted(declared(["Ray[train,tune]>=2.51", "types-PyYAML"]))
    ['ray', 'ray[train]', 'ray[tune]', 'types-pyyaml']
    """
    names = set()
    for requirement in requirements:
        name, extras = re.match(r"([\w.-]+)(?:\[([\w,-]+)\])?", requirement).groups()
        names |= {_normal(name)} | {f"{_normal(name)}[{extra}]" for extra in (extras or "").split(",") if extra}
    return names


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def undeclared(found: Iterator[Import], always: set[str], optional: set[str]) -> dict[str, str]:
    """Where an import is that no requirement covers, by the requirement that is missing."""
    missing = {}
    for each in found:
        needed = distribution(each.module)
        if needed is not None and needed not in (always | optional if each.optional else always):
            missing[needed] = f"{each.importer}:{each.line}"
    return missing


ALWAYS = declared(PROJECT["dependencies"])
OPTIONAL = {
    name
    for extra, requirements in PROJECT["optional-dependencies"].items()
    if extra not in FOR_DEVELOPERS
    for name in declared(requirements)
}


def test_every_import_of_ours_is_declared() -> None:
    found = list(our_imports())
    rooms = {each.importer.split(".")[1] for each in found if "." in each.importer}
    assert rooms >= {"workers", "surrogate", "store", "driver", "tune"}
    assert undeclared(iter(found), ALWAYS, OPTIONAL) == {}


@pytest.mark.slow
def test_every_import_of_tests_benchmarks_and_the_documentation_is_declared() -> None:
    extras = {name for requirements in PROJECT["optional-dependencies"].values() for name in declared(requirements)}
    found = list(developers_imports())
    assert {each.importer.partition("/")[0] for each in found} >= {"tests", "benchmarks", "docs"}
    assert undeclared(iter(found), ALWAYS | extras, set()) == {}


@pytest.mark.slow
def test_every_dependency_is_one_that_we_import() -> None:
    imported = {distribution(each.module) for each in our_imports()}
    ours_to_use = {name for name in ALWAYS if "[" not in name or name in RAY_EXTRAS.values()}
    assert ours_to_use - imported == set()


@pytest.mark.parametrize(
    ("source", "missing"),
    [
        ("import numpy as np, polars", {"polars": "a:1"}),
        ("from ray import get", {}),
        ("from ray import tune", {"ray[tune]": "a:1"}),
        ("if TYPE_CHECKING:\n    import plotly", {}),
        ("def draw():\n    from plotly import graph_objects", {}),
        ("import plotly.io", {"plotly": "a:1"}),
        ("class A:\n    def b(self):\n        import polars", {"polars": "a:3"}),
    ],
)
def test_an_import_that_nothing_declares_is_found(source: str, missing: dict[str, str]) -> None:
    assert undeclared(imports(source, "a"), {"numpy", "ray"}, {"plotly"}) == missing


def test_every_requirement_has_a_pinned_version() -> None:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pinned = {_normal(line.partition("==")[0]) for line in lines if "==" in line}
    wanted = {name for extra in PROJECT["optional-dependencies"].values() for name in declared(extra)} | ALWAYS
    assert {name for name in wanted if "[" not in name and name != "aquasurf-ray"} - pinned == set()


def test_messages_tell_people_to_install_only_what_is_declared_and_not_this_package():
    requirements = [*PROJECT["dependencies"], *(r for name in PROJECT["optional-dependencies"].values() for r in name)]
    known = declared(requirements)
    folders = ("aquasurf_ray", "workers", "surrogate", "store")
    told = {
        (path.relative_to(ROOT).as_posix(), name)
        for folder in folders
        for path in (ROOT / folder).rglob("*.py")
        for command in re.findall(r"pip install ((?:'[^']+'|[\w-]+)(?: [\w-]+)*)", path.read_text())
        for name in re.findall(r"[\w.-]+(?:\[[\w,]+\])?", command)
    }
    assert len(told) >= 5
    assert {
        (path, name) for path, name in told if not declared([name]) <= known or name.startswith("aquasurf")
    } == set()
