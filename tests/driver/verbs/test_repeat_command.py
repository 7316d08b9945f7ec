"""The command that repeats a run gives, in an empty database, a run of the same identity. Without Ray."""

from __future__ import annotations

import shlex

import pytest

from aquasurf_ray.cli.main import main
from aquasurf_ray.driver.verbs.repeat_command import command_of
from aquasurf_ray.store import Store

COMMANDS = [
    "search digits --name one --candidates 4 --evaluations 2 --features outputs",
    "search digits --candidates 4 --evaluations 2 --surrogate aquasurf --regressor rfr --seed 3 --training-seed 2",
    "search digits --candidates 4 --evaluations 2 --max-cost 1.25 --early-stop median --health-gate off",
    "search digits --candidates 4 --evaluations 2 --modules math --modules json --space 'my space.yaml'",
    "evaluate tanh(x) 'add(x,1.5)' --task digits --seeds 2 --health-gate off --max-attempts 5",
    "benchmark build digits --space 'my space.yaml' --seeds 1 --fisher sampled,empirical",
]


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


def test_a_confirmation_is_repeated_with_its_run_and_number_of_seeds(here, cluster):
    assert main(["search", "digits", "--name", "my run", *COMMANDS[0].split()[4:], "--store", here]) == 0
    assert main(["confirm", "my run", "--seeds", "2", "--store", here]) == 0
    assert command_of(stored(here)["confirm"]) == "aquasurf confirm 'my run' --seeds 2"


def test_a_default_and_what_may_hold_a_password_are_left_out(here, cluster):
    assert main([*COMMANDS[0].split(), "--store", here, "--log-to", "mlflow:http://u:secret@host", "--seed", "0"]) == 0
    command = command_of(stored(here)["search"])
    assert command == ("aquasurf search digits --space three-node --evaluations 2 --candidates 4 --features outputs")
