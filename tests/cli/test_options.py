"""One name for one thing: options are the settings of the model, and the documented interface is there."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from types import SimpleNamespace

import pytest
from typer.main import get_command

from aquasurf_ray.cli.main import PANELS, app, main
from aquasurf_ray.driver.settings.models import CONDITIONS, ConfirmConditions, SearchConfig, TrainingConditions
from aquasurf_ray.driver.settings.reading import make_config
from aquasurf_ray.driver.settings.setting import Panel

COMMANDS = dict(get_command(app).commands)
for group in ("task", "benchmark", "job"):
    COMMANDS |= {f"{group} {name}": command for name, command in COMMANDS.pop(group).commands.items()}
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
    "confirm": "name --top --seeds --learning-rates --tune --rate-seeds --judge --json",
}


OF_CONFIRMATIONS = set(ConfirmConditions.model_fields)
OF_SEARCHES = {"evaluations", "confirm", "seeds", "until", "proposals"} | OF_CONFIRMATIONS
OF_TRAININGS = set(TrainingConditions.model_fields)


def parameters(command):
    """The names under which a command takes values, without help."""
    return {parameter.name: parameter for parameter in COMMANDS[command].params if parameter.name != "help"}


def test_every_setting_is_an_option_of_search_and_every_option_a_setting():
    flags = parameters("search")
    assert set(flags) - {"config", "as_json"} == set(SearchConfig.model_fields)
    for name in flags.keys() - {"task", "as_json"}:
        assert flags[name].opts == [f"--{name.replace('_', '-')}"]


def test_every_condition_of_a_run_can_be_changed_at_resume_and_nothing_else():
    assert set(parameters("resume")) - {"config", "as_json"} == CONDITIONS


def test_runs_that_do_not_search_take_the_conditions_of_a_training():
    assert OF_TRAININGS == CONDITIONS - OF_SEARCHES
    taken = {
        name: set(parameters(name)) - {"config", "as_json"} - OF_TRAININGS
        for name in ("evaluate", "benchmark build", "confirm", "transfer")
    }
    assert taken == {
        "evaluate": {"functions", "seeds", "task", "modules", "health_gate", "form"},
        "benchmark build": {"task", "space", "modules", "seeds", "fisher", "output"},
        "confirm": {"top", "seeds", "learning_rates", "tune", *OF_CONFIRMATIONS},
        "transfer": {"source", "to", "top", "modules", "seeds", "form"},
    }
    for name in ("evaluate", "benchmark build", "transfer"):
        assert set(parameters(name)) >= OF_TRAININGS


@pytest.mark.parametrize("command", ["resume", "confirm"])
def test_a_command_that_keeps_a_runs_values_shows_no_defaults(command):
    """But for the numbers of a confirmation, which the run does not have."""
    texts = {name: parameter.help or "" for name, parameter in parameters(command).items()}
    texts = {name: text for name, text in texts.items() if name not in ("store", "seeds")}
    assert len(texts) > 10
    assert {name: text for name, text in texts.items() if "Default: " in text} == {}


@pytest.mark.parametrize("command", ["search", "evaluate"])
def test_the_defaults_in_help_are_those_of_the_configuration(command):
    shown = 0
    for name, parameter in parameters(command).items():
        found = re.search(r"Default: ([\w.-]+)\.", getattr(parameter, "help", None) or "")
        default = SearchConfig.model_fields[name].default if name in SearchConfig.model_fields else None
        if found and default is not None and (command, name) != ("evaluate", "seeds"):
            shown += 1
            assert getattr(make_config({"task": "digits", name: found[1]}), name) == default, f"--{name}"
    assert shown >= 6


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
                    texts.setdefault(flag, set()).add(parameter.help.partition(" Default: ")[0])
    assert len(texts) == 7
    assert {flag: len(texts[flag]) for flag in texts} == dict.fromkeys(texts, 1)


@pytest.mark.parametrize("command", COMMANDS)
def test_help_is_in_whole_sentences_and_shows_values_as_people_write_them(command, capsys):
    assert main([*command.split(), "--help"]) == 0
    shown = capsys.readouterr().out
    assert not re.search(r"<(str|int|float|path|list.*)>|\b(TEXT|FLOAT|INTEGER|PATH)\b", shown)
    assert not re.search(r"\[(default|required)|[<>]=|\{", shown.replace("val_accuracy>=0.99 or val_rmse<=0.1", "")), (
        "Typer's own defaults and limits, and braces around arguments"
    )
    for name, parameter in parameters(command).items():
        assert re.fullmatch(r"[A-Z](.|\n)*\.", parameter.help), f"{name}: {parameter.help}"
        assert getattr(parameter, "is_flag", False) or parameter.metavar, name


def test_all_commands_are_listed_in_panels_and_the_settings_of_a_search_too(capsys):
    def panels(*arguments):
        assert main([*arguments, "--help"]) == 0
        sections = re.split(r"^(\w[\w ]*):\n", capsys.readouterr().out, flags=re.M)
        return {
            title: re.findall(r"^  (\S+)", text, re.M)
            for title, text in zip(sections[1::2], sections[2::2], strict=True)
        }

    commands = panels()
    assert [*commands][1:] == ["Runs", "Results", "Functions", "Database", "Cluster", "Benchmarks"]
    assert {title: tuple(commands[title]) for title in PANELS} == PANELS | {
        "Benchmarks": (*PANELS["Benchmarks"], "Start")  # the last line
    }
    assert len(get_command(app).commands) == 32
    options = panels("search")
    assert [*options] == ["Arguments", *Panel, "Options"]
    assert {"--time-budget", "--until"} == set(options["Stop conditions"])
    # What most people give comes first in its panel, and the settings of the rarer parts of a search come last.
    assert options["Run"][:3] == ["--name", "--seed", "--evaluations"]
    assert (options["Candidates"][0], options["Candidates"][-1]) == ("--space", "--proposals")


@pytest.mark.parametrize(
    ("command", "usage"),
    [
        ("search", "TASK"),  # it may stand in the file of --config, but somewhere it must
        ("benchmark build", "TASK..."),
        ("task check", "TASK"),
        ("submit", "COMMAND..."),
        ("evaluate", "FUNCTION..."),
        ("zoo", "[NAME...]"),
        ("doctor", "[TASK]"),
        ("status", "[NAME]"),
        ("query", "[SQL]"),
    ],
)
def test_usage_has_brackets_around_what_may_be_left_out_and_nothing_else(command, usage, capsys):
    assert main([*command.split(), "--help"]) == 0
    assert capsys.readouterr().out.startswith(f"Usage: aquasurf {command} [OPTIONS] {usage}\n")


def test_a_space_that_grows_is_offered_only_where_it_is_taken():
    offered = {name: parameters(name)["space"].help for name in ("search", "benchmark build")}
    assert {name: "open" in text for name, text in offered.items()} == {"search": True, "benchmark build": False}
    assert "open" not in parameters("space")["name"].help


@pytest.mark.parametrize("group", ["task", "benchmark", "job"])
def test_the_help_of_a_group_shows_each_summary_whole(group, capsys):
    assert main([group, "--help"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    for name, command in COMMANDS.items():
        if name.startswith(f"{group} "):
            summary = " ".join(command.help.partition("\n\n")[0].split())
            assert f"{name.partition(' ')[2]} {summary}" in shown


def test_a_configuration_file_gives_an_option_that_a_command_has_for_itself(tmp_path, monkeypatch):
    """`seeds` of an evaluation is not a setting of it, but is in the file of a search that is used again."""
    from aquasurf_ray.cli import evaluate
    from aquasurf_ray.driver.verbs import evaluate as verb

    calls = []
    monkeypatch.setattr(
        verb,
        "start_evaluation",
        lambda *given, **options: calls.append((given, options)) or SimpleNamespace(name="one"),
    )
    for name in ("print_evaluation", "print_next_steps"):
        monkeypatch.setattr(evaluate, name, lambda *given: None)
    file = tmp_path / "run.yaml"
    file.write_text("task: digits\nseeds: 4\nworkers: 1\n")
    for more in ([], ["--seeds", "2", "--workers", "3"]):
        assert main(["evaluate", "relu(x)", "--config", str(file), *more]) == 0
    assert [
        (config.task, functions, config.workers, options["seeds"]) for (config, functions, _), options in calls
    ] == [
        ("digits", ["relu(x)"], 1, 4),
        ("digits", ["relu(x)"], 3, 2),
    ]


NEW_SETTING = """
    patience: int = setting(7, Panel.TRAINING, "Number of epochs to wait.", ge=1, earlier=7)
