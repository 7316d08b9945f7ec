"""What is told of a function's use: shares against hand-made inputs, gradients against relu's own."""

from __future__ import annotations

import numpy as np
import pytest
from role_task import two_roles

from aquasurf_ray.activations import Activation, activation_of
from aquasurf_ray.analysis.report.charts.chart import Band, Line
from aquasurf_ray.analysis.report.pictures.explained import explained
from aquasurf_ray.analysis.studies.explanation import explain, in_words, usage
from aquasurf_ray.driver.errors import BadUse, RunFailed
from aquasurf_ray.driver.examine.function_explanation import explain_function
from aquasurf_ray.training_metrics import TrainingMetrics
from aquasurf_ray.workers.inspection import Inspection, Layer, NetworkState, Site
from aquasurf_ray.workers.training import train


def shares(function: str, inputs: list[float], steepest: float = 1.0) -> dict[str, float]:
    found = usage(Activation(function), np.array(inputs), steepest)
    return {part: getattr(found, part) for part in ("linear", "curved", "saturated", "rectified")}


def test_a_sigmoid_far_out_is_off_on_the_left_and_saturated_on_the_right():
    assert shares("sigmoid(x)", [-20.0, 20.0], 0.25) == {"linear": 0, "curved": 0, "saturated": 0.5, "rectified": 0.5}


def test_tanh_near_zero_acts_linear_and_round_its_knee_bends():
    assert shares("tanh(x)", list(np.linspace(-0.05, 0.05, 50)))["linear"] == 1.0
    assert shares("tanh(x)", list(np.linspace(0.5, 1.5, 50)))["curved"] == 1.0


def test_a_line_is_linear_wherever_its_inputs_are():
    assert shares("identity(x)", [-100.0, -1.0, 0.0, 30.0])["linear"] == 1.0


def test_a_slope_that_is_never_small_is_flat_nowhere():
    # Its slope is 1.49 at least.
    steep = shares("div(sinh(x),sigmoid(x))", list(np.linspace(-4.0, 4.0, 81)), steepest=1000.0)
    assert (steep["saturated"], steep["rectified"]) == (0.0, 0.0)


@pytest.mark.parametrize("function", ["mish(x)", "mul(erf(x),erfc(x))", "sinh(x)", "zero(x)"])
def test_shares_add_up_to_one(function):
    inputs = np.random.default_rng(0).normal(size=500)
    assert sum(shares(function, list(inputs)).values()) == pytest.approx(1.0)


def inspection(function: str, gradients: tuple[float, float], spread: float = 1.0) -> Inspection:
    draw = np.random.default_rng(1)
    inputs = draw.normal(0, 0.1, 400).astype(np.float32), draw.normal(0, spread, 400).astype(np.float32)
    looks = [
        NetworkState((Site("1", values, 1.0, function),), (Layer("0.weight", gradient),))
        for values, gradient in zip(inputs, gradients, strict=True)
    ]
    return Inspection(function, *looks, TrainingMetrics(score=0.5))


def test_gradients_are_in_units_of_relus_in_the_same_place():
    (flow,) = explain(inspection("tanh(x)", (0.2, 0.6)), inspection("relu(x)", (0.1, 0.2))).flow
    assert (flow.name, flow.before, flow.after) == ("0.weight", 2.0, pytest.approx(3.0))


def test_an_explanation_without_the_reference_has_the_other_parts():
    found = explain(inspection("tanh(x)", (0.2, 0.6)), None)
    assert found.flow == ()
    assert found.reference is None
    assert "gradient" not in in_words(found)


def test_words_tell_the_change_of_a_sigmoidal_function_that_training_spreads_out():
    words = in_words(explain(inspection("tanh(x)", (0.2, 0.6), spread=4.0), inspection("relu(x)", (0.1, 0.2))))
    assert "Before training, its inputs lie on a straight part" in words
    assert "saturated" in words
    assert "2 times that with relu(x) before training and 3 times after" in words


