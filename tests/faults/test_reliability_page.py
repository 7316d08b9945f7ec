"""The table of docs/reliability.md has every case with its counts, and every case has a test."""

from __future__ import annotations

from fault_cases import CASES
from reliability import PAGE, Case, read, record, table, with_table

ROOT = PAGE.parents[1]


def rows():
    lines = PAGE.read_text().partition("| fault | how")[2].partition("\n\n")[0].splitlines()
    found = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines if line.startswith("| ")]
    return [row for row in found if not row[0].startswith("---")]


def test_every_case_is_in_the_table_and_held_every_time():
    found = {row[0]: row for row in rows()}
    assert list(found) == [case.what for case in CASES]
    for row, case in zip(found.values(), CASES, strict=True):
        _, how, holds, injected, held = row
        assert (how, holds) == (case.how, case.holds)
        assert int(injected) == int(held)


def test_every_case_has_a_test_that_names_it():
    marked = "".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    assert [case.key for case in CASES if f'reliability("{case.key}")' not in marked] == []


def test_a_table_counts_what_held(tmp_path):
    case, file = Case("k", "what", "how", "holds"), tmp_path / "build" / "faults.jsonl"
    record(file, "k", "t.py::a", "passed", 10)
    record(file, "k", "t.py::b", "failed", 3)
    record(file, "other", "t.py::c", "passed", 1)
    made = table((case,), read(file))
    assert made.splitlines()[2:] == ["| what | how | holds | 13 | 12 |"]
    page = "before\n<!-- table: make reliability -->\nold\n<!-- end of the table -->\nafter\n"
    assert with_table(page, made) == page.replace("old", made)
