"""The page of questions: ten commands on a benchmark and what they print; and the page of queries."""

from __future__ import annotations

import re
import shlex

import pytest
from pages import ROOT, blocks

from aquasurf_ray.cli.main import main
from aquasurf_ray.store.sql.table_columns import reference

QUESTIONS, QUERIES = "docs/questions.md", "docs/queries.md"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A working folder with the benchmark in its store, by the page's first command."""
    folder = tmp_path_factory.mktemp("questions")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.delenv("AQUASURF_STORE", raising=False)
        assert main(shlex.split(blocks(QUESTIONS, "")[0])[1:]) == 0
        yield folder


def pairs():
    """Each question's command and answer."""
    first, *rest = blocks(QUESTIONS, "")
    assert first.startswith("aquasurf import act-bench-digits-mlp ")
    return list(zip(rest, blocks(QUESTIONS, "text"), strict=True))


@pytest.mark.parametrize("number", range(10))
@pytest.mark.slow
def test_the_answer_is_the_one_that_is_printed(folder, capsys, number):
    command, answer = pairs()[number]
    capsys.readouterr()
    assert main(shlex.split(command)[1:]) == 0
    assert capsys.readouterr().out == answer


@pytest.mark.slow
def test_status_of_a_benchmark_is_a_page_and_no_book(folder, capsys):
    assert main(["status", "act-bench-digits-mlp"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) < 100
    assert lines[-1] == "and 3811 more; by reason: aquasurf query --example diverged --set run=act-bench-digits-mlp"


def test_there_are_ten_numbered_questions():
    headings = re.findall(r"^## (\d+)\. .*\?$", (ROOT / QUESTIONS).read_text(), re.MULTILINE)
    assert [int(number) for number in headings] == list(range(1, 11))
    assert len(pairs()) == 10


def test_the_page_of_queries_says_what_the_columns_are_and_which_examples_there_are(capsys):
    text = (ROOT / QUERIES).read_text()
    assert text.endswith(reference() + "\n")
    command, listed = blocks(QUERIES, "")[0], blocks(QUERIES, "text")[0]
    assert main(shlex.split(command)[1:]) == 0
    assert capsys.readouterr().out == listed
