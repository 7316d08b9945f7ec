"""The zoo as baselines of a search and as a list of functions to evaluate, and the tables for a paper made of it."""

from __future__ import annotations

import csv
import io
import json
import re

import numpy as np
import pytest
from scipy import stats
from scripted_worker import ScriptedWorker, score_of

from aquasurf_ray.activations import BASELINES, parse
from aquasurf_ray.activations.zoo import baseline_names, zoo_functions
from aquasurf_ray.analysis.errors import AnalysisError
from aquasurf_ray.analysis.studies.confirmed_run import read_confirmation
from aquasurf_ray.analysis.studies.evaluated_run import read_evaluation
from aquasurf_ray.cli.terminal.evaluation import print_evaluation
from aquasurf_ray.cli.terminal.paper_table import Table
from aquasurf_ray.driver import confirm, evaluate, search
from aquasurf_ray.driver.candidates import baseline_rows, unique_rows
from aquasurf_ray.driver.errors import BadUse
from aquasurf_ray.driver.settings.reading import make_config
from aquasurf_ray.store import Store

pytestmark = [pytest.mark.usefixtures("ray_here"), pytest.mark.slow]

ZOO = [str(expression) for _, expression in zoo_functions()]
OWN = "mul(tanh(x),arctan(x))"
SEEDS = range(3)


@pytest.fixture(scope="module")
def evaluated(ray_here, tmp_path_factory):
    """The URL of the store of an evaluation of the zoo and one function more with three seeds, and its name."""
    folder = tmp_path_factory.mktemp("evaluated")
    where = {"store": f"sqlite:///{folder}/runs.db", "storage": str(folder), "worker": ScriptedWorker, "workers": 1}
    result = evaluate([OWN, "zoo", "hardswish"], "digits", seeds=3, **where)
    return where["store"], result.name


@pytest.mark.slow
def test_the_word_zoo_stands_for_each_of_its_functions_once(evaluated):
    assert [row.name for row in unique_rows([OWN, "zoo", "hardswish"])] == [OWN, *ZOO]
    with Store.open(evaluated[0]) as store:
        found = read_evaluation(store, evaluated[1])
    assert {each.function for each in found.functions} == {OWN, *ZOO}
    assert [each.name for each in found.functions if each.function == OWN] == [None]
    assert all(each.name for each in found.functions if each.function != OWN)


def test_means_intervals_ranks_and_tests_are_those_computed_apart(evaluated):
    with Store.open(evaluated[0]) as store:
        found = read_evaluation(store, evaluated[1])
    scores = {each.function: [score_of(each.function, seed) for seed in SEEDS] for each in found.functions}
    names = [each.function for each in found.functions]
    assert names == sorted(names, key=lambda name: -np.mean(scores[name]))
    assert [each.rank for each in found.functions] == list(range(1, len(names) + 1))
    p_values = sorted(stats.ttest_rel(scores[name], scores["relu(x)"]).pvalue for name in names if name != "relu(x)")
    for each in found.functions:
        own = scores[each.function]
        low, high = stats.t.interval(0.95, 2, loc=np.mean(own), scale=stats.sem(own))
        assert (each.mean.low, each.mean.high) == pytest.approx((low, high))
        if each.function != "relu(x)":
            gain = np.subtract(own, scores["relu(x)"]).mean()
            assert each.against_reference.gain == pytest.approx(gain)
    smallest = min(each.against_reference.p_holm for each in found.functions if each.function != "relu(x)")
    assert smallest == pytest.approx(min(1.0, len(p_values) * p_values[0]))


@pytest.fixture
def printed(evaluated, capsys):
    def table(form):
        print_evaluation(evaluated[1], evaluated[0], form)
        return capsys.readouterr().out

    return table


def test_intervals_of_accuracies_stay_within_0_and_1(printed):
    """With three seeds, Student's t leaves that range for most of the scripted scores, which are anywhere in it."""
    rows = list(csv.DictReader(io.StringIO(printed(Table.csv))))
    ends = np.array([[float(row["low"]), float(row["high"])] for row in rows])
    assert ends.min() == 0.0
    assert ends.max() == 1.0
    assert (ends[:, 0] < ends[:, 1]).all()


