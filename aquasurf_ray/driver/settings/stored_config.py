"""The settings with which a run was created, as its row in the store has them. Nothing heavy is imported here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aquasurf_ray.driver.errors import BadUse
from aquasurf_ray.driver.settings.models import LATER, SearchConfig
from aquasurf_ray.driver.settings.reading import make_config

if TYPE_CHECKING:
    from aquasurf_ray.store import Run


def stored_values(run: Run) -> dict[str, Any]:
    """Return the settings with which the run was created, for `make_config`. Settings that are newer than the run have
    the values that describe how the earlier version behaved.

    Raises:
        BadUse: the run was imported, so it has no such settings.
    """
    if run.kind == "import":
        raise BadUse(f"run '{run.name}' was imported: its functions were trained elsewhere, and it trains none")
    return {**LATER, **{key: value for key, value in run.config.items() if key in SearchConfig.model_fields}}


def stored_config(run: Run) -> SearchConfig:
    """Return the configuration with which the run was created; see `stored_values`."""
    return make_config(stored_values(run))
