"""Reads the pages of the documentation: their blocks of code, the marks on these, and the commands they name.

A mark is a comment of HTML, which readers do not see, right before a block:

    <!-- not run: REASON -->             it cannot run here; tests list it with its reason
    <!-- run as: COMMANDS -->            run these in its place
    <!-- shorter: A => B; C => D -->     run it with B in the place of A
    <!-- file: NAME -->                  it is a file of this name; so is a block of Python that begins with `# NAME.py`

`<!-- run first: COMMANDS -->` stands alone: what a reader of the page has done before. Blocks of `text` are no code.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from markdown_it import MarkdownIt

ROOT = Path(__file__).parent.parent
PAGES = (
    "README.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    *(str(page.relative_to(ROOT)) for page in sorted(ROOT.glob("docs/*.md"))),
)
MARKS = ("not run", "run as", "shorter", "file", "run first")
_MARK = re.compile(rf"<!--\s*({'|'.join(MARKS)}):\s*(.*?)\s*-->", re.DOTALL)


@dataclass(frozen=True)
class Block:
    """A block of code, or what is to be run first. `line` is the number of its first line in the page."""

    page: str
    line: int
    language: str
    text: str
    marks: dict[str, str] = field(default_factory=dict)

    @property
    def place(self) -> str:
        return f"{self.page}:{self.line}"

    @property
    def file(self) -> str | None:
        """The name of the file that the block is, if it is one."""
        named = re.match(r"# (\w+\.py)\n", self.text) if self.language == "python" else None
        return named[1] if named else self.marks.get("file")

    @property
    def to_run(self) -> str:
        """The text with what the marks say."""
        text = self.marks.get("run as", self.text)
        for change in filter(None, self.marks.get("shorter", "").split(";")):
            long, short = (part.strip() for part in change.split("=>"))
            assert long in text, f"{self.place}: there is no {long} to shorten"
            text = text.replace(long, short)
        return text


@lru_cache
def all_blocks(page: str) -> tuple[Block, ...]:
    """The blocks of code of a page in order, fenced or indented."""
    return tuple(parsed((ROOT / page).read_text(encoding="utf-8"), page))


def parsed(text: str, page: str) -> list[Block]:
    found: list[Block] = []
    marks: dict[str, str] = {}
    for token in MarkdownIt("commonmark").parse(text):
        line = token.map[0] + 1 if token.map else 0
        if token.type == "html_block":
            said = dict(_MARK.findall(token.content))
            first = said.pop("run first", None)
            if first is not None:
                found.append(Block(page, line, "bash", first + "\n", {"run first": first}))
            marks = marks | said
        elif token.type in ("fence", "code_block"):
            found.append(Block(page, line, token.info.strip(), token.content, marks))
            marks = {}
        else:
            assert not marks, f"{page}:{line}: a mark stands before no block: {marks}"
    return found


def blocks(page, language):
    """The fenced blocks of a language, in order."""
    return [b.text for b in all_blocks(page) if b.language == language and "run first" not in b.marks]


def commands(page):
    """Every `aquasurf ...` line of a page, as its words; what it is for may follow after two spaces."""
    lines = "".join(blocks(page, "")).splitlines()
    return [shlex.split(without_words(line)) for line in lines if line.startswith("aquasurf ")]


def without_words(line):
    """A command without what it is for."""
    return line.partition("  ")[0]


def commands_in_text(page):
    """Every `aquasurf ...` within a page's sentences that names a command, as its words."""
    return [shlex.split(found) for found in re.findall(r"`(aquasurf [a-z][^`\n]*)`", (ROOT / page).read_text())]


def aquasurf(*arguments, folder):
    """What the command prints, in a process of its own."""
    environment = {key: value for key, value in os.environ.items() if key != "AQUASURF_STORE"}
    done = subprocess.run(
        [sys.executable, "-m", "aquasurf_ray", *arguments], cwd=folder, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
