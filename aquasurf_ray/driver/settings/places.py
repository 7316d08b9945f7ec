"""Where a run keeps its database, its data sets and its checkpoints."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from aquasurf_ray.driver.settings.defaults import STORAGE
from aquasurf_ray.tasks.data_sets import DATA_FOLDER

if TYPE_CHECKING:
    from aquasurf_ray.driver.settings.models import SearchConfig  # loads Pydantic's models, which `top` does not need


def store_url(given: str | None) -> str:
    """Return the database to use: the given one, or AQUASURF_STORE's, or a SQLite file in the working folder."""
    return given or os.environ.get("AQUASURF_STORE") or "sqlite:///aquasurf.db"


def data_folder(config: SearchConfig) -> str | None:
    """Return the folder of data sets, the same for the driver and all workers: the configured one, or AQUASURF_DATA."""
    given = config.data or os.environ.get(DATA_FOLDER)
    return str(Path(given).expanduser().absolute()) if given else None


def storage_folder(config: SearchConfig) -> str:
    """Return the folder or URI of epoch checkpoints: the configured one, or `STORAGE` in the working folder."""
    return config.storage or str(Path.cwd() / STORAGE)
