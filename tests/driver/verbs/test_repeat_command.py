"""What repeats a run gives, in an empty database, a run of the same identity. Without Ray."""

from __future__ import annotations

import shlex
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from typer.main import get_command

from aquasurf_ray.cli.main import app, main
from aquasurf_ray.driver import confirm, evaluate, search, transfer
from aquasurf_ray.driver.verbs.repeat_command import command_of
from aquasurf_ray.store import Run, Store
from aquasurf_ray.tasks import load_task

COMMANDS = [
    "search digits --name one --candidates 4 --evaluations 2 --features outputs",
    "search digits --candidates 4 --evaluations 2 --surrogate aquasurf --regressor rfr --seed 3 --training-seed 2",
    "search digits --candidates 4 --evaluations 2 --max-cost 1.25 --early-stop median --health-gate off",
    "search digits --candidates 4 --evaluations 2 --modules math --modules json --space 'my space.yaml'",
    "evaluate tanh(x) 'add(x,1.5)' --task digits --seeds 2 --health-gate off --max-attempts 5",
    "benchmark build digits --space 'my space.yaml' --seeds 1 --fisher sampled,empirical",
]


def run_of(kind, config):
    now = datetime(2026, 1, 1, tzinfo=UTC)
    return Run(1, "one", kind, 1, config, "d", 0, None, "finished", None, "0.1.0", now, now, None, 0, None, None, None)


def options(words):
    """The options of a command, in any order."""
    return dict(zip(words[::2], words[1::2], strict=True))


def every(url):
    with Store.open(url, create=False) as store:
        return store.runs()


def stored(url):
    with Store.open(url, create=False) as store:
        return {run.kind: run for run in store.runs()}


def repeated(run, url):
    words = shlex.split(command_of(run))
    assert words[0] == "aquasurf"
    return [*words[1:], "--store", url]


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.slow
def test_a_command_is_repeated_with_every_setting_that_makes_the_run(here, cluster, tmp_path, command):
    (tmp_path / "my space.yaml").write_text("name: own\nnames:\n  - tanh(tanh(x))\n  - erf(erf(x))\n")
    assert main([*shlex.split(command), "--store", here]) == 0
    (first,) = stored(here).values()
    url = f"sqlite:///{tmp_path}/again.db"
    assert main(repeated(first, url)) == 0
    (again,) = stored(url).values()
    assert (again.kind, again.config_digest, again.budget) == (first.kind, first.config_digest, first.budget)
    assert again.config["max_attempts"] == first.config["max_attempts"]
    assert command_of(again) == command_of(first)


CONFIRMATIONS = [
    ({}, "--judge test"),
    ({"tune": "weight_decay=0,1e-4"}, "--judge test --tune weight_decay=0,1e-4 --rate-seeds 2"),
    (
        {"learning_rates": (0.5, 1, 2), "rate_seeds": 4, "judged_baselines": 3, "judge": "validation"},
        "--learning-rates 0.5,1,2 --rate-seeds 4 --judged-baselines 3 --judge validation",
    ),
]


@pytest.mark.parametrize(("given", "expected"), CONFIRMATIONS)
def test_a_confirmation_is_repeated_with_all_that_makes_it(here, cluster, given, expected):
    search("digits", name="my run", candidates=4, evaluations=2, features="outputs", store=here)
    confirm("my run", top=1, seeds=2, store=here, **given)
    words = shlex.split(command_of(stored(here)["confirm"], " --store URL"))
    assert words[:3] == ["aquasurf", "confirm", "my run"]
    assert options(words[3:]) == options([*["--top", "1", "--seeds", "2", "--store", "URL"], *expected.split()])
    parsed = get_command(app).commands["confirm"].make_context("confirm", words[2:]).params
    assert (parsed["name"], parsed["top"], parsed["seeds"]) == ("my run", 1, 2), "the command knows its options"


def test_a_transfer_is_repeated_as_a_transfer(here, cluster):
    search("digits", name="my run", candidates=4, evaluations=2, features="outputs", store=here)
    transfer("my run", "digits-mlp", top=2, seeds=3, store=here)
    command = command_of(stored(here)["evaluate"], " --store URL")
    assert command == "aquasurf transfer --from 'my run' --to digits-mlp --top 2 --seeds 3 --store URL"
    parsed = get_command(app).commands["transfer"].make_context("transfer", shlex.split(command)[2:]).params
    assert (parsed["source"], parsed["to"], parsed["top"]) == ("my run", "digits-mlp", 2)


def test_what_was_started_with_a_task_in_python_is_repeated_there(here, cluster, monkeypatch):
    """Also if the task has the name of another one, which a command would train in its place."""
    monkeypatch.setenv("AQUASURF_STORE", here)
    task = replace(load_task("digits"), version="2")
    search(task, name="one", candidates=4, evaluations=2, features="outputs")
    confirm("one", top=1, seeds=1, task=task)
    evaluate(["tanh(x)"], task, seeds=2, health_gate="off")
    transfer("one", task, top=1, seeds=1)
    runs = every(here)
    codes = {run.name: command_of(run) for run in runs}
    assert not any("aquasurf " in code for code in codes.values()), "no command of the shell"
    for run in runs:
        exec(codes[run.name], {"task": task})
    new = every(here)[len(runs) :]
    assert [run.name for run in new] == ["digits-1"], "all others have no name of their own, and are found"
    assert new[0].config_digest == runs[0].config_digest


def test_an_import_of_a_task_of_ones_own_is_no_command_that_fails(here):
    """The store has the task's own name, and not what `--task` was given."""
    run = run_of("import", {"task": "mine", "file": "a b.json", "modules": ["own"]})
    assert all(line.startswith("#") for line in command_of(run).splitlines())
    known = run_of("import", {"task": "digits", "file": "a b.json", "modules": ["own"]})
    assert command_of(known) == "aquasurf import 'a b.json' --task digits --modules own"


def test_a_run_of_ray_tune_is_repeated_by_its_tuner():
    assert command_of(run_of("search", {"task": "digits", "space": "three-node", "draws": 1})).startswith(
        "# a run of Ray"
    )


def test_a_default_and_what_may_hold_a_password_are_left_out(here, cluster):
    assert main([*COMMANDS[0].split(), "--store", here, "--log-to", "mlflow:http://u:secret@host", "--seed", "0"]) == 0
    command = command_of(stored(here)["search"])
    assert command == ("aquasurf search digits --space three-node --evaluations 2 --candidates 4 --features outputs")
