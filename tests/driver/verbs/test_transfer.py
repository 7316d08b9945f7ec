"""The best functions of a run on another task: trained once, figures as computed by hand, tables that hold them."""

from __future__ import annotations

import csv
import io
import json

import numpy as np
import pytest
from scipy import stats
from scripted_worker import ScriptedWorker, score_of

from aquasurf_ray.activations import BASELINES
from aquasurf_ray.analysis.studies.transferred_run import read_transfer
from aquasurf_ray.cli import transfer as command
from aquasurf_ray.driver import search
from aquasurf_ray.driver.errors import BadUse
from aquasurf_ray.driver.verbs.transfer import transfer
from aquasurf_ray.store import Store

pytestmark = [pytest.mark.usefixtures("ray_here"), pytest.mark.slow]

NAMES = ("tanh(tanh(x))", "erf(tanh(x))", "arctan(tanh(x))", "sigmoid(tanh(x))", "relu(tanh(x))", "elu(tanh(x))")
OTHER = "digits-mlp"


@pytest.fixture(scope="module")
def transferred(ray_here, tmp_path_factory):
    """The URL of the store of a search, and of its transfer of two functions with three seeds."""
    folder = tmp_path_factory.mktemp("transferred")
    (folder / "space.yaml").write_text("name: own\nnames:\n" + "".join(f"  - {name}\n" for name in NAMES))
    small = {"space": str(folder / "space.yaml"), "features": "outputs", "evaluations": 6, "workers": 1, "name": "one"}
    where = {"store": f"sqlite:///{folder}/runs.db", "storage": str(folder), "worker": ScriptedWorker}
    search("digits", **small, **where)
    return where["store"], transfer("one", OTHER, top=2, seeds=3, workers=1, **where)


def read(url, name):
    with Store.open(url) as store:
        return read_transfer(store, "one", name)


def seeds_of(name: str) -> np.ndarray:
    return np.array([score_of(name, seed) for seed in range(3)])


@pytest.mark.slow
def test_the_best_and_the_baselines_are_trained_with_every_seed(transferred):
    url, result = transferred
    found = read(url, result.name)
    best = sorted(NAMES, key=score_of)[-2:]
    assert {f.function for f in found.functions} == {*best, *BASELINES}
    assert (found.source_task, found.task, found.seeds) == ("digits", OTHER, (0, 1, 2))
    assert result.evaluations == 10 * 3


def test_figures_are_those_computed_by_hand(transferred):
    url, result = transferred
    found = read(url, result.name)
    relu = seeds_of("relu(x)")
    p_values = []
    for function in found.functions:
        scores = seeds_of(function.function)
        assert function.median == np.median(scores)
        assert function.mean.mean == pytest.approx(scores.mean())
        if not function.baseline:
            assert function.source == score_of(function.function)
            assert function.against_reference.gain == pytest.approx((scores - relu).mean())
            p_values.append((function.against_reference, stats.ttest_rel(scores, relu).pvalue))
    assert len(p_values) == 2
    smaller, larger = sorted(p_values, key=lambda pair: pair[1])
    assert smaller[0].p_holm == pytest.approx(min(1, 2 * smaller[1]))
    assert larger[0].p_holm == pytest.approx(max(smaller[0].p_holm, larger[1]))
    means = [function.mean.mean for function in found.functions]
    assert means == sorted(means, reverse=True), "what gains are of"


def test_a_second_time_nothing_is_trained(transferred):
    url, result = transferred
    again = transfer("one", OTHER, top=2, seeds=3, workers=1, store=url, worker=ScriptedWorker)
    assert again.name == result.name
    with Store.open(url) as store:
        assert [run.name for run in store.runs()].count(result.name) == 1


@pytest.mark.parametrize("form", list(command.Table))
def test_every_table_has_every_function(transferred, form, capsys):
    url, result = transferred
    command._PRINTERS[form](read(url, result.name))
    printed = capsys.readouterr().out
    best = max(NAMES, key=score_of)
    if form is command.Table.csv:
        rows = list(csv.DictReader(io.StringIO(printed)))
        assert len(rows) == 10
        (row,) = [row for row in rows if row["function"] == best]
        assert float(row["median"]) == np.median(seeds_of(best))
    elif form is command.Table.json:
        assert {row["function"] for row in json.loads(printed)["functions"]} >= {best, "relu(x)"}
    elif form is command.Table.latex:
        assert printed.count(r"\\") == 11
        assert printed.count("{") == printed.count("}")
        assert r"\operatorname{ReLU}\left(x\right)$ (reference) &" in printed
        assert (printed.count("(baseline)"), printed.count("(reference)")) == (7, 1)
    elif form is command.Table.markdown:
        assert printed.count("\n| `") == 10
        assert f"| `{best}` |" in printed
        assert "| `relu(x) (reference)` |" in printed
    else:
        assert "relu(x) (reference) " in printed
        assert f"{np.median(seeds_of(best)):.4f}" in printed


def test_what_cannot_be_transferred_is_said_and_trains_nothing(transferred):
    url, _ = transferred
    with pytest.raises(BadUse, match="at least one function"):
        transfer("one", OTHER, top=0, store=url)
    with pytest.raises(BadUse, match="no-such-task"):
        transfer("one", "no-such-task", store=url)
    with Store.open(url) as store:
        assert len(store.runs()) == 2
