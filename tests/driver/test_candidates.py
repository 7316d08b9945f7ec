"""The candidates of a run come out of its space, and a space that cannot be enumerated is refused in one sentence."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from aquasurf_ray.activations import BASELINES, SearchSpace, fingerprint, parse, register_unary
from aquasurf_ray.activations.registry import unregister
from aquasurf_ray.activations.standardization import scale_free_digest, standardized
from aquasurf_ray.activations.zoo import zoo_functions
from aquasurf_ray.driver.candidates import (
    baseline_rows,
    candidate_rows,
    function_table,
    load_space,
    search_rows,
    space_rows,
)
from aquasurf_ray.driver.errors import BadUse
from aquasurf_ray.driver.settings.reading import make_config


@pytest.fixture
def too_large(tmp_path: Path) -> Path:
    """Five nested unary operators of 27: 27^5 = 14,348,907 names."""
    path = tmp_path / "deep.yaml"
    path.write_text('schemas: ["unary(unary(unary(unary(unary(x)))))"]\n', encoding="utf-8")
    return path


@pytest.mark.parametrize(
    "enumerate_",
    [
        lambda path: function_table(str(path)),
        lambda path: candidate_rows(SearchSpace.load(path), 10, seed=0),
        lambda path: space_rows(SearchSpace.load(path)),
    ],
    ids=["function_table", "candidate_rows", "space_rows"],
)
def test_a_space_that_is_too_large_is_bad_use(too_large: Path, enumerate_: Callable[[Path], object]) -> None:
    with pytest.raises(
        BadUse, match=r"space 'deep' has 14,348,907 names; at most 5,000,000 can be enumerated: give few"
    ):
        enumerate_(too_large)


def test_the_command_says_so_in_one_line(
    too_large: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from aquasurf_ray.cli.main import run

    monkeypatch.setattr("sys.argv", ["aquasurf", "space", str(too_large), "--count"])
    with pytest.raises(SystemExit) as stopped:
        run()
    assert stopped.value.code == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) <= 2
    assert "14,348,907 names" in " ".join(lines)


def test_the_baselines_of_a_task_come_after_those_of_the_paper_and_once() -> None:
    space = SearchSpace.load("three-node")
    plain = candidate_rows(space, 20, seed=0)
    rows = candidate_rows(space, 20, 0, ("gelu(x)", "x", "sin(x)", "relu(x)", "mul(x,sigmoid(x))"))
    names = [row.name for row in rows]
    assert names[: len(BASELINES) + 3] == [*BASELINES, "gelu(x)", "x", "sin(x)"]
    assert len({row.fingerprint for row in rows}) == len(rows) == len(plain) + 3
    assert [row.name for row in candidate_rows(space, 20, 0, ())] == [row.name for row in plain]


def test_a_baseline_that_is_no_function_is_bad_use() -> None:
    with pytest.raises(BadUse, match="unknown operator 'reluu'"):
        baseline_rows(("reluu(x)",))


def test_the_open_space_begins_with_the_baselines_and_the_zoo() -> None:
    rows = candidate_rows(load_space("open"), 90, seed=0)
    fingerprints = [row.fingerprint for row in rows]
    assert [row.name for row in rows[:8]] == list(BASELINES)
    assert len(fingerprints) == len(set(fingerprints)) == 98
    zoo = {fingerprint(expression) for _, expression in zoo_functions()}
    first = 8 + len(zoo - set(fingerprints[:8]))
    assert zoo <= set(fingerprints[:first])
    others = rows[first:]
    assert len(others) >= 10
    assert all(row.n_operators <= 3 for row in others)


def test_the_open_space_cannot_be_enumerated() -> None:
    for enumerate_it in (function_table, lambda name: space_rows(load_space(name))):
        with pytest.raises(BadUse, match="space 'open' has no end: it grows while a search runs"):
            enumerate_it("open")


def test_the_identity_of_the_open_space_has_the_operators_of_the_user() -> None:
    before = load_space("open").digest
    register_unary("cubed_for_open", lambda x: x**3)
    try:
        assert load_space("open").digest != before
    finally:
        unregister("cubed_for_open")
    assert load_space("open").digest == before != load_space("three-node").digest


def test_standard_candidates_are_the_baselines_and_the_space_brought_to_mean_0_and_deviation_1() -> None:
    space = load_space("three-node")
    config = make_config({"task": "digits", "candidates": 40, "standardize": "on"})
    rows = search_rows(config, space, ("gelu(x)",))
    first = baseline_rows(("gelu(x)",))
    assert rows[:9] == first, "baselines stay as they are"
    forms = [parse(row.name) for row in rows[9:]]
    assert len(forms) == 40
    # SELU was designed to have mean 0 and deviation 1 (Klambauer et al. 2017), so it is its own standard form.
    assert forms[:8] == [standardized(parse(row.name)) for row in first if row.name != "selu(x)"]
    assert standardized(parse("selu(x)")) == parse("selu(x)")
    assert all(standardized(form) == form for form in forms)
    assert len({scale_free_digest(form) for form in forms}) == 40
    assert [row.fingerprint for row in rows[9:]] == [fingerprint(form) for form in forms]
    more = search_rows(make_config({"task": "digits", "candidates": 60, "standardize": "on"}), space, ("gelu(x)",))
    assert more[: len(rows)] == rows, "a larger sample contains a smaller one"


def test_twins_up_to_scale_are_one_standard_candidate(tmp_path: Path) -> None:
    names = ["add(relu(x),relu(x))", "sub(relu(x),one(x))", "tanh(x)", "mul(-1,tanh(x))", "reciprocal(x)", "one(x)"]
    (tmp_path / "twins.yaml").write_text(f"names: {names}")
    config = make_config({"task": "digits", "candidates": 40, "standardize": "on", "space": "twins"})
    rows = search_rows(config, SearchSpace.load(tmp_path / "twins.yaml"))
    new = [row.name for row in rows[15:]]
    assert len(rows) == 16, "eight baselines, seven more in standard form, and tanh with the other sign"
    assert parse(new[0]) == standardized(parse("mul(-1,tanh(x))"))


def test_without_the_setting_candidates_and_identity_are_as_before() -> None:
    space, config = load_space("three-node"), make_config({"task": "digits"})
    assert search_rows(config, space) == candidate_rows(space, config.candidates, 0)
    assert "standardize" not in config.identity()
    assert make_config({"task": "digits", "standardize": True}).identity()["standardize"] == "on"