"""
WITH_NEW_SETTING = """
import importlib.util, json, sys
from pathlib import Path

name = "aquasurf_ray.driver.settings.models"
spec = importlib.util.find_spec(name)
line = "class RunIdentity(BaseModel):"
head, found, fields = Path(spec.origin).read_text().partition(line)
assert found
sys.modules[name] = importlib.util.module_from_spec(spec)
exec(compile(head + line + {setting!r} + fields, spec.origin, "exec"), vars(sys.modules[name]))

from aquasurf_ray.cli.main import main

small = ["--space", "space.yaml", "--evaluations", "1", "--candidates", "1", "--workers", "1", "--features", "outputs"]
Path("space.yaml").write_text("unary: [relu, tanh]\\nschemas: [unary(unary(x))]\\n")
Path("run.yaml").write_text("patience: 9\\n")
codes = [
    main(["search", "--help"]),
    main(["search", "digits", *small, "--name", "flag", "--patience", "8", "--json"]),
    main(["status", "flag", "--json"]),
    main(["query", "SELECT config FROM runs", "--format", "csv"]),
    main(["search", "digits", *small, "--name", "flag", "--config", "run.yaml"]),
    main(["search", "digits", "--patience", "0"]),
    main(["search", "digits", "--patiense", "8"]),
]
print(codes)
"""


@pytest.mark.slow
def test_a_new_setting_is_one_line_of_the_model(tmp_path):
    """The line is put into the model's source; nothing else is changed."""
    program = WITH_NEW_SETTING.format(setting=NEW_SETTING)
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True)
    assert done.stdout.splitlines()[-1:] == ["[0, 0, 0, 0, 2, 2, 2]"], done.stdout + done.stderr
    assert re.search(r"^  --patience N +Number of epochs to wait. Default: 7.$", done.stdout, re.M)
    decoder, documents = json.JSONDecoder(), []
    for begin in (found.start() for found in re.finditer(r"^\{", done.stdout, re.M)):
        documents.append(decoder.raw_decode(done.stdout[begin:])[0])
    assert [document["settings"]["patience"] for document in documents] == [8, 8]
    assert '""patience"":8' in done.stdout, "the stored configuration, in CSV"
    errors = [line for line in done.stderr.splitlines() if line.startswith("aquasurf:")]
    assert re.search(r"run 'flag' .*patience 8 -> 9", errors[0])
    assert errors[1] == "aquasurf: patience must be at least 1, got 0"
    assert "--patience" in errors[2], "what a typo is offered"
