"""The database that a command looks at, which must be there, and how to name it in what is typed next."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import aquasurf_ray.store as stored


def open_store(url: str | None) -> stored.Store:
    """The store that must exist already: looking creates nothing."""
    from aquasurf_ray.driver.config import store_url
    from aquasurf_ray.store import Store

    return Store.open(store_url(url), create=False)


def store_option(store: str | None) -> str:
    """What to add to a command that looks at the same database; a URL with a password is not repeated."""
    if store is None:
        return ""
    with open_store(store) as opened:
        shown = opened.safe_url
    return f" --store {shlex.quote(shown)}" if "***" not in shown else " --store (the same URL)"
