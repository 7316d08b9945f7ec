"""A search whose driver was killed resumes in another database, and meets its budget there."""

from __future__ import annotations

import json

import pytest
from live_search import SEARCH, assert_budget_met, n_finished, wait_for

pytestmark = [pytest.mark.faults, pytest.mark.slow, pytest.mark.timeout(300)]


def test_a_killed_search_is_merged_into_another_database_and_resumed_there(folder, start):
    driver = start(*SEARCH, "--config", "short.yaml")
    wait_for(lambda: n_finished(folder) >= 2)
    driver.kill()
    driver.communicate()
    before = n_finished(folder)
    for file in folder.glob("aquasurf.db*"):
        file.rename(folder / file.name.replace("aquasurf", "laptop"))

    merge = start("merge", "sqlite:///laptop.db", "--json")
    shown, told = merge.communicate()
    assert merge.returncode == 0, told
    assert [run["became"] for run in json.loads(shown)["runs"]] == ["new"]
    assert n_finished(folder) == before

    resumed = start("resume", "one", "--config", "short.yaml")
    _, told = resumed.communicate()
    assert resumed.returncode == 0, told
    assert_budget_met(folder)
