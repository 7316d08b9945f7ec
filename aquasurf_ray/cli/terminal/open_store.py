"""The existing database that a command reads, and how to name it in a command that is suggested."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import aquasurf_ray.store as stored


def open_store(url: str | None) -> stored.Store:
    """Open a store that must exist: reading creates nothing."""
    from aquasurf_ray.driver.settings.places import store_url
    from aquasurf_ray.store import Store

    return Store.open(store_url(url), create=False)


def store_option(store: str | None) -> str:
    """Return the option that makes a command use the same database; a URL with a password is not repeated."""
    if not store:
        return ""
    from aquasurf_ray.store import parse_url

    shown = parse_url(store).safe
    # The stars stand for a password, and a command with stars would not work.
    return f" --store {shlex.quote(shown)}" if "***" not in shown else " --store (the same URL)"
