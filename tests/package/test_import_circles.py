"""No two files of the package import each other, not even through others or from inside a function."""

from __future__ import annotations

from graphlib import CycleError, TopologicalSorter

import grimp
import pytest


def order_of(imports: dict[str, set[str]]) -> list[str]:
    """The modules in an order in which each comes after all that it imports."""
    return list(TopologicalSorter(imports).static_order())


def test_no_circle_of_files() -> None:
    """grimp reads every import statement, also those inside functions and under TYPE_CHECKING."""
    graph = grimp.build_graph("aquasurf_ray", cache_dir=None)
    imports = {module: graph.find_modules_directly_imported_by(module) for module in graph.modules}
    assert len(imports) > 200, "the rooms that are links are read too"
    order = order_of(imports)
    assert order.index("aquasurf_ray.activations.registry") < order.index("aquasurf_ray.activations.expression")


def test_a_circle_would_be_found() -> None:
    with pytest.raises(CycleError):
        order_of({"a": {"b"}, "b": {"c"}, "c": {"a"}})
