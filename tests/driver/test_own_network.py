"""Commands on a task whose network has an activation of its own, which no expression computes: `own_wave(x)`."""

from __future__ import annotations

import contextlib
import json
import sys

import pytest
from fake_cluster import FakeCluster

from aquasurf_ray import Study
from aquasurf_ray.activations import OperatorError, fingerprint, unregister
from aquasurf_ray.cli.main import main
from aquasurf_ray.store import Store

MODULE = """
from dataclasses import replace

import torch
from torch import nn

from aquasurf_ray.tasks import Recipe, load_task, network_from


class OwnWave(nn.Module):
    def forward(self, x):
        return x * torch.cos(3 * x)


def network():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 16), OwnWave(), nn.Linear(16, 10))


def wave(**changes):
    digits = load_task("digits-mlp")
    small = Recipe(epochs=1, batch_size=64)
    return replace(digits, name="wave", network=network_from(network, OwnWave), recipe=small, **changes)


def named():
    return wave(baselines=("tanh(own_wave(x))",), reference="mul(2,own_wave(x))")
"""
SEARCH = ["search", "own_net:wave", "--name", "one", "--candidates", "8", "--evaluations", "2", "--features", "outputs"]


def forgotten():
    """Make this process forget the task and its operator, as a new one would."""
    sys.modules.pop("own_net", None)
    with contextlib.suppress(OperatorError):
        unregister("own_wave")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A working folder with the task, of which this process knows nothing yet."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("AQUASURF_STORE", raising=False)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    (tmp_path / "own_net.py").write_text(MODULE)
    forgotten()
    yield tmp_path
    forgotten()


@pytest.fixture
def searched(folder, monkeypatch, capsys):
    """A search on the task, read by a process that cannot import it."""
    FakeCluster().install(monkeypatch)
    assert main(SEARCH) == 0, capsys.readouterr().err
    forgotten()
    (folder / "own_net.py").rename(folder / "moved.py")
    capsys.readouterr()
    return folder


def printed(capsys, *words):
    code = main(list(words))
    captured = capsys.readouterr()
    assert code == 0, captured.err
    return captured.out


def test_a_function_is_explained_relative_to_the_networks_own_and_that_relative_to_relu(folder, capsys):
    found = json.loads(printed(capsys, "explain", "tanh(x)", "--task", "own_net:wave", "--json"))
    assert found["reference"] == "own_wave(x)"
    assert "times that with own_wave(x) before training" in found["words"]
    forgotten()
    text = printed(capsys, "explain", "own_wave(x)", "--task", "own_net:wave")
    assert "gradients relative to those with relu(x):" in text


def test_spectrum_takes_the_networks_own_function(folder, capsys):
    assert (
        len(json.loads(printed(capsys, "spectrum", "own_wave(x)", "--task", "own_net:wave", "--json"))["layers"]) == 2
    )


def test_a_task_may_name_functions_of_its_own_operator(folder, capsys):
    assert json.loads(printed(capsys, "task", "show", "own_net:named", "--json"))["reference"] == "mul(2,own_wave(x))"
    forgotten()
    assert "gains are over mul(2,own_wave(x))" in printed(capsys, "task", "check", "own_net:named")


def test_the_reference_is_drawn_where_its_code_is_not(searched, capsys):
    printed(capsys, "report", "one", "-o", "report.html")
    page = (searched / "report.html").read_text()
    assert 'aria-label="own_wave(x), the reference, drawn from -4 to 4"' in page
    assert '"own_operators"' not in page
    said = printed(capsys, "plot", "one", "functions", "-o", "functions.svg")
    assert "The 6 best functions and the reference, own_wave(x), each with" in said
    wave = json.loads(printed(capsys, "find", "one", "--near", "own_wave(x)", "--contains", "own_wave", "--json"))
    assert [(row["function"], row["distance"], row["shape"]) for row in wave] == [("own_wave(x)", 0.0, "")]
    odd = json.loads(printed(capsys, "find", "one", "--shape", "zero-at-zero", "--json"))
    assert odd
    assert "own_wave(x)" not in [row["function"] for row in odd], "its shape is not known"
    assert "own wave of x" in printed(capsys, "show", "own_wave(x)")


def test_the_operator_itself_takes_the_place_of_its_values(searched, capsys):
    printed(capsys, "find", "one")
    rough = fingerprint("own_wave(x)")
    (searched / "moved.py").rename(searched / "own_net.py")
    printed(capsys, "enqueue", "one", "mul(x,own_wave(x))")
    printed(capsys, "find", "one")  # registers values again, where they are needed
    with Store.open("sqlite:///aquasurf.db") as store:
        found = {name: store.find_function(name).fingerprint for name in ("own_wave(x)", "mul(x,own_wave(x))")}
    assert found == {name: fingerprint(name) for name in found}
    assert found["own_wave(x)"] != rough


def test_what_cannot_be_identified_is_not_queued(searched, capsys):
    assert main(["enqueue", "one", "mul(x,own_wave(x))"]) == 2
    error = capsys.readouterr().err
    assert "operator 'own_wave' is of the network of task 'own_net:wave', which cannot be loaded here" in error
    assert error.count("\n") == 1


def test_a_study_and_its_report_know_the_reference(folder):
    url = f"sqlite:///{folder}/study.db"
    with Study("study", task="own_net:wave", store=url, candidates=8, features="outputs"):
        pass
    with Store.open(url) as store:
        config = store.run("study").config
    assert (config["reference"], config["task_baselines"]) == ("own_wave(x)", ["own_wave(x)"])
    assert len(config["own_operators"]["own_wave"]) == 401


def evaluated(capsys, *words):
    return printed(capsys, "evaluate", *words, "--task", "own_net:wave")


def test_an_evaluation_with_several_seeds_trains_the_reference_and_says_so(folder, monkeypatch, capsys):
    cluster = FakeCluster().install(monkeypatch)
    assert main(["evaluate", "relu(x)", "swish(x)", "--task", "own_net:wave", "--seeds", "2"]) == 0
    out, err = capsys.readouterr()
    assert (cluster.specs[0].budget, cluster.specs[0].run.budget) == (6, 6)
    assert "the reference own_wave(x) is trained too: gains are over it" in out + err
    assert "own_wave(x) (reference)" in out
    assert "Gain: the mean difference to own_wave(x)" in " ".join(out.split())
    table = json.loads(evaluated(capsys, "swish(x)", "relu(x)", "--seeds", "2", "--format", "json"))
    assert table["reference"] == "own_wave(x)"
    gains = {row["function"]: row["gain"] for row in table["functions"]}
    assert gains == {"relu(x)": pytest.approx(-0.02), "swish(x)": pytest.approx(-0.01), "own_wave(x)": None}


def test_gains_over_another_function_than_the_reference_are_never_shown(folder, monkeypatch, capsys):
    cluster = FakeCluster().install(monkeypatch)
    table = json.loads(evaluated(capsys, "relu(x)", "swish(x)", "--format", "json"))
    assert cluster.specs[0].budget == 2, "one seed trains what is given"
    assert (table["reference"], [row["gain"] for row in table["functions"]]) == (None, [None, None])
    words = " ".join(evaluated(capsys, "relu(x)", "swish(x)", "--format", "table").split())
    assert "Gain and p need the reference, own_wave(x), which this run did not train: evaluate it too." in words
    assert "(reference)" not in words