def test_the_picture_has_the_curve_over_both_distributions():
    chart = explained(inspection("tanh(x)", (0.2, 0.6), spread=2.0), "words")
    (panel,) = chart.panels
    before, after, curve = panel.marks
    assert isinstance(before, Band)
    assert isinstance(curve, Line)
    np.testing.assert_allclose(curve.y, np.tanh(curve.x), rtol=1e-6)
    assert before.high.max() > after.high.max()  # the narrow one is the higher one


def test_of_a_function_per_role_each_layer_has_that_of_its_role():
    """relu is off for every input below zero, and x is straight everywhere, whatever the other role has."""
    draw = np.random.default_rng(1).normal(0, 1, 400).astype(np.float32)
    sites = (Site("1:1", draw, 1.0, "relu(x)"), Site("3", draw, 1.0, "x"), Site("1:2", draw, 1.0, "relu(x)"))
    state = NetworkState(sites, (Layer("0.weight", 0.5),))
    both = Inspection("early=relu(x);late=x", state, state, TrainingMetrics(score=0.5))
    role_of = {"1": "early", "3": "late"}
    found = explain(both, None, role_of)
    assert [(layer.role, layer.function) for layer in found.layers] == [
        ("early", "relu(x)"),
        ("late", "x"),
        ("early", "relu(x)"),
    ]
    off = float((draw <= 0).mean())
    assert [layer.before.rectified for layer in found.layers] == [
        pytest.approx(off, abs=0.01),
        0.0,
        pytest.approx(off, abs=0.01),
    ]
    assert found.layers[1].before.linear == 1.0
    words = in_words(found)
    assert "relu(x) is used in 2 places of role early. Before training" in words
    assert (
        "x is used in 1 place of role late. Before training, its inputs lie on a straight part 100% of the time"
        in words
    )
    assert "The use changes most in" in words
    titles = [panel.title for panel in explained(both, words, role_of).panels]
    assert titles == ["early: relu(x)\n1:1", "late: x\n3", "early: relu(x)\n1:2"]


def test_a_function_per_role_is_explained_from_end_to_end():
    found = explain_function("late=swish(x);early=tanh(x)", "role_task:two_roles")
    assert found.explanation.function == "early=tanh(x);late=swish(x)"
    assert [(layer.name, layer.role, layer.function) for layer in found.explanation.layers] == [
        ("1", "early", "tanh(x)"),
        ("3", "late", "swish(x)"),
    ]
    trained = train(two_roles(), activation_of("early=tanh(x);late=swish(x)"))
    assert found.value == trained.score
    assert [flow.name for flow in found.explanation.flow] == ["0.weight", "2.weight", "4.weight"]


@pytest.mark.slow
def test_a_real_task_is_explained_from_end_to_end():
    told = []
    found = explain_function("tanh(x)", "digits", on_epoch=lambda name, epoch, seconds: told.append((name, epoch)))
    assert told == [(name, epoch) for name in ("tanh(x)", "relu(x)") for epoch in range(1, 17)]
    assert len(found.explanation.layers) == 3
    assert 0.8 < found.value <= 1.0
    assert found.words.startswith("tanh(x) is used in 3 places of the network.")


@pytest.mark.parametrize(
    ("function", "task", "error", "said"),
    [
        ("tanh(", "digits", BadUse, "end"),
        ("tanh(x)", "no-such-task", BadUse, "no-such-task"),
        ("reciprocal(zero(x))", "digits", RunFailed, "cannot be trained on task 'digits'"),
        ("early=x;late=sin(x)", "digits", BadUse, "the network has no roles; give one function"),
        ("early=x;lat=sin(x)", "role_task:two_roles", BadUse, "unknown role 'lat'; the network has the roles"),
    ],
)
def test_what_cannot_be_explained_is_said(function, task, error, said):
    with pytest.raises(error, match=said):
        explain_function(function, task)
