"""What a report shows of a run on a network with roles: each role's function, its places, and its layers' spectra."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from role_task import BEST, LAYER_ROLES, NAME, fill_role_run

from aquasurf_ray.analysis.report import KINDS, document
from aquasurf_ray.analysis.report.charts.chart import Line
from aquasurf_ray.analysis.report.pictures.function_table import REACH
from aquasurf_ray.analysis.studies.findings import Findings, read_findings
from aquasurf_ray.store import NewRun, Store


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    with Store.open(f"sqlite:///{tmp_path_factory.mktemp('store')}/store.db") as store:
        fill_role_run(store)
        yield store


@pytest.fixture(scope="module")
def findings(store: Store) -> Findings:
    return read_findings(store, NAME, "", quick=True)


def test_each_role_has_its_curve_next_to_the_reference_and_its_places(findings: Findings) -> None:
    chart = KINDS["roles"](findings)
    assert chart is not None
    assert [panel.title for panel in chart.panels] == ["early: tanh(x)", "late: mul(learn(1),swish(x))"]
    for panel, expected in zip(chart.panels, (np.tanh, lambda x: x / (1 + np.exp(-x))), strict=True):
        reference, best = (mark for mark in panel.marks if isinstance(mark, Line))
        assert (reference.name, best.name) == ("reference: relu(x)", "best function")
        np.testing.assert_allclose(reference.y, np.maximum(reference.x, 0))
        np.testing.assert_allclose(best.y, expected(best.x))
    assert "Role early has tanh(x) in 1 activation: 1; the layers before it: 0." in chart.words
    assert "Role late has mul(learn(1),swish(x)) in 1 activation: 3; the layers before it: 2." in chart.words
    assert chart.words.endswith("Layers behind the last activation: 4.")


def test_a_role_with_the_references_function_says_so(store: Store, findings: Findings) -> None:
    assert findings.leader is not None
    leader = replace(findings.leader, function="early=relu(x);late=tanh(x)")
    assert findings.reference is not None
    chart = KINDS["roles"](replace(findings, board=(leader, findings.reference)))
    assert chart is not None
    assert [len(panel.marks) for panel in chart.panels] == [1, 2]
    assert "Role early has relu(x), like the reference, in 1 activation" in chart.words


def test_spectra_are_grouped_by_the_role_of_their_layer(findings: Findings) -> None:
    chart = KINDS["spectra"](findings)
    assert chart is not None
    assert [panel.title for panel in chart.panels] == [
        "role early\nlayer 0 (1,040 weights)",
        "role late\nlayer 2 (272 weights)",
        "no role\nlayer 4 (170 weights)",
    ]
    assert "(role early: 1; role late: 1; no role: 1)" in chart.words
    assert "Spectra cover 3 of 3 matrices." in chart.words


def test_a_layer_whose_role_was_not_seen_is_in_neither_group(findings: Findings) -> None:
    chart = KINDS["spectra"](replace(findings, layer_roles={"0": "late", "4": ""}))
    assert chart is not None
    assert [panel.title.partition("\n")[0] for panel in chart.panels] == ["role late", "no role", "role unknown"]


def test_a_run_that_computed_no_spectra_has_the_roles_of_another_run_of_its_task(tmp_path) -> None:
    with Store.open(f"sqlite:///{tmp_path}/store.db") as store:
        task = fill_role_run(store)
        store.create_run(NewRun("later", "search", task, {"roles": ["early", "late"]}, "d", 0, 1, None, "0.1.0"))
        assert read_findings(store, "later", "").layer_roles == LAYER_ROLES
        other = store.add_task("t", "1", "d", {})
        assert store.layer_roles(other) == {}


def test_a_run_from_before_layers_had_roles_shows_its_layers_as_ever(tmp_path) -> None:
    with Store.open(f"sqlite:///{tmp_path}/store.db") as store:
        fill_role_run(store, layer_roles=None)
        found = read_findings(store, NAME, "", quick=True)
    chart = KINDS["spectra"](found)
    assert chart is not None
    assert chart.panels[0].title == "layer 0 (1,040 weights)"
    assert "role" not in chart.words
    roles = KINDS["roles"](found)
    assert roles is not None
    assert "Role early has tanh(x) in 1 activation: 1. Role late" in roles.words


def test_no_small_picture_of_a_function_per_role_is_blank(findings: Findings) -> None:
    shown = document(findings)
    faces = re.findall(r'<path class="curve" d="(M[^"]+)".*?<code>(.*?)</code> <span>(.*?)</span>', shown["heading"])
    assert [face[1:] for face in faces] == [
        ("tanh(x)", "the best function found, role early"),
        ("mul(learn(1),swish(x))", "the best function found, role late"),
        ("relu(x)", "the reference"),
    ]
    table = shown["functions"]
    n_curves = dict(zip(table["names"], table["n_curves"], strict=True))
    assert n_curves.pop("relu(x)") == 1
    assert set(n_curves.values()) == {2}
    levels = np.frombuffer(base64.b64decode(table["curves"]), dtype=np.uint8).reshape(5, table["points"])
    first = sum(table["n_curves"][: table["names"].index(BEST)])
    x = np.linspace(-REACH, REACH, table["points"])
    for row, expected in zip(levels[first : first + 2], (np.tanh(x), x / (1 + np.exp(-x))), strict=True):
        np.testing.assert_allclose(row / 254 * 2 * REACH - REACH, expected, atol=0.02)


def test_learned_parameters_of_two_roles_with_one_name_are_apart(findings: Findings) -> None:
    only = next(row for row in findings.winners if row.function.startswith("early=mul"))
    chart = KINDS["learned"](replace(findings, board=(only,)))
    assert chart is not None
    assert [panel.y.title for panel in chart.panels] == ["a of role early", "a of role late"]
    assert [mark.y.tolist() for panel in chart.panels for mark in panel.marks] == [[2.0, 2.5, 3.0], [1.0, 0.5, 0.25]]


def test_the_command_that_draws_the_inputs_takes_a_function_per_role(findings: Findings) -> None:
    chart = KINDS["functions"](findings)
    assert chart is not None
    assert f"aquasurf explain '{BEST}' --task role_task:two_roles" in chart.words
