"""The data of a run that its report and its pictures show."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aquasurf_ray.cli.terminal.open_store import open_store, store_option

if TYPE_CHECKING:
    import aquasurf_ray.store as stored
    from aquasurf_ray.analysis.studies.findings import Findings


def findings_of(name: str, store: str | None) -> Findings:
    """Return the findings of a run by its name."""
    from aquasurf_ray.analysis.studies.findings import read_findings

    with open_store(store) as opened:
        return read_findings(opened, name, repeat_command(opened, name, store), store_option(store))


def repeat_command(opened: stored.Store, name: str, store: str | None) -> str:
    """Return what repeats a run, after registering the run's own operators, whose curves are drawn."""
    from aquasurf_ray.driver.user_modules import register_operators_of
    from aquasurf_ray.driver.verbs.repeat_command import command_of

    run = opened.run(name)
    register_operators_of(run)
    return command_of(run, store_option(store))
