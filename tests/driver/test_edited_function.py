"""A name of somebody's own has one meaning in a store: what was edited or renamed is refused, or computes the same."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from light_driver import InstantPool, without_ray
from recorder import Recorder
from torch import nn

from aquasurf_ray import Study
from aquasurf_ray.activations import register_unary, unregister
from aquasurf_ray.activations.registry import find_operator
from aquasurf_ray.analysis.studies.reference import reference_of
from aquasurf_ray.cli.main import main
from aquasurf_ray.driver import confirm, evaluate, propose, resume, search
from aquasurf_ray.driver.candidates import add_functions
from aquasurf_ray.driver.errors import BadUse
from aquasurf_ray.driver.events import EvaluationStarted
from aquasurf_ray.store import FunctionRow, Store
from aquasurf_ray.tasks import load_task, network_from
from aquasurf_ray.tune import ActivationSearch

SMALL = {"candidates": 4, "evaluations": 1, "features": "outputs", "progress": False}
KINK = (
    r"kink\(x\) is in the store already, as a function with other values; .* so rename kink \(for the activation of a"
)
EDITED = (
    r"kink\(x\) of this run has other values here than in the store, or kink is unknown: its code has changed since"
)


def kinked(frequency, name="Kink", task="kinked"):
    """A task whose network has an activation of its own, a class that is written anew for each frequency."""
    kind = type(name, (nn.Module,), {"forward": lambda self, x: x + 0.3 * torch.sin(frequency * x)})

    def make():
        return nn.Sequential(nn.Flatten(), nn.Linear(64, 16), kind(), nn.Linear(16, 10))

    return replace(load_task("digits"), name=task, network=network_from(make))


@pytest.fixture
def here(tmp_path):
    return f"sqlite:///{tmp_path}/runs.db"


@pytest.fixture(autouse=True)
def light(monkeypatch):
    without_ray(InstantPool, monkeypatch.setattr)
    yield
    forget()


def forget():
    """Make this process one in which no task has been loaded."""
    for name in ("kink", "bend", "wiggle"):
        if find_operator(name):
            unregister(name)


def test_an_edited_activation_is_refused_before_anything_is_trained(here):
    evaluate(["relu(x)"], kinked(2.0), seeds=2, store=here, progress=False)
    for begin in (
        lambda: search(kinked(5.0), name="k", store=here, **SMALL),
        lambda: evaluate(["tanh(x)"], kinked(5.0), seeds=2, store=here, progress=False),
        lambda: Study("s", task=kinked(5.0), store=here, candidates=4, features="outputs"),
        lambda: ActivationSearch(kinked(5.0), store=here, name="t", candidates=4).suggest("1"),
    ):
        with pytest.raises(BadUse, match=KINK):
            begin()
    with Store.open(here) as store:
        assert [run.kind for run in store.runs()] == ["evaluate"]
        assert len(store.functions_named(["kink(x)"])) == 1


def test_another_task_has_another_function_under_the_name_of_its_class(here):
    search(kinked(2.0), name="one", store=here, **SMALL)
    with pytest.raises(BadUse, match=KINK):
        search(kinked(5.0, task="other"), name="two", store=here, **SMALL)
    search(kinked(5.0, "Bend", task="other"), name="two", store=here, **SMALL)
    search(kinked(2.0, task="third"), name="three", store=here, **SMALL)


def test_a_run_that_began_before_the_edit_neither_continues_nor_answers(here):
    name = evaluate(["relu(x)"], kinked(2.0), seeds=2, store=here, progress=False).name
    search(kinked(2.0), name="k", store=here, **SMALL)
    for again in (
        lambda: evaluate(["relu(x)"], kinked(5.0), seeds=2, store=here, progress=False),
        lambda: search(kinked(5.0), name="k", store=here, **SMALL),
        lambda: resume("k", task=kinked(5.0), store=here, evaluations=2, progress=False),
        lambda: resume(name, task=kinked(5.0), store=here, progress=False),
    ):
        with pytest.raises(BadUse, match=EDITED):
            again()
    with pytest.raises(BadUse, match=KINK):
        confirm("k", task=kinked(5.0), top=1, seeds=2, store=here, progress=False)
    assert resume("k", task=kinked(2.0), store=here, evaluations=2, progress=False).evaluations == 11


def test_a_class_that_is_only_renamed_shares_the_results_of_its_function(here):
    first = evaluate(["kink"], kinked(2.0), seeds=2, store=here, progress=False)
    forget()
    task = kinked(2.0, "Bend", task="other")
    result = search(task, name="b", store=here, **SMALL)
    assert result.diverged == result.failed == 0
    assert evaluate(["relu(x)"], kinked(2.0, "Bend"), seeds=2, store=here, progress=False).reused == first.evaluations
    with Study("s", task=kinked(2.0, "Bend", task="third"), store=here, candidates=4, features="outputs") as study:
        asked = [study.ask().function for _ in range(9)]
    assert "bend(x)" in asked
    with Store.open(here) as store:
        assert [known.name for _, known in store.functions_named(["bend(x)"])] == ["kink(x)"]


def test_a_function_of_the_space_is_trained_where_a_class_had_named_it_first(here):
    register_unary("wiggle", lambda x: torch.erf(torch.cos(torch.sin(x))))
    evaluate(["wiggle(x)"], "digits", seeds=1, store=here, progress=False)
    unregister("wiggle")
    recorder = Recorder()
    evaluate(["erf(cos(sin(x)))"], "digits-mlp", seeds=1, store=here, progress=False, callbacks=[recorder])
    assert [event.function for event in recorder.of(EvaluationStarted)] == ["erf(cos(sin(x)))"]


def test_a_request_for_the_edited_function_is_refused(here):
    register_unary("wiggle", lambda x: torch.cos(torch.sin(3 * x)))
    name = evaluate(["tanh(x)"], "digits", seeds=1, store=here, progress=False).name
    propose(name, ["wiggle(x)"], store=here)
    register_unary("wiggle", lambda x: torch.cos(torch.sin(4 * x)), replace=True)
    with pytest.raises(BadUse, match=r"wiggle\(x\) is in the store already"):
        propose(name, ["wiggle(x)"], store=here)
    with pytest.raises(BadUse, match=r"wiggle\(x\) of this run has other values here"):
        resume(name, store=here, progress=False)


def test_a_further_name_of_a_candidate_is_no_other_function_s_name(here):
    with Store.open(here) as store:
        add_functions(store, [FunctionRow("one", "wiggle(x)", 1)])
        with pytest.raises(BadUse, match=r"wiggle\(x\) is in the store already"):
            add_functions(store, [FunctionRow("two", "abs(x)", 1, ("wiggle(x)",))])
        assert store.find_function("abs(x)") is None


@pytest.fixture
def apart(here, tmp_path):
    """Two stores, between which the class of a network's activation was edited: the first is `here`."""
    other = f"sqlite:///{tmp_path}/other.db"
    evaluate(["relu(x)"], kinked(2.0), seeds=2, store=here, progress=False)
    evaluate(["relu(x)"], kinked(5.0), seeds=2, store=other, progress=False, name="theirs")
    return other


