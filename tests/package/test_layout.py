"""Tests are found by the folder of what they test: tests/ROOM/PART/test_MODULE_OR_BEHAVIOR.py."""

from __future__ import annotations

import os
from pathlib import Path

ROOT = Path(__file__).parents[2]
TESTS = ROOT / "tests"
OF_NO_ROOM = {"benchmarks", "deploy", "docs", "faults", "gpu", "package", "security"}
WITH_SHARED_MODULES = {"deploy", "docs", "faults", "fixtures", "programs"}


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


def test_no_folder_has_more_than_twenty_files_side_by_side_but_the_commands() -> None:
    rooms = [ROOT / "aquasurf_ray" / package for package in packages() if package != Path("cli")]
    others = [ROOT / "benchmarks", TESTS, *(path for path in (ROOT / "benchmarks", TESTS) for path in path.rglob("*/"))]
    files = {folder: [f for f in folder.glob("*.py") if f.name != "__init__.py"] for folder in (*rooms, *others)}
    assert {str(folder): len(found) for folder, found in files.items() if len(found) > 20} == {}


def test_each_command_has_a_file_or_a_folder_of_its_name() -> None:
    from typer.main import get_command

    from aquasurf_ray.cli.main import app

    files = {path.stem for path in (ROOT / "aquasurf_ray/cli").iterdir()}
    names = {name.replace("-", "_") for name in get_command(app).commands}  # type: ignore[attr-defined]
    assert names - {"import"} <= files, "`import` is a word of Python: its file is import_file.py"


def test_what_tests_share_is_in_fixtures_and_what_they_start_in_programs() -> None:
    shared = [path for path in tracked() if not path.name.startswith("test_") and path.name != "conftest.py"]
    assert {path.parts[0] for path in shared} == WITH_SHARED_MODULES
