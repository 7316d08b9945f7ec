"""The command `aquasurf`, as pages are tried with it: the real one, but for the numbers of `ALWAYS` and `IF_GIVEN`.

Where an option is given twice the last one holds, so small numbers are put at the end.
"""

from __future__ import annotations

import sys
from pathlib import Path

from aquasurf_ray.cli.main import main

SPACE = 'name: few\nnames: ["erf(x)", "mul(x,erf(x))", "cosh(x)", "gelu(x)"]\n'
ALWAYS = {
    "search": {"--candidates": "6", "--evaluations": "3", "--workers": "1", "--seeds": "2", "--rate-seeds": "1"},
    "evaluate": {"--workers": "1"},
    "confirm": {"--top": "1", "--seeds": "2", "--rate-seeds": "1", "--workers": "1"},
    "transfer": {"--top": "1", "--seeds": "2", "--workers": "1"},
    "benchmark build": {"--space": "few.yaml", "--seeds": "1", "--workers": "1"},
    "benchmark replay": {"--runs": "1", "--evaluations": "2"},
}
IF_GIVEN = {"--evaluations": "4", "--confirm": "1", "--seeds": "2", "--top": "1"}


def small(words: list[str]) -> list[str]:
    """
    >>> small(["search", "digits", "--candidates", "200"])[4:]
    ['--candidates', '6', '--evaluations', '3', '--workers', '1', '--seeds', '2', '--rate-seeds', '1']
    >>> small(["resume", "digits", "--evaluations", "80"])
    ['resume', 'digits', '--evaluations', '80', '--evaluations', '4']
    """
    name = next((name for name in ALWAYS if words[: len(name.split())] == name.split()), "")
    options = {option: value for option, value in IF_GIVEN.items() if option in words} | ALWAYS.get(name, {})
    return [*words, *(word for pair in options.items() for word in pair)]


if __name__ == "__main__":
    Path("few.yaml").write_text(SPACE)
    sys.path[0] = ""  # like the installed command and `python -m`: modules of the working folder can be imported
    sys.exit(main(small(sys.argv[1:])))
