"""The command that makes a run once more, from what is stored of it: every option that has not its default value.

No URL and no address is repeated: they may hold a password, and say nothing about the result.
"""

from __future__ import annotations

import shlex
from typing import Any

from aquasurf_ray.driver.config import SearchConfig
from store import Run

_NOT_REPEATED = frozenset({"task", "store", "address", "name", "space", "evaluations"})


def command_of(run: Run) -> str:
    """The command, for a shell."""
    return shlex.join(["aquasurf", *_words(run)])


def _words(run: Run) -> list[str]:
    config = run.config
    seeds = ["--seeds", str(config.get("seeds", 1))]
    if run.kind == "import":
        return ["import", str(config["file"]), "--task", str(config["task"])]
    if run.kind == "confirm":
        return ["confirm", str(config["confirms"]), *seeds]
    options = _options(config, but=frozenset({"seeds"}) if run.kind != "search" else frozenset())
    if run.kind == "evaluate":
        return ["evaluate", *config["functions"], "--task", str(config["task"]), *seeds, *options]
    space = ["--space", str(config["space"])]
    if run.kind == "build":
        return ["benchmark", "build", str(config["task"]), *space, *seeds, *options]
    return ["search", str(config["task"]), *space, "--evaluations", str(run.budget), *options]


def _options(config: dict[str, Any], *, but: frozenset[str]) -> list[str]:
    fields = SearchConfig.model_fields
    words: list[str] = []
    for key in (key for key in config if key in fields and key not in _NOT_REPEATED | but):
        value, default = config[key], fields[key].default
        if value is None or value == (list(default) if isinstance(default, tuple) else default):
            continue
        values = value if isinstance(value, list) else [value]
        words += [word for item in values for word in (f"--{key.replace('_', '-')}", str(item))]
    return words
