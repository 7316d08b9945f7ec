"""One name for one thing: the fields of a configuration are the flags, and the documented interface is there."""

from __future__ import annotations

import re

import pytest
from typer.main import get_command

from aquasurf_ray.cli.main import app
from aquasurf_ray.driver.config import CONDITIONS, SearchConfig

COMMANDS = dict(get_command(app).commands)
for group in ("task", "benchmark"):
    COMMANDS |= {f"{group} {name}": command for name, command in COMMANDS[group].commands.items()}
INTERFACE = {
    "search": "task --name --space --evaluations --candidates --workers --gpus-per-worker --store --storage --seed "
    "--config --address --json",
    "resume": "name",
    "status": "name --json",
    "top": "name -n --format --pareto",
    "show": "function",
    "query": "sql --format",
    "export": "name --format -o",
    "space": "name --count --sample",
    "spectrum": "function --task --json",
    "task list": "--json",
    "task show": "task --json",
    "task check": "task --download --device --json",
    "evaluate": "functions --task --seeds",
    "benchmark build": "task --space --seeds --fisher --name --workers --store -o --json",
    "confirm": "name --top --seeds --json",
}


OF_SEARCHES = {"evaluations", "confirm", "seeds", "until"}
OF_BUILDS = {"task", "space", "seeds", "fisher", "modules"}


def parameters(command):
    """The names under which a command takes values, without help."""
    return {parameter.name: parameter for parameter in COMMANDS[command].params if parameter.name != "help"}


def test_every_field_is_a_flag_of_search_and_every_flag_a_field():
    flags = parameters("search")
    assert set(flags) - {"config", "as_json"} == set(SearchConfig.model_fields)
    for name in flags.keys() - {"task", "as_json"}:
        assert flags[name].opts == [f"--{name.replace('_', '-')}"]


def test_every_condition_of_a_run_can_be_changed_at_resume_and_nothing_else():
    assert set(parameters("resume")) - {"config", "as_json"} == CONDITIONS


def test_evaluate_takes_the_conditions_of_a_training_and_what_it_needs_to_read_functions():
    taken = set(parameters("evaluate")) - {"functions", "seeds", "config", "as_json"}
    assert taken == CONDITIONS - OF_SEARCHES | {"task", "modules", "health_gate"}


def test_a_build_and_a_confirmation_take_the_conditions_of_a_training():
    build, confirm = set(parameters("benchmark build")), set(parameters("confirm"))
    assert build - {"config", "as_json", "output"} == CONDITIONS - OF_SEARCHES | OF_BUILDS
    assert confirm - {"config", "as_json"} == CONDITIONS - OF_SEARCHES | {"top", "seeds"}


@pytest.mark.parametrize("command", ["search", "resume", "evaluate", "confirm"])
def test_the_defaults_that_help_tells_are_those_of_the_configuration(command):
    told = 0
    for name, parameter in parameters(command).items():
        found = re.search(r"Default: ([\w.-]+)\.", getattr(parameter, "help", None) or "")
        default = SearchConfig.model_fields[name].default if name in SearchConfig.model_fields else None
        if found and default is not None:
            told += 1
            assert type(default)(found[1]) == default, f"--{name}"
    assert told >= 4


@pytest.mark.parametrize("command", INTERFACE)
def test_the_documented_interface_is_there(command):
    arguments = {p.name for p in COMMANDS[command].params if not p.opts[0].startswith("-")}
    options = {flag for parameter in COMMANDS[command].params for flag in parameter.opts}
    wanted = INTERFACE[command].split()
    assert {word for word in wanted if word.startswith("-")} <= options
    assert {word for word in wanted if not word.startswith("-")} == arguments


def test_one_option_means_one_thing_in_all_commands():
    texts = {}
    for command in COMMANDS:
        for parameter in parameters(command).values():
            for flag in parameter.opts:
                if flag in {"--store", "--json", "--workers", "--storage", "--modules", "--config", "--address"}:
                    texts.setdefault(flag, set()).add(parameter.help)
    assert len(texts) == 7
    assert {flag: len(said) for flag, said in texts.items()} == dict.fromkeys(texts, 1)
