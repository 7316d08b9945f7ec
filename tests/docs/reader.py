"""Somebody who does what a page says, block by block, in an empty folder.

Commands run in Bash, in the order of the page. Blocks of Python share one process, so that what one defines the next
one knows; files are written, and imported there if they are Python, or run if they are scripts. `aquasurf` is
`small_aquasurf.py`, the real command with small numbers.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Self

from pages import ROOT, Block, without_words

SHELL = ("", "bash", "sh")
FILES = ("yaml", "toml", "json", "ini")
PYTHON = """
import json, sys
answers = sys.stdout
sys.stdout = sys.stderr
names = {"__name__": "__main__"}
for order in sys.stdin:
    place, text = json.loads(order)
    exec(compile(text, place, "exec"), names)
    sys.stderr.flush()
    print("done", file=answers, flush=True)
"""


class PageFailed(AssertionError):
    """A block did not do what the page says; tells where, and what was printed."""


class Reader:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._log = folder.parent / f"{folder.name}-python.log"
        self._python: subprocess.Popen[str] | None = None
        self._environment = _environment(folder)
        shutil.copytree(ROOT / "docs", folder / "docs", ignore=shutil.ignore_patterns("*.png", "*.svg"))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._python is not None:
            self._python.communicate()

    def follow(self, block: Block) -> None:
        """Does what a block says. Raises PageFailed if that fails."""
        if block.file is not None:
            (self.folder / block.file).write_text(block.to_run)
            if '__name__ == "__main__"' in block.text:
                self._in_bash(block, f"python {block.file}")
            elif block.file.endswith(".py"):
                self._in_python(block, f"import {block.file.removesuffix('.py')}")
        elif block.language == "python":
            self._in_python(block, block.to_run)
        elif block.language in SHELL or "run as" in block.marks:
            self._in_bash(block, block.to_run)
        else:
            raise PageFailed(f"{block.place}: a block of {block.language} has no mark that says what it is")

    def _in_bash(self, block: Block, text: str) -> None:
        lines = [without_words(line) if line.startswith(("aquasurf ", "make ")) else line for line in text.splitlines()]
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-x", "-c", "\n".join(lines)],
            cwd=self.folder,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        if done.returncode:
            raise PageFailed(f"{block.place}: exit code {done.returncode}\n{done.stdout[-4000:]}")

    def _in_python(self, block: Block, text: str) -> None:
        if self._python is None:
            with self._log.open("w") as log:
                self._python = subprocess.Popen(
                    [sys.executable, "-W", "error", "-c", PYTHON],
                    cwd=self.folder,
                    env=self._environment,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=log,
                    text=True,
                )
        assert self._python.stdin is not None
        assert self._python.stdout is not None
        self._python.stdin.write(json.dumps([block.place, text]) + "\n")
        self._python.stdin.flush()
        if self._python.stdout.readline() != "done\n":
            raise PageFailed(f"{block.place}: {self._log.read_text()[-4000:]}")


def _environment(folder: Path) -> dict[str, str]:
    """The environment of a reader: the project's commands on the path, and no settings of whoever runs the tests."""
    own = {key: value for key, value in os.environ.items() if not key.startswith("AQUASURF_")}
    commands = folder.parent / f"{folder.name}-bin"
    commands.mkdir()
    small = Path(__file__).with_name("small_aquasurf.py")
    _write_command(commands / "aquasurf", f'{shlex.quote(sys.executable)} {shlex.quote(str(small))} "$@"')
    _write_command(commands / "python", f'{shlex.quote(sys.executable)} "$@"')
    path = os.pathsep.join([str(commands), os.environ["PATH"]])
    return own | {"PATH": path, "PYTHONPATH": str(ROOT), "MPLBACKEND": "agg", "HOME": os.environ.get("HOME", "/")}


def _write_command(path: Path, line: str) -> None:
    path.write_text(f"#!/bin/sh\nexec {line}\n")
    path.chmod(0o755)
