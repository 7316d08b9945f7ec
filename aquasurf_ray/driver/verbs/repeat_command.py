"""The command that repeats a run, from its stored configuration: every option that differs from its default.

The stored configuration of a run other than a search has more settings than its command accepts: only the conditions of
training are repeated. URLs and addresses are left out: they may contain a password, and do not change the result.
"""

from __future__ import annotations

import shlex
from typing import Any

from aquasurf_ray.analysis.benchmarks.parquet import installed_benchmarks
from aquasurf_ray.driver.settings.models import CONDITIONS, SearchConfig
from aquasurf_ray.store import Run

# Written by their commands below (task, space, evaluations), or without influence on results (name, store, address).
_NOT_REPEATED = frozenset({"task", "store", "address", "name", "space", "evaluations"})
_OF_TRAINING = CONDITIONS - {"seeds", "confirm", "until"} | {"modules"}


def command_of(run: Run) -> str:
    """Return the command that repeats the run, quoted for a shell."""
    return shlex.join(["aquasurf", *_words(run)])


def _words(run: Run) -> list[str]:
    config = run.config
    task, seeds = str(config["task"]), ["--seeds", str(config.get("seeds", 1))]
    if run.kind == "import":
        return ["import", _imported(str(config["file"])), "--task", task]
    if run.kind == "confirm":
        return ["confirm", str(config["confirms"]), *seeds]
    if run.kind == "evaluate":
        options = _options(config, _OF_TRAINING | {"health_gate"})
        return ["evaluate", *config["functions"], "--task", task, *seeds, *options]
    space = ["--space", str(config["space"])]
    if run.kind == "build":
        fishers = ",".join(config.get("fishers") or ())
        fisher = ["--fisher", fishers] if fishers not in ("", "sampled") else []
        return ["benchmark", "build", task, *space, *seeds, *fisher, *_options(config, _OF_TRAINING)]
    options = _options(config, frozenset(SearchConfig.model_fields))
    return ["search", task, *space, "--evaluations", str(run.budget), *options]


def _imported(file: str) -> str:
    """Return the file of an import, or the name of an installed benchmark."""
    # An installed benchmark is known by its name; its path differs from installation to installation.
    name = file.removesuffix(".parquet")
    return name if name in installed_benchmarks() else file


def _options(config: dict[str, Any], repeated: frozenset[str]) -> list[str]:
    fields = SearchConfig.model_fields
    words: list[str] = []
    for key in (key for key in config if key in fields and key in repeated - _NOT_REPEATED):
        value, default = config[key], fields[key].default
        # JSON has no tuples, so a stored tuple is a list.
        if value is None or value == (list(default) if isinstance(default, tuple) else default):
            continue
        values = value if isinstance(value, list) else [value]
        words += [word for item in values for word in (f"--{key.replace('_', '-')}", str(item))]
    return words
