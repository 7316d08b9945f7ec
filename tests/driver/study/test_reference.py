"""The reference of a study: named by its user, or that of its task or network; without Ray."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from study_loops import merit
from torch import nn

from aquasurf_ray import Study
from aquasurf_ray.activations import BASELINES
from aquasurf_ray.analysis.report.front import front
from aquasurf_ray.analysis.studies.findings import read_findings
from aquasurf_ray.analysis.studies.reference import reference_name
from aquasurf_ray.cli.main import main
from aquasurf_ray.driver.errors import BadUse
from aquasurf_ray.driver.verbs.confirm import winners
from aquasurf_ray.store import Store
from aquasurf_ray.tasks import load_task, network_from

OPTIONS = {"direction": "maximize", "candidates": 20, "first_candidates": 20}


@pytest.fixture
def url(tmp_path):
    return f"sqlite:///{tmp_path}/s.db"


class Own(nn.Module):
    """A user's network with GELU."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.GELU(), nn.Linear(8, 10))

    def forward(self, x):
        return self.layers(x)


@pytest.fixture
def with_gelu():
    return replace(load_task("digits"), name="own", network=network_from(Own))


def accuracy(function):
    return math.exp(merit(function)) / 2


def told(study):
    """Tell all trials their merit, GELU's the best of all; return the functions."""
    functions = []
    for trial in study:
        study.tell(trial, 1.0 if trial.function == "gelu(x)" else accuracy(trial.function))
        functions.append(trial.function)
    return functions


def reference_and_winners(url, name="s"):
    with Store.open(url) as store:
        run = store.run(name)
        return reference_name(run), [row.function for row in winners(store, run, 3)]


def test_a_study_without_a_task_names_its_reference_which_is_a_baseline(url, capsys):
    with Study("s", store=url, evaluations=2, reference="gelu", **OPTIONS) as study:
        assert told(study)[: len(BASELINES) + 1] == [*BASELINES, "gelu(x)"]
    reference, best = reference_and_winners(url)
    assert reference == "gelu(x)"
    assert "gelu(x)" not in best, "a baseline is no winner"
    assert main(["top", "s", "--store", url]) == 0
    (row,) = [line.split() for line in capsys.readouterr().out.splitlines() if "gelu(x)" in line]
    assert "reference" in row
    with Store.open(url) as store:
        assert "Gain over gelu(x)" in front(read_findings(store, "s", "", quick=True))


def test_the_network_of_a_task_names_the_reference_of_a_study(url, with_gelu):
    with Study("s", store=url, task=with_gelu, features="outputs", evaluations=2, candidates=20) as study:
        told(study)
    reference, best = reference_and_winners(url)
    assert reference == "gelu(x)"
    assert "gelu(x)" not in best


def test_a_function_for_each_role_is_no_reference_of_a_study(url, with_gelu):
    def network(*, early, late):
        return nn.Sequential(nn.Flatten(), nn.Linear(64, 8), early(), nn.Linear(8, 8), late(), nn.Linear(8, 10))

    task = replace(with_gelu, network=network, reference="early=relu(x);late=tanh(x)")
    with Study("s", store=url, task=task, features="outputs", evaluations=1, candidates=20) as study:
        told(study)
    assert reference_and_winners(url)[0] == "relu(x)"
    with Study("s", store=url, task=task, features="outputs", evaluations=1, candidates=20) as again:
        assert again.ask() is None


def test_a_study_is_continued_without_its_reference_and_refuses_another_one(url):
    with Study("s", store=url, evaluations=1, reference="gelu(x)", **OPTIONS) as study:
        first = study.ask()
        study.tell(first, 0.5)
    with Study("s", store=url, evaluations=1, **OPTIONS) as study:
        assert "gelu(x)" in told(study)[: len(BASELINES)], "still a baseline"
    with pytest.raises(BadUse, match=r"^study 's' has the reference gelu\(x\), got tanh\(x\); leave it out, or start"):
        Study("s", store=url, evaluations=1, reference="tanh(x)", **OPTIONS)


def test_a_study_of_before_has_no_reference_and_is_found(url):
    Study("s", store=url, evaluations=1, **OPTIONS).close()
    with pytest.raises(BadUse, match=r"^study 's' has the reference relu\(x\), got gelu\(x\)"):
        Study("s", store=url, evaluations=1, reference="gelu(x)", **OPTIONS)
    with Study("s", store=url, evaluations=1, reference="max(x,0)", **OPTIONS) as study:
        assert told(study)[: len(BASELINES)] == list(BASELINES)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"reference": "nothing(x)"}, r"reference: 'nothing\(x\)': .*nothing"),
        ({"reference": 3}, "reference must be a function as text, such as 'gelu\\(x\\)', got 3"),
        ({"reference": "early=relu(x);late=elu(x)"}, "reference: .* a Study has one function for all places"),
        ({"reference": "elu(x)", "task": "digits", "direction": None}, r"with task=, the task names it"),
    ],
)
def test_a_wrong_reference_is_refused(url, options, text):
    with pytest.raises(BadUse, match=text):
        Study("s", **{"store": url, **OPTIONS, **options})


def test_a_task_that_was_given_as_an_object_is_asked_for_by_name(with_gelu, url, capsys):
    with Study("f1", features=with_gelu, store=url, evaluations=1, **OPTIONS | {"candidates": 8}) as study:
        for trial in study:
            study.tell(trial, accuracy(trial.function))
    assert main(["confirm", "f1", "--top", "1", "--store", url]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "the task of run 'f1' was given as a Python object, which has no name to load it by; give it" in line
    assert line.endswith("begin a run with its import path in place of the object: 'module:function'")
