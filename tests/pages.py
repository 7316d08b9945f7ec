"""Reads the pages of the documentation, and runs the command that they name."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent


def blocks(page, language):
    """The fenced blocks of a language, in order."""
    fenced = re.findall(r"^```(\w*)\n(.*?)^```$", (ROOT / page).read_text(), re.MULTILINE | re.DOTALL)
    return [text for found, text in fenced if found == language]


def commands(page):
    """Every `aquasurf ...` line of a page, as its words; what it is for may follow after two spaces."""
    lines = "".join(blocks(page, "")).splitlines()
    return [shlex.split(line.partition("  ")[0]) for line in lines if line.startswith("aquasurf ")]


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