def contents(url):
    with Store.open(url) as store:
        return [run.name for run in store.runs()], store.functions_named(["kink(x)", "bend(x)", "relu(x)"])


def test_stores_in_which_a_name_means_two_functions_are_merged_only_under_another_name(here, apart, capsys):
    before = contents(here)
    assert main(["merge", apart, "--store", here]) == 2
    said = capsys.readouterr().err
    assert f"kink(x) is one function in store '{apart}' and another in '{here}', so nothing was merged" in said
    assert "--rename kink=NAME" in said
    assert contents(here) == before
    assert main(["merge", apart, "--store", here, "--rename", "kink=bend"]) == 0
    evaluate(["tanh(x)"], kinked(2.0), seeds=2, store=here, progress=False)
    forget()
    assert evaluate(["relu(x)"], kinked(5.0, "Bend"), seeds=2, store=here, progress=False).reused == 4
    assert resume("theirs", task=kinked(5.0, "Bend"), store=here, progress=False).evaluations == 4
    with Store.open(here) as store:
        run = store.run("theirs")
        assert reference_of(store, run).name == "bend(x)"
        assert run.config["functions"] == ["bend(x)", "relu(x)"]
        assert list(run.config["own_operators"]) == ["bend"]
    after = contents(here)
    assert main(["merge", apart, "--store", here, "--rename", "kink=bend"]) == 0
    assert contents(here) == after


def test_a_further_name_that_another_function_has_here_is_refused_too(here, tmp_path, capsys):
    other = f"sqlite:///{tmp_path}/other.db"
    search(kinked(2.0), name="one", store=here, **SMALL)
    evaluate(["relu(x)"], kinked(5.0, "Bend"), seeds=2, store=other, progress=False)
    forget()
    evaluate(["tanh(x)"], kinked(5.0), seeds=2, store=other, progress=False)
    assert main(["merge", other, "--store", here]) == 2
    assert "kink(x) is one function in store" in capsys.readouterr().err
    assert main(["merge", other, "--store", here, "--rename", "kink=wave"]) == 0


@pytest.mark.parametrize(
    ("rename", "problem"),
    [
        ("kink", "rename must be OPERATOR=NAME, two different names that are not built in"),
        ("kink=kink", "rename must be OPERATOR=NAME"),
        ("kink=relu", "rename must be OPERATOR=NAME"),
        ("kinks=bend", "has no operator kinks to rename; its own operators: kink"),
    ],
)
def test_a_renaming_that_cannot_be_is_refused(here, apart, rename, problem, capsys):
    before = contents(here)
    assert main(["merge", apart, "--store", here, "--rename", rename]) == 2
    assert problem in capsys.readouterr().err
    assert contents(here) == before
