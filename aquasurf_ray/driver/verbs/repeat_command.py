"""What repeats a run, from its stored configuration: its command, or the Python call where no command knows its task.

Every option that differs from its default is given. The stored configuration of a run other than a search has more
settings than its command accepts: only the conditions of training are repeated. URLs and addresses are left out: they
may contain a password, and do not change the result.
"""

from __future__ import annotations

import shlex
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

from aquasurf_ray.analysis.benchmarks.parquet import installed_benchmarks
from aquasurf_ray.analysis.studies.run_origin import DRAWS, NETWORK, STUDY, TRANSFERRED, has_task, knows_task
from aquasurf_ray.driver.settings.models import ConfirmConditions, SearchConfig, TrainingConditions
from aquasurf_ray.store import Run

# Written by their commands below (task, space, evaluations), or without influence on results (name, store, address).
_NOT_REPEATED = frozenset({"task", "store", "address", "name", "space", "evaluations"})
_OF_TRAINING = frozenset(TrainingConditions.model_fields) | {"modules"}
# A confirmation that ends a search has what is left of its time budget.
_OF_CONFIRMATION = frozenset(
    {*TrainingConditions.model_fields, *ConfirmConditions.model_fields, "learning_rates", "tune"} - {"time_budget"}
)
_OF_TUNE = "# a run of Ray Tune: the program of its Tuner repeats it"


@dataclass(frozen=True)
class _Repeat:
    """What repeats a run, once for the shell and once for Python: `command` and `call` with their arguments, and the
    options of both."""

    command: list[str]
    call: str
    arguments: list[str]
    options: dict[str, Any] = field(default_factory=dict)
    names_a_run: bool = False


def command_of(run: Run, store_option: str = "") -> str:
    """Return the command that repeats the run, quoted for a shell, or else Python code.

    Args:
        store_option: the option that makes a command use the run's store, for commands that look up another run there.
    """
    config = run.config
    if DRAWS in config:
        return _OF_TUNE
    # A study of a task with a number of evaluations is what a search of the task is.
    if STUDY in config or (run.kind == "search" and run.budget is None):
        return _study(run)
    if run.kind == "import":
        return _import(config)
    repeat = _repeat(run)
    if not knows_task(config):
        module = "aquasurf_ray" if repeat.call == "search" else "aquasurf_ray.driver"
        return (
            f"# in Python, where task is the Task that the run was started with\nfrom {module} import {repeat.call}\n"
            f"{_call(repeat.call, repeat.arguments, repeat.options)}"
        )
    command = shlex.join(["aquasurf", *repeat.command, *_flags(repeat.options)])
    return command + store_option if repeat.names_a_run else command


def _repeat(run: Run) -> _Repeat:
    config, task = run.config, str(run.config["task"])
    top = {"top": config["top"]} if "top" in config else {}
    seeds = {"seeds": config.get("seeds", 1)}
    if run.kind == "confirm":
        # Without these, it would have the judge and the seeds of the run that it confirms.
        always = {"judge", "rate_seeds"} if "recipe_changes" in config else {"judge"}
        options = _options(config, _OF_CONFIRMATION, always)
        of = str(config["confirms"])
        return _Repeat(["confirm", of], "confirm", [repr(of), "task=task"], top | seeds | options, names_a_run=True)
    if run.kind == "evaluate" and TRANSFERRED in config:
        source, options = str(config[TRANSFERRED]), _options(config, _OF_TRAINING)
        command = ["transfer", "--from", source, "--to", task]
        return _Repeat(command, "transfer", [repr(source), "task"], top | seeds | options, names_a_run=True)
    if run.kind == "evaluate":
        functions, options = list(config["functions"]), _options(config, _OF_TRAINING | {"health_gate"})
        return _Repeat(["evaluate", *functions, "--task", task], "evaluate", [repr(functions), "task"], seeds | options)
    space = {"space": str(config["space"])}
    if run.kind == "build":
        fishers = ",".join(config.get("fishers") or ())
        fisher = {"fisher": fishers} if fishers not in ("", "sampled") else {}
        options = space | seeds | fisher | _options(config, _OF_TRAINING)
        return _Repeat(["benchmark", "build", task], "build_benchmark", ["task"], options)
    options = space | {"evaluations": run.budget} | _options(config, SearchConfig.model_fields)
    return _Repeat(["search", task], "search", ["task"], options)


def _study(run: Run) -> str:
    """Return the call that opens a study like this one; its trainings are in the user's own loop."""
    config, told = run.config, run.config.get(STUDY, {})
    options: dict[str, Any] = {key: told[key] for key in ("direction", "metric") if key in told}
    if has_task(config):
        options |= {"features" if told else "task": str(config["task"])}
    if told and config.get("reference"):
        options["reference"] = config["reference"]
    if not told and config["features"] != "both":
        options["features"] = config["features"]
    options |= {} if run.budget is None else {"evaluations": run.budget}
    options |= {} if config["space"] == "three-node" else {"space": config["space"]}
    options |= _options(config, SearchConfig.model_fields.keys() - {"features"})
    where, given = "in Python, in your own loop, which asks and tells", [repr(run.name)]
    if config.get(NETWORK):
        given += ["features=network", "examples=examples"]
        where += "; give the network, its examples and its objective"
    elif has_task(config) and not knows_task(config):
        where += f"; for '{config['task']}' give the Task, or the network and its examples"
    call = _call("Study", given, options)
    return f"# {where}\nfrom aquasurf_ray import Study\nstudy = {call}"


def _import(config: dict[str, Any]) -> str:
    words = ["aquasurf", "import", _imported(str(config["file"]))]
    modules = _flags(_options(config, {"modules"}))
    if knows_task(config):
        return shlex.join([*words, "--task", str(config["task"]), *modules])
    # The run has the task's own name, and not the package.module:function that the command was given.
    label = f"# TASK is the package.module:function of the task '{config['task']}'"
    return f"{label}\n# {shlex.join([*words, *modules])} --task TASK"


def _imported(file: str) -> str:
    """Return the file of an import, or the name of an installed benchmark."""
    # An installed benchmark is known by its name; its path differs from installation to installation.
    name = file.removesuffix(".parquet")
    return name if name in installed_benchmarks() else file


def _options(
    config: dict[str, Any], repeated: Collection[str], always: Collection[str] = frozenset()
) -> dict[str, Any]:
    """Return the settings that differ from their defaults, and those `always` repeated."""
    fields = SearchConfig.model_fields
    found: dict[str, Any] = {}
    for key in (key for key in config if key in fields and key in repeated and key not in _NOT_REPEATED):
        value, default = config[key], fields[key].default
        # JSON has no tuples, so a stored tuple is a list.
        is_default = value == (list(default) if isinstance(default, tuple) else default)
        if value is not None and (key in always or not is_default):
            found[key] = value
    return found


def _flags(options: dict[str, Any]) -> list[str]:
    words: list[str] = []
    for key, value in options.items():
        values = value if isinstance(value, list) else [value]
        if key == "learning_rates":
            values = [",".join(f"{rate:.12g}" for rate in values)]
        words += [word for item in values for word in (f"--{key.replace('_', '-')}", str(item))]
    return words


def _call(function: str, arguments: list[str], options: dict[str, Any]) -> str:
    return f"{function}({', '.join([*arguments, *(f'{key}={value!r}' for key, value in options.items())])})"
