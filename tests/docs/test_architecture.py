"""docs/architecture.md is true: its files and modules exist, and its table of rooms is what the imports say."""

from __future__ import annotations

import re
import tomllib
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest
from our_imports import ROOT, our_imports
from pages import all_blocks

PAGE = (ROOT / "docs/architecture.md").read_text()
PROSE = re.sub(r"^```.*?^```", "", PAGE, flags=re.MULTILINE | re.DOTALL)
QUOTED = re.findall(r"`([^`\n]+)`", PROSE)
BLOCKS = [block.text for block in all_blocks("docs/architecture.md")]
STARTS = (ROOT, ROOT / "aquasurf_ray", ROOT / "docs")  # where the page's paths begin
SUFFIXES = "py|md|toml|txt|yaml|parquet|ipynb"
PATH = re.compile(rf"(?:[\w.*-]+/)+(?:[\w.*-]*\w)?|[\w*-]+\.(?:{SUFFIXES})\b")
LIBRARIES = {"torch": "PyTorch", "ray": "Ray", "sqlalchemy": "SQLAlchemy"}


def exists(path: str, starts: tuple[Path, ...] = STARTS) -> bool:
    return any(next(start.glob(path.rstrip("/")), None) for start in starts)


def module_exists(name: str) -> bool:
    """True for a module, and for a name that a module defines or imports."""
    parts = name.split(".")
    folder = ROOT.joinpath(*parts)
    if folder.with_suffix(".py").exists() or (folder / "__init__.py").exists():
        return True
    parent = ROOT.joinpath(*parts[:-1])
    sources = (parent.with_suffix(".py"), parent / "__init__.py")
    return any(re.search(rf"\b{parts[-1]}\b", source.read_text()) for source in sources if source.exists())


def paths_of_tree(text: str) -> Iterator[tuple[str, tuple[Path, ...]]]:
    """The paths in a drawn tree, each with the folders that it may be in: those above it by indentation."""
    above: list[tuple[int, Path]] = []
    for line in text.splitlines():
        indent = len(line) - len(line.lstrip())
        above = [(depth, folder) for depth, folder in above if depth < indent]
        inside = above[-1][1] if above else ROOT
        first, *others = PATH.findall(line) or [""]
        starts = (inside, *STARTS)
        if line.strip().startswith(first) and first.endswith("/"):
            yield first, starts
            above.append((indent, inside / first))
            starts = (inside / first, *starts)
        elif first:
            others.insert(0, first)
        yield from ((other, starts) for other in others)


def test_every_file_that_the_page_names_exists() -> None:
    paths = [text for text in QUOTED if PATH.fullmatch(text)]
    assert len(paths) >= 5
    assert [path for path in paths if not exists(path)] == []


def test_every_module_that_the_page_names_exists() -> None:
    modules = [text for text in QUOTED if re.fullmatch(r"aquasurf_ray(\.\w+)+", text)]
    assert [name for name in modules if not module_exists(name)] == []


def test_every_file_of_the_pages_trees_exists() -> None:
    found = [each for text in BLOCKS for each in paths_of_tree(text)]
    assert len(found) >= 10
    assert [path for path, starts in found if not exists(path, starts)] == []


@pytest.mark.parametrize(
    ("text", "missing"),
    [
        ("aquasurf_ray/\n  driver/  events.py, run/loop.py\n  nowhere/ nothing\n", ["nowhere/"]),
        ("store/  errors.py and lost.py\n", ["lost.py"]),
        ("driver: worker.train -> store.record, and driver/run/lost.py\n", ["driver/run/lost.py"]),
    ],
)
def test_a_path_that_does_not_exist_is_found(text: str, missing: list[str]) -> None:
    assert [path for path, starts in paths_of_tree(text) if not exists(path, starts)] == missing


def test_a_module_that_does_not_exist_is_found() -> None:
    names = ["aquasurf_ray.store.Store", "aquasurf_ray.workers.actor", "aquasurf_ray.driver.nowhere"]
    assert [name for name in names if not module_exists(name)] == names[2:]


def test_the_table_of_rooms_is_what_the_imports_say() -> None:
    rows = re.findall(r"^\| `(\w+)` \| (.*?) \| (.*?) \|$", PAGE, re.MULTILINE)
    table = {room: (set(re.findall(r"`(\w+)`", rooms)), set(re.findall(r"\w+", named))) for room, rooms, named in rows}
    assert table == actual_imports()


def actual_imports() -> dict[str, tuple[set[str], set[str]]]:
    """By room, the rooms that it imports, less the exceptions of the import contract, and which of `LIBRARIES`."""
    rooms = {path.parent.name for path in (ROOT / "aquasurf_ray").glob("*/__init__.py")}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    exceptions = {
        tuple(side.strip().removesuffix("*").removesuffix(".") for side in line.split("->"))
        for line in project["tool"]["importlinter"]["contracts"][0].get("ignore_imports", [])
    }
    found: dict[str, tuple[set[str], set[str]]] = defaultdict(lambda: (set(), set()))
    for each in our_imports():
        _, room, *_ = (*each.importer.split("."), "")
        if room not in rooms:
            continue
        top, other, *_ = (*each.module.split("."), "")
        known, libraries = found[room]
        if top in LIBRARIES:
            libraries.add(LIBRARIES[top])
        if top == "aquasurf_ray" and other in rooms - {room}:
            excused = any(each.importer.startswith(a) and each.module.startswith(b) for a, b in exceptions)
            known |= set() if excused else {other}
    return dict(found)
