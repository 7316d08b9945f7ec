"""Functions are found by parts, shape, cost and nearness, against sets made by hand."""

from __future__ import annotations

import numpy as np
import pytest

from aquasurf_ray.activations import sample
from aquasurf_ray.analysis.errors import AnalysisError
from aquasurf_ray.analysis.studies.function_search import SHAPES, FunctionFilter, KnownFunction, find

KNOWN = (
    KnownFunction("relu(x)", 0.7, 1.0),
    KnownFunction("swish(x)", 0.8, 1.3),
    KnownFunction("mul(swish(x),erf(x))", 0.9, 1.6),
    KnownFunction("tanh(x)", 0.75, 1.1),
    KnownFunction("hard_sigmoid(x)", None, None),
    KnownFunction("unheard_of(x)", 0.99, 1.0),
)


def names(**wanted) -> list[str]:
    return [found.function.name for found in find(KNOWN, FunctionFilter(**wanted))]


def test_all_are_found_best_first_but_what_cannot_be_read():
    assert names() == ["mul(swish(x),erf(x))", "swish(x)", "tanh(x)", "relu(x)", "hard_sigmoid(x)"]


def test_operators_are_whole_words():
    assert names(contains=("swish",)) == ["mul(swish(x),erf(x))", "swish(x)"]
    assert names(contains=("sigmoid",)) == []
    assert names(without=("swish", "tanh")) == ["relu(x)", "hard_sigmoid(x)"]


def test_shapes_are_asked_for_and_excluded():
    assert names(shapes=("bounded-below",), not_shapes=("monotone",)) == ["mul(swish(x),erf(x))", "swish(x)"]
    assert names(shapes=("odd",)) == ["tanh(x)"]


def test_a_cost_that_is_not_known_is_not_small():
    assert names(max_cost=1.2) == ["tanh(x)", "relu(x)"]


def test_the_nearest_come_first():
    found = find(KNOWN, FunctionFilter(near="relu(x)"))
    assert [item.function.name for item in found][:2] == ["relu(x)", "swish(x)"]
    x = sample().astype(np.float64)
    expected = np.sqrt(np.mean((np.maximum(x, 0) - x / (1 + np.exp(-x))) ** 2))
    assert found[0].distance == 0.0
    assert found[1].distance == pytest.approx(expected, rel=1e-5)


def test_what_is_not_known_is_said():
    with pytest.raises(AnalysisError, match="shape must be one of defined, bounded-below"):
        FunctionFilter(shapes=("round",))
    with pytest.raises(AnalysisError, match="near: unknown operator 'foo'"):
        find(KNOWN, FunctionFilter(near="foo(x)"))


def test_the_command_line_names_every_shape():
    from aquasurf_ray.cli.find import _SHAPES

    assert ", ".join(SHAPES) == _SHAPES
