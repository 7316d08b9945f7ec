"""The command `search`: search for an activation function."""

from __future__ import annotations

from typing import Any

from aquasurf_ray.cli.terminal.commands import Commands
from aquasurf_ray.cli.terminal.progress import progress
from aquasurf_ray.cli.terminal.run_result import config_of, print_result
from aquasurf_ray.cli.terminal.settings import with_settings
from aquasurf_ray.cli.terminal.shared_parameters import AsJson

app = Commands()


@app.command(epilog="Example: aquasurf search digits --evaluations 40 --workers 2")
@with_settings("SearchConfig", argument="task")
def search(settings: dict[str, Any], as_json: AsJson = False) -> None:
    """Search for an activation function for a task.

    Trains the baselines, computes the Fisher spectra of the candidates, and trains the functions that the surrogate
    finds most promising. If a run with this name and configuration exists, it is resumed.
    """
    config = config_of(settings, "aquasurf search digits")
    # PyTorch and Ray take seconds to load, so only once the settings are known to be right.
    from aquasurf_ray.driver.verbs.search import start_search

    with progress(as_json) as callbacks:
        result = start_search(config, config.task, callbacks=callbacks)
    print_result(result, config.store, as_json)
