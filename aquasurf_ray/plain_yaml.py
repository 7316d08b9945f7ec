"""YAML files that people write or receive: only plain values, of a size that a person would write.

The safe loader refuses tags that construct Python objects. Aliases are refused too: nothing here needs them, and ten
levels of them expand a file of a kilobyte to a billion values.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

LARGEST = 1 << 20  # bytes
DEEPEST = 50  # levels of nesting, far below Python's recursion limit


class _Plain(yaml.SafeLoader):
    """A safe loader that also refuses aliases, and nesting that would exhaust the stack."""

    depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
        if self.check_event(yaml.events.AliasEvent):
            raise _refused("aliases (*name) are not read; write the value out", mark)
        if self.depth == DEEPEST:
            raise _refused(f"values are nested deeper than {DEEPEST}", mark)
        self.depth += 1
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node


def _refused(problem: str, mark: Any = None) -> yaml.YAMLError:
    return yaml.composer.ComposerError(None, None, problem, mark)


def read_yaml(path: Path) -> Any:
    """Return the content of a file.

    Raises:
        OSError, UnicodeDecodeError: the file cannot be read as text.
        yaml.YAMLError: the file is not YAML, or has more than plain values.
    """
    size = path.stat().st_size
    if size > LARGEST:
        raise _refused(f"{size:,} bytes are more than {LARGEST:,}")
    return yaml.load(path.read_text(encoding="utf-8"), _Plain)  # noqa: S506 - a stricter SafeLoader
