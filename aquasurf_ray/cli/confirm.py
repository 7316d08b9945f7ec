"""The command `confirm`: retrain the best functions of a run with additional seeds."""

from __future__ import annotations

from typing import Any

from aquasurf_ray.cli.terminal.commands import Commands
from aquasurf_ray.cli.terminal.confirmation import print_confirmation
from aquasurf_ray.cli.terminal.options import AsJson, RunName, Top
from aquasurf_ray.cli.terminal.progress import progress
from aquasurf_ray.cli.terminal.settings import with_settings

app = Commands()


@app.command(epilog="Example: aquasurf confirm digits-1 --top 5 --seeds 5")
@with_settings("TrainingConditions", "seeds", defaults=False)
def confirm(name: RunName, settings: dict[str, Any], top: Top = 5, as_json: AsJson = False) -> None:
    """Retrain the best functions of a run with more seeds: real gain or luck?

    Trains them and the baselines with additional seeds (5 by default), and shows how much of their lead remains. The
    seed that the functions were selected on is left out, since the best of many noisy trainings is partly luck.
    Settings that are not given keep the run's values.
    """
    from aquasurf_ray.driver import confirm as start

    with progress(as_json) as callbacks:
        result = start(name, top=top, callbacks=callbacks, **settings)
    print_confirmation(result.name, settings.get("store"), as_json)
