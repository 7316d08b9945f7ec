"""The command `resume`: continue a run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aquasurf_ray.cli.terminal.commands import Commands
from aquasurf_ray.cli.terminal.open_store import open_store
from aquasurf_ray.cli.terminal.progress import progress
from aquasurf_ray.cli.terminal.run_result import print_result
from aquasurf_ray.cli.terminal.settings import with_settings
from aquasurf_ray.cli.terminal.shared_parameters import AsJson, RunName

if TYPE_CHECKING:
    import aquasurf_ray.store as stored

app = Commands()


@app.command(epilog="Example: aquasurf resume digits-1 --evaluations 80")
@with_settings("RunConditions", defaults=False)
def resume(name: RunName, settings: dict[str, Any], as_json: AsJson = False) -> None:
    """Resume a run after an interruption, or with a larger budget.

    Settings that are not given keep the run's values. The configuration file may be the one that the run was started
    with, but what identifies the run cannot change.
    """
    from aquasurf_ray.driver.settings.reading import make_config
    from aquasurf_ray.driver.settings.stored_config import stored_values

    store = settings.pop("store", None)
    with open_store(store) as opened:
        run = opened.run(name)
        changes = _without_settled(settings, run)
        # The store as it was named now: its file may have moved since the run was created.
        config = make_config({**stored_values(run), **changes, "store": store})
        # PyTorch and Ray take seconds to load, so only once the settings are known to be right.
        from aquasurf_ray.driver.verbs.resume import resume_run

        with progress(as_json) as callbacks:
            result = resume_run(opened, run, config, changes, callbacks=callbacks)
    print_result(result, store, as_json)


def _without_settled(settings: dict[str, Any], run: stored.Run) -> dict[str, Any]:
    """Return the settings without the task and modules, which a configuration file may repeat but not change.

    The driver compares the other settings. A run has the modules of its configuration and those of its space.
    """
    from aquasurf_ray.driver.errors import BadUse

    settled = {key: settings[key] for key in ("task", "modules") if key in settings}
    modules = settled.get("modules") or []
    before = run.config | {"modules": modules if set(modules) <= set(run.config.get("modules") or ()) else None}
    changed = [key for key, value in settled.items() if (value or None) != (before.get(key) or None)]
    if changed:
        raise BadUse(f"run '{run.name}' cannot change its {', '.join(changed)}; start another run instead")
    return {key: value for key, value in settings.items() if key not in settled}
