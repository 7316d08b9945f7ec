"""The function that gains are over is marked in the tables for people, which say after a confirmation what ranks."""

from __future__ import annotations

import csv
import io
import json
import sqlite3
from dataclasses import replace

import pytest
from synthetic_run import NAME, fill_store

from aquasurf_ray.activations import fingerprint
from aquasurf_ray.analysis.report.summary import leaderboard
from aquasurf_ray.analysis.studies.findings import read_findings
from aquasurf_ray.analysis.studies.reference import reference_of
from aquasurf_ray.analysis.studies.verdict import verdict
from aquasurf_ray.cli.main import main
from aquasurf_ray.cli.terminal.confirmation import print_confirmation
from aquasurf_ray.store import FunctionRow, NewRun, Store


@pytest.fixture
def url(tmp_path, monkeypatch):
    """The store of a search and its confirmation."""
    monkeypatch.setenv("AQUASURF_CACHE", str(tmp_path))
    url = f"sqlite:///{tmp_path}/store.db"
    with Store.open(url) as store:
        fill_store(store)
    return url


def top(capsys, url, *options):
    assert main(["top", NAME, "--store", url, *options]) == 0
    return capsys.readouterr().out


def test_top_marks_one_reference_among_the_baselines(url, capsys):
    lines = [line.split() for line in top(capsys, url).splitlines()]
    assert [line[-1] for line in lines if "reference" in line] == ["relu(x)"]
    assert sum("baseline" in line for line in lines[1:]) == 7
    rows = json.loads(top(capsys, url, "--json"))
    assert {row["baseline"] for row in rows} == {True, False}, "programs read what they always did"
    assert "reference" not in top(capsys, url, "--format", "csv")


def test_top_says_after_a_confirmation_what_ranks(url, capsys):
    said = (
        "confirmed: mean on the test split (run 'synthetic-confirm'), which ranks; functions without one follow, by "
        "their validation score"
    )
    assert top(capsys, url).splitlines()[-1] == said
    *_, ranks, front = top(capsys, url, "-n", "1", "--pareto").splitlines()
    assert ranks == said.partition(";")[0], "all have one there"
    assert front.startswith("--pareto compares confirmed functions only")
    rows = list(csv.DictReader(io.StringIO(top(capsys, url, "--format", "csv"))))
    assert rows[-1]["rank"].isdigit(), "the sentence is for people"


LEAKY = "add(relu(x),mul(0.1,min(x,0)))"


def test_people_read_a_function_by_its_name_in_the_zoo_and_programs_by_its_stored_name(url, capsys):
    with sqlite3.connect(url.removeprefix("sqlite:///")) as database:
        database.execute("UPDATE functions SET name = ? WHERE name = 'relu(x)'", (LEAKY,))
    database.close()
    with Store.open(url) as store:
        findings = read_findings(store, NAME, "", quick=True)
    assert "leaky_relu(x,0.1)" in leaderboard(findings)
    assert "leaky_relu(x,0.1)" in verdict(findings.confirmation).sentence
    print_confirmation(findings.confirmation.name, url, as_json=False)
    tables = [capsys.readouterr().out, top(capsys, url)]
    assert main(["find", NAME, "-n", "200", "--store", url]) == 0
    for table in (*tables, capsys.readouterr().out):
        assert "leaky_relu(x,0.1)" in table
        assert LEAKY not in table
    assert LEAKY in {row["function"] for row in json.loads(top(capsys, url, "--json"))}
    assert main(["show", "leaky_relu(x,0.1)", "--store", url]) == 0
    assert f"{LEAKY}\n  name         leaky_relu(x,0.1)\n" in capsys.readouterr().out


def test_the_leaderboard_of_the_report_marks_the_reference(url):
    with Store.open(url) as store:
        table = leaderboard(read_findings(store, NAME, "", quick=True))
    assert "relu(x) (reference)<" in table
    assert (table.count("(reference)"), table.count("(baseline)")) == (1, 7)


def test_a_reference_that_the_store_knows_by_another_name_is_found(tmp_path):
    """Somebody evaluated max(x,0) before: the store calls ReLU that in every table, and so does the report."""
    with Store.open(f"sqlite:///{tmp_path}/store.db") as store:
        rows = [FunctionRow(fingerprint(name), name, 1) for name in ("max(x,0)", "relu(x)", "tanh(x)")]
        first, same, tanh = store.add_functions(rows)
        assert first == same
        task = store.add_task("digits", "1", "digest", {})
        run = store.create_run(NewRun("one", "search", task, {}, "d", 0, 3, None, "0.1.0"), [first, tanh])
        assert reference_of(store, run).name == "max(x,0)"
        other = replace(run, config={"reference": "tanh(x)"})
        assert reference_of(store, other).id == tanh
        assert reference_of(store, replace(run, config={"reference": "erf(x)"})) is None
