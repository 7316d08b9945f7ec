"""A function is printed as source, or written to a file that is whole."""

from __future__ import annotations

import pytest

from aquasurf_ray.activations.sources import LANGUAGES, source
from aquasurf_ray.cli.main import main
from aquasurf_ray.cli.use import Form


@pytest.mark.parametrize("form", list(LANGUAGES))
def test_the_source_is_all_that_is_printed(form, capsys) -> None:
    assert main(["use", "mul(erf(x),erfc(x))", "--form", form]) == 0
    assert capsys.readouterr().out == source("mul(erf(x),erfc(x))", LANGUAGES[form])


def test_a_file_is_written_and_named(tmp_path, capsys) -> None:
    assert main(["use", "swish(x)", "-o", str(tmp_path / "swish.py")]) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'swish.py'} written\n"
    assert (tmp_path / "swish.py").read_text() == source("swish(x)", LANGUAGES["pytorch"])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["foo(x)"], "unknown operator 'foo' at 1"),
        (["swish(x)", "--form", "onnx"], "name a file with -o"),
        (["swish(x)", "-o", "/dev/null"], "not a regular file"),
        (["swish(x)", "-o", "/nowhere/f.py"], "there is no folder '/nowhere'"),
        (["swish(x)", "-o", "/proc/f.py"], "'/proc/f.py' cannot be written"),
        (["swish(x)", "--form", "fortran"], "fortran"),
    ],
)
def test_bad_use_is_reported_in_a_line(arguments, said, tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["use", *arguments]) == 2
    assert said in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_every_language_is_a_form() -> None:
    assert {form.value for form in Form} == {*LANGUAGES, "onnx", "expression"}
