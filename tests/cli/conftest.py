"""A store for the commands that only look."""

from __future__ import annotations

import pytest
from made_run import make_run

from store import Store


@pytest.fixture(scope="session")
def url(tmp_path_factory):
    """The URL of a store with a made run."""
    url = f"sqlite:///{tmp_path_factory.mktemp('looked-at')}/store.db"
    with Store.open(url) as store:
        make_run(store)
    return url
