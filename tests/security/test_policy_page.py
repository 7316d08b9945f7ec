"""SECURITY.md names tests that are there."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
TEXT = (ROOT / "SECURITY.md").read_text()


def test_every_answer_names_a_test_that_is_there():
    rows = [line for line in TEXT.splitlines() if line.startswith("| ") and not line.startswith(("| threat", "| ---"))]
    assert len(rows) > 10
    for row in rows:
        threat, answer, tried = (cell.strip() for cell in row.strip("|").split(" | "))
        assert threat
        assert answer
        assert tried
    named = re.findall(r"`(tests/[\w/]+\.py)`", TEXT)
    assert len(set(named)) > 8
    for name in named:
        assert (ROOT / name).exists(), name


def test_it_names_no_address_to_write_to():
    assert not re.search(r"[\w.]+@[\w.]+\.(com|org|net|io)\b", TEXT)
