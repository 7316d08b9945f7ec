"""Tests are found by the folder of what they test: tests/ROOM/PART/test_MODULE_OR_BEHAVIOR.py."""

from __future__ import annotations

import os
from pathlib import Path

ROOT = Path(__file__).parents[2]
TESTS = ROOT / "tests"
OF_NO_ROOM = {"benchmarks", "deploy", "docs", "faults", "gpu", "package", "security"}
WITH_SCRIPTS = {"deploy", "docs", "faults"}  # programs that their tests start as processes


def tracked() -> list[Path]:
    return [path.relative_to(TESTS) for path in TESTS.rglob("*.py") if "__pycache__" not in path.parts]


def packages() -> set[Path]:
    """The rooms and their parts, as paths; the walk follows the links to workers, surrogate and store."""
    found = os.walk(ROOT / "aquasurf_ray", followlinks=True)
    return {Path(folder).relative_to(ROOT / "aquasurf_ray") for folder, _, files in found if "__init__.py" in files}


def test_every_test_file_is_in_the_folder_of_a_room_or_of_a_part_of_one() -> None:
    files = [path for path in tracked() if path.name.startswith("test_")]
    assert len(files) > 100
    rooms = packages() - {Path()}
    misplaced = [str(path) for path in files if path.parts[0] not in OF_NO_ROOM and path.parent not in rooms]
    assert misplaced == []


def test_what_tests_share_is_in_fixtures() -> None:
    shared = [path for path in tracked() if not path.name.startswith("test_") and path.name != "conftest.py"]
    assert {path.parts[0] for path in shared} == {"fixtures"} | WITH_SCRIPTS
