"""Operators of the user's own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from aquasurf_ray.activations import (
    Activation,
    ExpressionError,
    OperatorError,
    SearchSpace,
    all_operators,
    latex,
    parse,
    register_binary,
    register_nary,
    register_unary,
    unregister,
    words,
)


@pytest.fixture(autouse=True)
def table_as_before() -> Iterator[None]:
    before = {entry.name for entry in all_operators()}
    yield
    for entry in all_operators():
        if entry.name not in before:
            unregister(entry.name)


def test_own_operators_are_part_of_the_language() -> None:
    register_unary("cube", lambda x: x**3, latex="#1^{3}", words="cube of #1")
    register_binary("mean_2", lambda a, b: (a + b) / 2)
    register_nary("norm_n", lambda *xs: torch.stack(xs).norm(dim=0))
    x = torch.tensor([-2.0, 0.5])
    assert torch.equal(Activation("cube(x)")(x), x**3)
    assert torch.equal(Activation("mean_2(x,zero(x))")(x), x / 2)
    torch.testing.assert_close(Activation("norm_n(x,x,x,x)")(x), 2 * x.abs())
    assert latex("cube(cube(x))") == r"\left(x^{3}\right)^{3}"
    assert words("mean_2(cube(x),x)") == "mean 2 of cube of x and x"
    assert latex("norm_n(x,x)") == r"\operatorname{norm\_n}\left(x, x\right)"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("relu", "operator name 'relu' is taken; choose another"),
        ("x", "operator name 'x' is a word of the language"),
        ("unary", "operator name 'unary' is a word of the language"),
        ("2fast", "operator name '2fast' must be an identifier"),
        ("a b", "operator name 'a b' must be an identifier"),
        ("é", "must be an identifier"),
        ("", "operator name '' must be an identifier"),
        ("a" * 41, "must be an identifier of at most 40 letters"),
    ],
)
def test_names_are_checked(name: str, message: str) -> None:
    before = all_operators()
    with pytest.raises(OperatorError, match=message):
        register_unary(name, torch.sin)
    with pytest.raises(OperatorError, match=message):
        register_unary(name, torch.sin, replace=True)
    assert all_operators() == before


def test_a_template_must_show_its_arguments() -> None:
    with pytest.raises(OperatorError, match="lacks #2"):
        register_binary("atan_two", torch.atan2, latex="#1")
    with pytest.raises(OperatorError, match="lacks #1"):
        register_unary("sine", torch.sin, words="a sine")


def test_redefinition_must_be_asked_for() -> None:
    register_unary("mine", torch.sin)
    with pytest.raises(OperatorError, match="operator name 'mine' is taken; choose another or pass replace=True"):
        register_unary("mine", torch.cos)
    register_unary("mine", torch.cos, replace=True)
    assert parse("mine(x)").evaluate(torch.zeros(1)).item() == 1.0
    unregister("mine")
    with pytest.raises(ExpressionError, match="unknown operator 'mine' at 1"):
        parse("mine(x)")
    with pytest.raises(OperatorError, match="built in"):
        unregister("relu")


def test_a_spaces_digest_reflects_what_own_operators_compute() -> None:
    def digest() -> str:
        return SearchSpace.define("s", ["unary(x)"], unary=["relu", "wave"]).digest

    register_unary("wave", torch.sin)
    sine = digest()
    assert digest() == sine
    register_unary("wave", torch.cos, replace=True)
    assert digest() != sine
    register_unary("wave", torch.sin, replace=True)
    assert digest() == sine


@pytest.mark.slow
def test_another_process_knows_an_operator_once_it_imports_the_module(tmp_path: Path) -> None:
    (tmp_path / "my_operators.py").write_text(
        "import torch\nfrom aquasurf_ray.activations import register_unary\nregister_unary('sine_of_mine', torch.sin)\n"
    )
    (tmp_path / "space.yaml").write_text("modules: [my_operators]\nunary: [sine_of_mine, relu]\nschemas: [unary(x)]\n")
    script = (
        "import pickle\n"
        "from aquasurf_ray.activations import Activation, SearchSpace\n"
        "space = SearchSpace.from_yaml('space.yaml')\n"
        "assert space.modules == ('my_operators',)\n"
        "open('module.pickle', 'wb').write(pickle.dumps(Activation('sine_of_mine(x)')))\n"
    )
    reader = "import pickle, torch{}\nprint(pickle.load(open('module.pickle', 'rb'))(torch.zeros(1)).item())\n"

    def run(code: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)

    assert run(script).returncode == 0
    assert run(reader.format(", my_operators")).stdout == "0.0\n"
    assert "unknown operator 'sine_of_mine' at 1" in run(reader.format("")).stderr