def test_latex_is_a_table_that_compiles_in_form(printed):
    text = printed(Table.latex)
    comment, begin, top, header, middle, *rows, bottom, end = text.splitlines()
    assert comment.startswith("% ")
    assert (begin, end) == (r"\begin{tabular}{rllrrrrrr}", r"\end{tabular}")
    assert (top, middle, bottom) == (r"\toprule", r"\midrule", r"\bottomrule")
    assert len(rows) == len(ZOO) + 1
    for line in (header, *rows):
        assert line.endswith(r" \\")
        assert len(re.findall(r"(?<!\\)&", line)) == 8
        assert line.count("{") == line.count("}")
        assert line.count(r"\left") == line.count(r"\right")
        assert len(re.findall(r"(?<!\\)\$", line)) % 2 == 0
        plain = re.sub(r"(?<!\\)\$.*?(?<!\\)\$", "", line)  # outside of formulas
        assert not re.findall(r"(?<!\\)[_%#^~<>]", plain), plain
    assert r"& leaky\_relu & $" in text
    assert text.count(r"\textbf{") == 1
    assert rows[0].startswith("1 & ")
    assert r"\textbf{" in rows[0]


def test_the_function_that_gains_are_over_is_marked_for_people_only(printed):
    assert sum(line.endswith(" relu(x) (reference)") for line in printed(Table.table).splitlines()) == 1
    assert "| `relu(x)` (reference) |" in printed(Table.markdown)
    assert r"\operatorname{ReLU}\left(x\right)$ (reference) &" in printed(Table.latex)
    assert not any("(reference)" in printed(form) for form in (Table.csv, Table.json))


def test_markdown_has_the_best_in_bold_and_csv_and_json_have_every_digit(printed):
    lines = printed(Table.markdown).splitlines()
    assert {line.count(" |") for line in lines[2:] if line.startswith("|")} == {9}
    assert "**" in lines[4]
    assert sum("**" in line for line in lines) == 1
    rows = list(csv.DictReader(io.StringIO(printed(Table.csv))))
    document = json.loads(printed(Table.json))
    assert [row["function"] for row in rows] == [each["function"] for each in document["functions"]]
    for row, each in zip(rows, document["functions"], strict=True):
        assert (
            float(row["mean"]) == each["mean"] == pytest.approx(np.mean([score_of(row["function"], s) for s in SEEDS]))
        )
    table, note = printed(Table.table).rsplit("\n\n", 1)
    assert table.count("\n") == len(rows) + 2
    assert "gain" in note


@pytest.mark.slow
def test_a_search_trains_the_zoo_first_and_confirms_its_winners_against_it(tmp_path):
    where = {"store": f"sqlite:///{tmp_path}/runs.db", "storage": str(tmp_path), "worker": ScriptedWorker}
    options = {"candidates": 40, "evaluations": 3, "workers": 1, "features": "outputs", "name": "one"}
    result = search("digits", baselines="zoo", **options, **where)
    names = baseline_names("zoo")
    assert result.evaluations == len(names) + 3
    confirmed = confirm("one", top=1, seeds=1, **where)
    with Store.open(where["store"]) as store:
        evaluations = store.snapshot(store.run("one").id).evaluations
        assert [each.origin for each in evaluations[: len(names)]] == ["baseline"] * len(names)
        found = read_confirmation(store, confirmed.name)
        with pytest.raises(AnalysisError, match="run 'one' is of kind search"):
            read_evaluation(store, "one")
    assert sum(each.baseline for each in found.functions) == len(names)
    assert sum(not each.baseline for each in found.functions) == 1


def test_the_default_baselines_and_the_identity_of_earlier_runs_stay():
    assert tuple(row.name for row in baseline_rows()) == BASELINES
    assert "baselines" not in make_config({"task": "digits"}).identity()
    assert make_config({"task": "digits", "baselines": "zoo"}).identity()["baselines"] == "zoo"
    with pytest.raises(BadUse, match="baselines"):
        make_config({"task": "digits", "baselines": "all"})


def test_a_name_is_accepted_where_a_function_is():
    (row,) = unique_rows(["leaky_relu(0.1)"])
    assert row.name == str(parse("leaky_relu(x,0.1)"))
    assert row.n_operators == 4
