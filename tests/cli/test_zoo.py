"""The command `zoo`, and the page that lists what it has and what has no name."""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path

import pytest

from aquasurf_ray.activations import parse
from aquasurf_ray.activations.zoo import ZOO, named_function
from aquasurf_ray.cli.main import main

PAGE_ON_SPACES = Path(__file__).parents[2].joinpath("docs/spaces.md").read_text(encoding="utf-8")
PAGE = Path(__file__).parents[2].joinpath("docs/zoo.md").read_text(encoding="utf-8")


def run(capsys, *arguments):
    code = main(["zoo", *arguments])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_every_function_is_listed_with_its_expression(capsys):
    code, out, _ = run(capsys, "--json")
    documents = json.loads(out)
    assert code == 0
    assert [document["name"] for document in documents] == [function.name for function in ZOO]
    for document in documents:
        assert parse(document["expression"]) == parse(document["name"])
        assert document["source"]
    rows = list(csv.DictReader(io.StringIO(run(capsys, "--format", "csv")[1])))
    assert [row["expression"] for row in rows] == [document["expression"] for document in documents]
    assert len(run(capsys)[1].splitlines()) == len(ZOO) + 1


def test_functions_are_found_by_any_of_their_names(capsys):
    (document,) = json.loads(run(capsys, "silu", "--json")[1])
    assert (document["name"], document["expression"], document["aliases"]) == ("swish", "swish(x)", ["silu"])
    code, out, err = run(capsys, "nix")
    assert (code, out) == (2, "")
    assert err == "aquasurf: no function of the zoo is called 'nix'; for all names: aquasurf zoo\n"


@pytest.mark.parametrize("command", [["use", "hardswish"], ["use", "leaky_relu(0.1)", "--form", "jax"]])
def test_a_name_can_be_exported(command, capsys):
    assert main(command) == 0
    assert "def " in capsys.readouterr().out


# --- docs/zoo.md ----------------------------------------------------------------------------------------------------


def table(heading):
    section = PAGE.partition(f"## {heading}\n")[2].partition("\n## ")[0]
    rows = [line.strip("|").split(" | ") for line in section.splitlines() if line.startswith("| ")]
    return [[cell.strip().strip("`") for cell in row] for row in rows[2:]]


def test_the_page_has_exactly_the_functions_of_the_zoo():
    rows = table("Functions")
    assert [row[0] for row in rows] == [function.name for function in ZOO]
    for (name, aliases, formula, expression, source), function in zip(rows, ZOO, strict=True):
        assert [alias.strip("` ") for alias in aliases.split(",") if alias] == list(function.aliases)
        assert formula.replace("\\|", "|") == function.formula
        assert expression == str(parse(name))
        assert source == function.source


def test_the_page_names_the_functions_that_pytorch_has_as_one_kernel():
    listed = PAGE.partition("PyTorch has one kernel for each of ")[2].partition(",\nwith any constants")[0]
    assert [name.strip("`") for name in listed.replace(" and ", ", ").split(", ")] == [
        function.name for function in ZOO if function.kernel
    ]


PUBLISHED = {
    "LeakyReLU": "leaky_relu",
    "PReLU": "prelu",
    "RReLU": None,
    "StarReLU": "star_relu",
    "Swish-β": "swish_beta",
    "Snake": "snake",
    "ACON-C": "acon_c",
    "xIELU": "xielu",
    "PolyReLU": "poly_relu",
    "DyT": "dyt",
    "Derf": "derf",
    "Padé": "pau",
    "ReLU6": "relu6",
    "hardtanh": "hardtanh",
    "ReLU²": "relu_squared",
    "LeakyReLU(0.5)²": "leaky_relu_squared",
    "quick-GELU": "quick_gelu",
    "tanh-GELU": "gelu_tanh",
    "Mish": "mish",
    "TeLU": "telu",
    "LiSHT": "lisht",
    "Logish": "logish",
    "tanhshrink": "tanhshrink",
    "hardswish": "hardswish",
    "CELU": "celu",
    "ELU": "elu",
    "Squareplus": "squareplus",
    "Gaussian": "gaussian",
    "sinc": "sinc",
    "sin": "sin",
    "SIREN": "siren",
    "GRAFS": "grafs",
    "GELU-sinc": "gelu_sinc",
    "PANGAEA": None,
    "GLU": None,
    "SwiGLU": None,
    "SinGLU": None,
}
"""What a table of this field's functions lists, and the name that each has here; None if it has none."""


@pytest.mark.parametrize("function", PUBLISHED)
def test_a_published_function_has_a_name_or_a_reason(function):
    name, reasons = PUBLISHED[function], dict(table("Functions without a name"))
    if name is not None:
        assert named_function(name) is not None
    else:
        (reason,) = [reason for names, reason in reasons.items() if function in names]
        assert len(reason.split()) > 5


def test_all_operators_of_the_page_on_spaces_are_listed_as_they_are_written(capsys):
    page = PAGE_ON_SPACES.partition("| kind | operators |")[2].partition("\n\n")[0]
    documented = [name for row in page.splitlines()[2:] for name in row.split("|")[2].split()]
    documents = json.loads(run(capsys, "--operators", "--json")[1])
    assert sorted(document["name"] for document in documents) == sorted(documented)
    for document in documents:
        assert parse(re.sub(r"\b(a|b|\.\.\.)(?=[,)])|\.\.\.", "x", document["written"])).operator == document["name"]
    by_name = {document["name"]: document for document in documents}
    assert by_name["sub"] == {"name": "sub", "kind": "binary", "written": "sub(a,b)", "value": "a, minus b"}
    assert len(run(capsys, "--operators")[1].splitlines()) == len(documented) + 1


def test_a_list_of_operators_takes_no_names(capsys):
    code, out, err = run(capsys, "swish", "--operators")
    assert (code, out) == (2, "")
    assert err == "aquasurf: operators: all are listed, so no names are taken, got 'swish'; leave out one of the two\n"
