"""Rows that a script of evidence keeps as soon as it knows them, so that it may be killed at any time and resumes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

Row = dict[str, Any]


class KeptRows:
    """The rows of a file so far, one JSON document a line; the file need not exist yet."""

    def __init__(self, file: Path) -> None:
        self._file = file
        lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
        self.rows: list[Row] = [json.loads(line) for line in lines]

    def add(self, row: Row) -> None:
        """Keep another row."""
        self.rows.append(row)
        with self._file.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
