"""Examples in docstrings, which stand there as Python's prompt shows them, become blocks of code in the site."""

from __future__ import annotations

from typing import Any

import griffe


class FencedExamples(griffe.Extension):
    """An extension of griffe, which reads the docstrings for mkdocstrings."""

    def on_instance(self, *, obj: Any, **_: Any) -> None:
        if obj.docstring is not None:
            obj.docstring.value = fenced(obj.docstring.value)


def fenced(docstring: str) -> str:
    """The docstring with a fence around every example, from its first prompt to the next empty line."""
    lines: list[str] = []
    inside = ""
    for line in [*docstring.splitlines(), ""]:
        indent = line[: len(line) - len(line.lstrip())]
        if not inside and line.lstrip().startswith(">>> "):
            inside = f"{indent}```"
            lines += ["", f"{inside}python"]
        elif inside and not line.strip():
            lines += [inside]
            inside = ""
        lines.append(line)
    return "\n".join(lines[:-1])
